//! The delivery of one sink: takes batches from the lanes, sends them, judges the answers.
//!
//! Requests are futures of this one task, so the sink's own failure, slowness or panic ends here.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use model::batch::{Batch, BatchPolicy};
use model::groups::{GroupKey, Groups};
use model::message::Message;
use model::sink::{Retry, SinkError, Verdict};
use model::store::Letter;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::bury::Burial;
use crate::intake::Admitted;
use crate::lane::{Lanes, Taken, Ticket};
use crate::ledger::Ledger;
use crate::spec::SinkSpec;
use crate::status::SinkStatus;

/// No delivery of a batch lasts longer, whatever the sink does: the longest time-out that any sink's
/// options allow is an hour, and a batch is two requests after each other at the most. Only where
/// consumers fetch messages there is no such time: a message is under way until it is fetched.
const REQUEST_DEADLINE: Duration = Duration::from_secs(7_300);

/// Everything the delivery of one sink works with.
pub(crate) struct Deliver {
    pub(crate) spec: Arc<SinkSpec>,
    pub(crate) status: Arc<SinkStatus>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) burial: Burial,
    pub(crate) admitted: mpsc::Receiver<Admitted>,
    /// Collects and sends nothing while it is set.
    pub(crate) paused: watch::Receiver<bool>,
    /// How long requests under way may take after a stop.
    pub(crate) drain_deadline: Duration,
}

/// Something that was under way is done.
enum Done {
    /// A request.
    Sent { tickets: Vec<Ticket>, began: Instant, verdicts: Result<Vec<Verdict>, SinkError> },
    /// Messages that were put aside.
    Buried { tickets: Vec<Ticket> },
}

struct State {
    lanes: Lanes,
    policy: BatchPolicy,
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
    requests: usize,
    dice: fastrand::Rng,
    failing: bool,
}

impl Deliver {
    /// Works until cancelled, then waits for what is under way.
    ///
    /// Priorities: 1 stop; 2 what is done, so that lanes move; 3 new messages; 4 pause; 5 time.
    pub(crate) async fn run(mut self, cancelled: CancellationToken) {
        let policy = self.spec.sink.batch_policy();
        let mut state = State {
            lanes: Lanes::new(&policy),
            policy,
            under_way: FuturesUnordered::new(),
            requests: 0,
            dice: fastrand::Rng::new(),
            failing: false,
        };
        loop {
            self.send_what_is_due(&mut state);
            self.status.pending.set(state.lanes.len() as u64);
            self.status.pending_bytes.set(state.lanes.bytes() as u64);
            self.status.next_retry.set(state.lanes.next_retry());
            let can_send = self.can_send(&state);
            let deadline = state.lanes.next_deadline(&state.policy, can_send);
            tokio::select! {
                biased;
                // 1
                () = cancelled.cancelled() => break,
                // 2
                Some(done) = state.under_way.next(), if !state.under_way.is_empty() => {
                    self.finish(&mut state, done);
                }
                // 3
                admitted = self.admitted.recv() => match admitted {
                    Some(admitted) => admit(&mut state.lanes, admitted),
                    // The intake is gone by a fault. What is here stays open and comes again after
                    // a restart.
                    None => break,
                },
                // 4
                Ok(()) = self.paused.changed() => {}
                // 5
                () = at(deadline), if deadline.is_some() => {}
            }
        }
        self.drain(state).await;
    }

    /// No new requests; those under way are awaited and settled, up to the deadline. The rest stays
    /// open and comes again after the restart. Consumers who fetch their messages are not awaited.
    async fn drain(&self, mut state: State) {
        if let Some(stream) = Arc::clone(&self.spec.sink).pull() {
            stream.stop();
        }
        let deadline = Instant::now() + self.drain_deadline;
        while !state.under_way.is_empty() {
            match tokio::time::timeout_at(deadline, state.under_way.next()).await {
                Ok(Some(done)) => self.finish(&mut state, done),
                Ok(None) => break,
                Err(_) => {
                    let requests = state.requests;
                    warn!(sink.name = %self.spec.name, requests, "stopped before requests ended");
                    break;
                }
            }
        }
    }

    fn can_send(&self, state: &State) -> bool {
        !*self.paused.borrow() && state.requests < state.policy.requests_max
    }

    fn send_what_is_due(&self, state: &mut State) {
        let now = Instant::now();
        state.lanes.wake(now);
        while self.can_send(state) {
            let Some(taken) = state.lanes.take(&state.policy, now) else { return };
            self.send(state, taken);
        }
    }

    fn send(&self, state: &mut State, taken: Taken) {
        let Taken { tickets, messages } = taken;
        let Some(batch) = Batch::new(messages) else { return };
        self.status.attempts.add(tickets.len() as u64);
        state.requests += 1;
        let began = Instant::now();
        if let Some(read_at) = state.lanes.read_at(&tickets) {
            self.status.internal.observe(began.saturating_duration_since(read_at));
        }
        let sink = Arc::clone(&self.spec.sink);
        let waits = Arc::clone(&sink).pull().is_some();
        state.under_way.push(Box::pin(async move {
            let delivery = sink.deliver(&batch);
            let verdicts = if waits {
                delivery.await
            } else {
                let sent = tokio::time::timeout(REQUEST_DEADLINE, delivery).await;
                sent.unwrap_or_else(|_| Err(SinkError::later("the request never ended")))
            };
            Done::Sent { tickets, began, verdicts }
        }));
    }

    fn finish(&self, state: &mut State, done: Done) {
        match done {
            Done::Sent { tickets, began, verdicts } => {
                state.requests -= 1;
                let verdicts = match verdicts {
                    Ok(verdicts) if verdicts.len() == tickets.len() => verdicts,
                    Ok(_) => {
                        let error = "the sink did not judge every message";
                        refused(tickets.len(), &SinkError::later(error))
                    }
                    Err(error) => refused(tickets.len(), &error),
                };
                let is_through =
                    |verdict: &Verdict| matches!(verdict, Verdict::Delivered | Verdict::Skipped);
                let is_delivered = verdicts.iter().all(is_through);
                let Self { status, .. } = self;
                let requests =
                    if is_delivered { &status.requests_delivered } else { &status.requests_failed };
                requests.observe(began.elapsed());
                self.judge(state, tickets, verdicts);
            }
            Done::Buried { tickets } => self.settle(state, &tickets),
        }
    }

    /// Settles what was delivered; keeps what failed at the head of its groups. Messages of a group
    /// behind a failed one are sent again too, even if they got through: order within the group.
    /// Behind one that is put aside they are settled with it, not before: a kill in between must
    /// not bring it alone.
    fn judge(&self, state: &mut State, tickets: Vec<Ticket>, verdicts: Vec<Verdict>) {
        let now = Instant::now();
        let (mut delivered, mut skipped) = (Vec::new(), Vec::new());
        let (mut again, mut later) = (Vec::new(), Vec::new());
        let mut dead: Vec<(Ticket, String)> = Vec::new();
        let mut behind_dead: Vec<Ticket> = Vec::new();
        let mut failed_groups: HashSet<GroupKey> = HashSet::new();
        let mut dead_groups: HashSet<GroupKey> = HashSet::new();
        let mut last_error: Option<String> = None;
        let (mut passed, mut dropped, mut failures) = (0_u64, 0_u64, 0_u64);
        for (ticket, verdict) in tickets.into_iter().zip(verdicts) {
            let groups = state.lanes.get(ticket).map(|(message, _)| message.groups);
            let keys = || groups.into_iter().flat_map(Groups::keys);
            match verdict {
                Verdict::Delivered | Verdict::Skipped
                    if keys().any(|key| failed_groups.contains(&key)) =>
                {
                    // What is behind it in its other groups is sent again behind it.
                    failed_groups.extend(keys());
                    again.push(ticket);
                }
                Verdict::Delivered | Verdict::Skipped => {
                    let is_delivered = verdict == Verdict::Delivered;
                    passed += u64::from(is_delivered);
                    dropped += u64::from(!is_delivered);
                    if keys().any(|key| dead_groups.contains(&key)) {
                        dead_groups.extend(keys());
                        behind_dead.push(ticket);
                    } else if is_delivered {
                        delivered.push(ticket);
                    } else {
                        skipped.push(ticket);
                    }
                }
                Verdict::Untried => {
                    failed_groups.extend(keys());
                    again.push(ticket);
                }
                Verdict::Rejected { retry, error } => {
                    failures += 1;
                    if let Some(reason) = self.gives_up(state, ticket, retry) {
                        dead_groups.extend(keys());
                        dead.push((ticket, format!("{reason}: {error}")));
                    } else {
                        failed_groups.extend(keys());
                        later.push((ticket, retry));
                    }
                    last_error = Some(error);
                }
            }
        }
        self.status.failed.add(failures);
        self.status.delivered.add(passed);
        self.status.filtered.add(dropped);
        self.settle(state, &delivered);
        self.settle(state, &skipped);
        // Now it shows which of the others are the first of their groups.
        for ticket in again {
            state.lanes.put_back(ticket);
        }
        for (ticket, retry) in later {
            self.wait(state, ticket, retry, now);
        }
        self.note(state, passed + dropped > 0, last_error, failures);
        if !dead.is_empty() {
            self.bury(state, dead, behind_dead);
        }
    }

    /// Why there is no next attempt of a message, if there is none.
    fn gives_up(&self, state: &State, ticket: Ticket, retry: Retry) -> Option<&'static str> {
        let tried = state.lanes.get(ticket).map_or(0, |(_, attempts)| attempts) + 1;
        match retry {
            Retry::Never => Some("refused for good"),
            Retry::Later { .. } if self.spec.attempts_max.is_some_and(|max| tried >= max) => {
                Some("out of attempts")
            }
            Retry::Later { .. } => None,
        }
    }

    /// Arranges the next attempt of a message.
    fn wait(&self, state: &mut State, ticket: Ticket, retry: Retry, now: Instant) {
        let tried = state.lanes.get(ticket).map_or(0, |(_, attempts)| attempts) + 1;
        let delay = self.spec.backoff.delay(tried, state.dice.f64());
        // A destination may ask for more time, not for less.
        let delay = match retry {
            Retry::Later { after: Some(after) } => after.max(delay),
            Retry::Later { after: None } | Retry::Never => delay,
        };
        state.lanes.fail(ticket, now + delay);
    }

    /// Puts messages aside; then they are settled, and what got through behind them.
    fn bury(&self, state: &mut State, dead: Vec<(Ticket, String)>, behind: Vec<Ticket>) {
        let letters: Vec<Letter> = dead
            .iter()
            .filter_map(|(ticket, error)| {
                let (message, attempts) = state.lanes.get(*ticket)?;
                Some(self.letter(message, attempts + 1, error.clone()))
            })
            .collect();
        let tickets = dead.into_iter().map(|(ticket, _)| ticket).chain(behind).collect();
        let burial = self.burial.clone();
        state.under_way.push(Box::pin(async move {
            burial.bury(letters).await;
            Done::Buried { tickets }
        }));
    }

    fn letter(&self, message: &Message, attempts: u32, error: String) -> Letter {
        Letter {
            origin: self.burial.origin.to_string(),
            sink: self.spec.name.to_string(),
            position: message.position,
            output: message.output,
            input: input(message),
            reason: "delivery".to_owned(),
            error,
            plugin: None,
            attempts,
        }
    }

    fn settle(&self, state: &mut State, tickets: &[Ticket]) {
        let mut positions = Vec::with_capacity(tickets.len());
        for ticket in tickets {
            positions.extend(state.lanes.get(*ticket).map(|(message, _)| message.position));
            state.lanes.settle(*ticket);
        }
        self.ledger.settle(positions);
    }

    /// Says once that the sink fails and once that it works again.
    fn note(&self, state: &mut State, any_delivered: bool, error: Option<String>, failures: u64) {
        match error {
            Some(error) => {
                if !std::mem::replace(&mut state.failing, true) {
                    warn!(sink.name = %self.spec.name, error, messages = failures, "delivery failed");
                } else {
                    debug!(sink.name = %self.spec.name, error, messages = failures, "delivery failed");
                }
                self.status.last_error.set(error);
            }
            None if any_delivered => {
                if std::mem::replace(&mut state.failing, false) {
                    info!(sink.name = %self.spec.name, "delivery works again");
                }
                self.status.last_error.set(None);
            }
            None => {}
        }
    }
}

fn admit(lanes: &mut Lanes, admitted: Admitted) {
    let now = Instant::now();
    let Admitted { read_at, messages } = admitted;
    for (message, charges) in messages {
        lanes.admit(message, Some(charges), read_at, now);
    }
}

/// The same verdict for every message of a request that failed as a whole.
fn refused(messages: usize, error: &SinkError) -> Vec<Verdict> {
    let verdict = Verdict::Rejected { retry: error.retry, error: error.message.clone() };
    vec![verdict; messages]
}

/// What was to be sent; of a removal, which document it was about.
fn input(message: &Message) -> String {
    match &message.key {
        Some(key) if message.payload.is_empty() => {
            let mut text = String::from("{\"id\":");
            model::json::string(&mut text, key);
            text.push('}');
            text
        }
        _ => message.payload.to_string(),
    }
}

/// Resolves at the deadline. Only awaited where there is one.
async fn at(deadline: Option<Instant>) {
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline).await;
    }
}
