//! Requests that failed as a whole: is it the destination, or what was sent?
//!
//! What was sent is sent again in halves until what is refused is alone. Nobody knows of which of
//! several messages a refusal speaks, so it is an attempt of none of them. A destination that is away
//! is an attempt of nobody's either; until that is known, a message alone is given up only if others
//! got through meanwhile.

use model::sink::{Failure, Retry, SinkError};
use tokio::time::Instant;
use tracing::{info, warn};

use super::breaker::{Heard, code};
use super::{DELIVERY, Dead, Deliver, State, TOO_LARGE};
use crate::lane::Ticket;

impl Deliver {
    pub(super) fn fail_as_a_whole(
        &self,
        state: &mut State,
        tickets: Vec<Ticket>,
        began: Instant,
        error: SinkError,
    ) {
        let count = tickets.len() as u64;
        self.status.failed.add(count);
        self.note(state, false, Some(error.message.clone()), count);
        for ticket in &tickets {
            state.beside.failed(*ticket, &error.message);
        }
        if error.failure.is_outage() {
            self.out_of_reach(state, tickets, began, &error);
        } else {
            self.answered(state);
            self.refuse(state, tickets, error);
        }
    }

    /// The destination said something about what it was sent.
    pub(super) fn answered(&self, state: &mut State) {
        if !state.breaker.answered() {
            return;
        }
        state.probed = None;
        self.status.breaker.close();
        for failure in [Failure::Unreachable, Failure::Misconfigured] {
            self.status.warnings.clear_code(code(failure));
        }
        info!(sink.name = %self.spec.name, "the destination answers again");
    }

    fn out_of_reach(
        &self,
        state: &mut State,
        tickets: Vec<Ticket>,
        began: Instant,
        error: &SinkError,
    ) {
        let now = Instant::now();
        let heard = state.breaker.failed(&tickets, error, now, state.dice.f64());
        match heard {
            Heard::Doubt => return self.doubt(state, tickets, began, error, now),
            Heard::Opened => self.opened(state, error),
            Heard::Away => self.status.breaker.failed(&error.message),
        }
        for ticket in tickets {
            state.lanes.put_back(ticket);
        }
    }

    fn opened(&self, state: &mut State, error: &SinkError) {
        state.lanes.absolve(state.up);
        if let Some(suspect) = state.breaker.suspect() {
            state.lanes.part(suspect, 1);
        }
        let (name, code) = (&self.spec.name, code(error.failure));
        let problem = match error.failure {
            Failure::Misconfigured => format!(
                "the destination takes nothing: {error}. Mend it there or in the configuration; \
                 until then one message at a time is tried, and no attempt is counted"
            ),
            _ => format!(
                "the destination is away: {error}. One message at a time is tried until it is \
                 back, and no attempt is counted"
            ),
        };
        warn!(sink.name = %name, code, problem, "requests are held back");
        self.status.breaker.open(&error.message);
        self.status.warnings.raise(code, "destination", problem);
    }

    /// A failure that may be an outage. A receiver may as well fail on one message of these.
    fn doubt(
        &self,
        state: &mut State,
        tickets: Vec<Ticket>,
        began: Instant,
        error: &SinkError,
        now: Instant,
    ) {
        if let [ticket] = *tickets {
            // Others got through since the attempt before, or during this one: the destination is
            // there.
            let since = state.lanes.doubted(ticket).unwrap_or(began);
            let is_up = state.up.is_some_and(|up| up >= since);
            match self.gives_up(state, ticket, error.retry).filter(|_| is_up) {
                Some(reason) => self.give_up(state, ticket, reason, error),
                None => {
                    let due = self.due(state, ticket, error.retry, now);
                    // It may be its own matter: it takes no other with it.
                    state.lanes.part(ticket, 1);
                    state.lanes.fail_in_doubt(ticket, state.up, now, due);
                }
            }
            return;
        }
        let half = tickets.len().div_ceil(2);
        let Some(first) = tickets.first() else { return };
        // The same for all, so that the halves go together.
        let due = self.due(state, *first, error.retry, now);
        for ticket in tickets {
            state.lanes.part(ticket, half);
            state.lanes.wait_in_doubt(ticket, now, due);
        }
    }

    /// What was sent was refused.
    fn refuse(&self, state: &mut State, tickets: Vec<Ticket>, error: SinkError) {
        let now = Instant::now();
        let retry = match error.failure {
            // As often as it is sent, it is as large.
            Failure::TooLarge => Retry::Never,
            _ => error.retry,
        };
        if let [ticket] = *tickets {
            match self.gives_up(state, ticket, retry) {
                Some(reason) => self.give_up(state, ticket, reason, &error),
                None => {
                    let due = self.due(state, ticket, retry, now);
                    state.lanes.part(ticket, 1);
                    state.lanes.fail(ticket, due);
                }
            }
            return;
        }
        let half = tickets.len().div_ceil(2);
        let Some(first) = tickets.first() else { return };
        // The same for all, so that the halves go together.
        let due = self.due(state, *first, retry, now);
        for ticket in tickets {
            state.lanes.part(ticket, half);
            match retry {
                Retry::Never => state.lanes.put_back(ticket),
                Retry::Later { .. } => state.lanes.wait(ticket, due),
            }
        }
    }

    fn give_up(&self, state: &mut State, ticket: Ticket, why: &str, error: &SinkError) {
        let dead = match error.failure {
            Failure::TooLarge => {
                let error = format!("the message is too large, {error}");
                Dead { ticket, reason: TOO_LARGE, error, attempts: 1 }
            }
            _ => Dead { ticket, reason: DELIVERY, error: format!("{why}: {error}"), attempts: 1 },
        };
        self.bury(state, vec![dead], Vec::new());
    }
}
