//! What operators ask of the delivery: the messages that wait, and letters that come again.

use std::collections::HashMap;

use model::position::Position;
use model::sink::SinkKind;
use model::store::{LetterId, LetterState};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{DELIVERY, Dead, Deliver, Done, State};
use crate::desk::{Again, Command, DeskError, MessageId, Outcome, Waiting};
use crate::lane::Ticket;

/// Of an error that is kept for who asks.
const ERROR_MAX: usize = 2_048;

/// Attempts of a replay, where the sink has no limit: somebody waits for the answer, and the rest of
/// the group behind it.
const ATTEMPTS: u32 = 3;

/// What the delivery keeps for operators.
#[derive(Default)]
pub(super) struct Beside {
    /// Messages of letters; empty once it was told what became of one.
    replays: HashMap<Ticket, Option<oneshot::Sender<Outcome>>>,
    /// What the destination said last of messages that are tried again.
    errors: HashMap<Ticket, Box<str>>,
    /// How often letters were marked as superseded.
    marks: u64,
}

impl Beside {
    /// The most attempts of a message, if there is a limit.
    pub(super) fn attempts_max(&self, ticket: Ticket, usual: Option<u32>) -> Option<u32> {
        if self.replays.contains_key(&ticket) { usual.or(Some(ATTEMPTS)) } else { usual }
    }

    pub(super) fn failed(&mut self, ticket: Ticket, error: &str) {
        let error = error.get(..error.floor_char_boundary(ERROR_MAX)).unwrap_or_default();
        self.errors.insert(ticket, error.into());
    }

    /// A message leaves. Whether it was one of the stream, whose position is settled.
    pub(super) fn leaves(&mut self, ticket: Ticket) -> bool {
        self.errors.remove(&ticket);
        match self.replays.remove(&ticket) {
            None => true,
            Some(outcome) => {
                // Whoever asked may be gone.
                outcome.map(|outcome| outcome.send(Outcome::Delivered));
                false
            }
        }
    }

    /// A message is put aside. True if it was a letter already: whoever replays it is told.
    pub(super) fn is_letter(&mut self, ticket: Ticket, error: &str, attempts: u32) -> bool {
        let Some(outcome) = self.replays.get_mut(&ticket) else { return false };
        let failed = Outcome::Failed { error: error.to_owned(), attempts };
        outcome.take().map(|outcome| outcome.send(failed));
        true
    }
}

impl Deliver {
    pub(super) fn obey(&self, state: &mut State, command: Command) {
        match command {
            Command::Waiting { max, answer } => {
                answer.send(waiting(state, max)).ok();
            }
            Command::Retry { which, answer } => {
                let now = Instant::now();
                let tickets = state.lanes.failed().into_iter();
                let is_meant =
                    |ticket: &Ticket| which.is_none_or(|which| id(state, *ticket) == Some(which));
                let tickets: Vec<Ticket> = tickets.filter(is_meant).collect();
                let hurried = tickets.into_iter().filter(|it| state.lanes.hurry(*it, now)).count();
                answer.send(hurried).ok();
            }
            Command::Discard { which, reason, answer } => {
                answer.send(self.discard(state, which, &reason)).ok();
            }
            Command::Replay(again) => self.check(state, again),
        }
    }

    fn discard(&self, state: &mut State, which: MessageId, reason: &str) -> Result<(), DeskError> {
        let ticket = state
            .lanes
            .find(|message| message.position == which.position && message.output == which.output);
        let ticket = ticket.ok_or(DeskError::NoMessage)?;
        if !state.lanes.take_out(ticket) {
            return Err(DeskError::InFlight);
        }
        let last = state.beside.errors.get(&ticket).map(|error| format!("; last error: {error}"));
        let error = format!("discarded by hand: {reason}{}", last.unwrap_or_default());
        info!(sink.name = %self.spec.name, lsn = %which.position.commit_lsn, ordinal = which.position.ordinal, reason, "a message is discarded by hand");
        let dead = Dead { ticket, reason: DELIVERY, error, attempts: 0 };
        self.bury(state, vec![dead], Vec::new());
        Ok(())
    }

    /// A state must not go back: a letter goes on only if nothing newer of its row is there, or on
    /// its way. A log gets it in any case.
    fn check(&self, state: &mut State, again: Again) {
        if self.spec.sink.kind() == SinkKind::Log {
            return admit(state, again);
        }
        let (letters, letter, marks) =
            (std::sync::Arc::clone(&self.burial.letters), again.letter, state.beside.marks);
        state.under_way.push(Box::pin(async move {
            let found = letters.get(letter).await;
            if let Err(error) = &found {
                warn!(letter, %error, "a letter cannot be read: it is not replayed");
            }
            let is_open = found.ok().flatten().map(|stored| stored.state == LetterState::Open);
            Done::Checked { again, is_open, marks }
        }));
    }

    /// The store was asked about a letter. Letters that were marked meanwhile may be among its rows:
    /// then it is asked again.
    pub(super) fn checked(
        &self,
        state: &mut State,
        again: Again,
        is_open: Option<bool>,
        marks: u64,
    ) {
        // Gone, or not to be known now: its fate is open, as if the sink had stopped.
        let Some(is_open) = is_open else { return };
        if marks != state.beside.marks {
            return self.check(state, again);
        }
        let from = if again.is_foreign { Position::ZERO } else { again.message.position };
        if is_open && !state.lanes.has_newer(&again.message, from) {
            return admit(state, again);
        }
        again.outcome.send(Outcome::Superseded).ok();
    }

    /// What was delivered and has no letters; the rest is settled once its letters are marked.
    pub(super) fn supersede(&self, state: &mut State, delivered: Vec<Ticket>) -> Vec<Ticket> {
        let lettered = |ticket: &Ticket| {
            let message = state.lanes.get(*ticket).map(|(message, _)| &**message);
            !self.burial.lettered(message.into_iter()).is_empty()
        };
        let (later, now): (Vec<_>, Vec<_>) = delivered.into_iter().partition(lettered);
        if !later.is_empty() {
            let messages = later.iter().filter_map(|ticket| state.lanes.get(*ticket));
            let rows = self.burial.lettered(messages.map(|(message, _)| &**message));
            let burial = self.burial.clone();
            state.under_way.push(Box::pin(async move {
                let marked = burial.supersede(rows).await;
                Done::Buried { tickets: later, marked, bytes: 0 }
            }));
        }
        now
    }

    pub(super) fn marked(&self, state: &mut State, letters: &[LetterId]) {
        state.beside.marks += letters.len() as u64;
    }
}

fn admit(state: &mut State, again: Again) {
    let Again { message, charges, outcome, .. } = again;
    let now = Instant::now();
    let ticket = state.lanes.admit(message, Some(charges), now, now);
    state.beside.replays.insert(ticket, Some(outcome));
}

fn id(state: &State, ticket: Ticket) -> Option<MessageId> {
    let (message, _) = state.lanes.get(ticket)?;
    Some(MessageId { position: message.position, output: message.output })
}

fn waiting(state: &State, max: usize) -> Vec<Waiting> {
    let now = Instant::now();
    let told = |ticket: Ticket| {
        let (message, attempts) = state.lanes.get(ticket)?;
        Some(Waiting {
            id: id(state, ticket)?,
            message: std::sync::Arc::clone(message),
            attempts,
            last_error: state.beside.errors.get(&ticket).map(ToString::to_string),
            next_retry: state.lanes.due_at(ticket).map(|due| due.saturating_duration_since(now)),
            in_flight: state.lanes.is_in_flight(ticket),
            replay: state.beside.replays.contains_key(&ticket),
        })
    };
    state.lanes.failed().into_iter().take(max).filter_map(told).collect()
}
