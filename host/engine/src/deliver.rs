//! The delivery of one sink: takes batches from the lanes, sends them, judges the answers.
//!
//! Requests are futures of this one task, so the sink's own failure, slowness or panic ends here.

mod breaker;
mod desk;
mod outage;
mod rate;
mod spill;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use model::batch::{Batch, BatchPolicy};
use model::groups::{GroupKey, Groups};
use model::message::Message;
use model::position::Position;
use model::sent::Requests;
use model::sink::{Retry, SinkError, Verdict};
use model::store::{Letter, LetterId, Scrap, StoreError};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::bury::Burial;
use crate::desk::{Again, Command};
use crate::intake::Admitted;
use crate::lane::{Lanes, Taken, Ticket};
use crate::ledger::Ledger;
use crate::spec::SinkSpec;
use crate::status::SinkStatus;
use crate::trace::Happened;
use breaker::Breaker;
use desk::Beside;
use rate::Rate;
use spill::{Back, Spill, Written};

pub use rate::RateLimit;
pub(crate) use spill::Room;

/// No delivery of a batch lasts longer, whatever the sink does: the longest time-out that any sink's
/// options allow is an hour, and a batch is two requests after each other at the most. Only where
/// consumers fetch messages there is no such time: a message is under way until it is fetched.
const REQUEST_DEADLINE: Duration = Duration::from_secs(7_300);

/// With more on its way to the store nothing is sent: a letter takes the memory of its message twice and
/// more, and where all fail, they fail faster than a disk takes them.
const BURYING_BYTES_MAX: usize = 2 << 20;

/// Why a message is put aside that its destination did not take.
const DELIVERY: &str = "delivery";

/// Why a message is put aside that no request to its destination can hold.
const TOO_LARGE: &str = "too_large";

/// Everything the delivery of one sink works with.
pub(crate) struct Deliver {
    pub(crate) spec: Arc<SinkSpec>,
    pub(crate) status: Arc<SinkStatus>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) burial: Burial,
    /// Where messages go that wait for long.
    pub(crate) room: Room,
    pub(crate) admitted: mpsc::Receiver<Admitted>,
    /// What operators ask.
    pub(crate) commands: mpsc::Receiver<Command>,
    /// Collects and sends nothing while it is set.
    pub(crate) paused: watch::Receiver<bool>,
    /// How long requests under way may take after a stop.
    pub(crate) drain_deadline: Duration,
}

/// Something that was under way is done.
enum Done {
    /// A request.
    Sent {
        tickets: Vec<Ticket>,
        began: Instant,
        verdicts: Result<Vec<Verdict>, SinkError>,
        /// Of the first message that is traced.
        noted: Option<(Position, Arc<Requests>)>,
    },
    /// Messages that were put aside.
    Buried { tickets: Vec<Ticket>, marked: Vec<LetterId>, bytes: usize },
    /// The store was asked about a letter that is to be sent again.
    Checked { again: Again, is_open: Option<bool>, marks: u64 },
    /// Messages that wait were written, or not.
    Spilled { written: Vec<Written>, scrap: Result<Arc<dyn Scrap>, StoreError> },
    /// They were read back, or not.
    ReadBack(Result<Vec<Back>, String>),
}

struct State {
    lanes: Lanes,
    policy: BatchPolicy,
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
    requests: usize,
    /// Of letters that are not stored yet: input and message of each.
    burying_bytes: usize,
    dice: fastrand::Rng,
    failing: bool,
    breaker: Breaker,
    /// When the destination took a message the last time.
    up: Option<Instant>,
    /// The last message that was tried alone while it was away.
    probed: Option<Ticket>,
    rate: Option<Rate>,
    beside: Beside,
    spill: Spill,
}

/// A message that is put aside, and why.
struct Dead {
    ticket: Ticket,
    reason: &'static str,
    error: String,
    /// This one, and none if it was not sent.
    attempts: u32,
}

impl Deliver {
    /// Works until cancelled, then waits for what is under way.
    ///
    /// Priorities: 1 stop; 2 what is done, so that lanes move; 3 new messages; 4 pause; 5 operators; 6 time.
    pub(crate) async fn run(mut self, cancelled: CancellationToken) {
        let policy = self.spec.sink.batch_policy();
        let mut state = State {
            lanes: Lanes::new(&policy),
            policy,
            under_way: FuturesUnordered::new(),
            requests: 0,
            burying_bytes: 0,
            dice: fastrand::Rng::new(),
            failing: false,
            breaker: Breaker::default(),
            up: None,
            probed: None,
            rate: self.spec.rate_limit.map(Rate::new),
            beside: Beside::default(),
            spill: Spill::default(),
        };
        let mut tripped = self.status.trip.watch();
        self.status.breaker.close();
        tokio::select! {
            biased;
            () = cancelled.cancelled() => return,
            () = self.burial.learn() => {}
        }
        loop {
            if self.is_broken(&mut state, &cancelled) {
                break;
            }
            let gate = self.send_what_is_due(&mut state);
            let spill = self.spill(&mut state);
            self.status.pending.set(state.lanes.len() as u64);
            self.status.pending_bytes.set(state.lanes.bytes() as u64);
            self.show_times(&state, gate);
            let can_send = self.can_send(&state) && gate.is_none();
            let deadline = state.lanes.next_deadline(&state.policy, can_send);
            let deadline =
                [deadline, gate, spill, self.status.trip.until()].into_iter().flatten().min();
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
                Ok(()) = tripped.changed() => {}
                // 5
                Some(command) = self.commands.recv() => self.obey(&mut state, command),
                // 6
                () = at(deadline), if deadline.is_some() => self.status.trip.cool_down(),
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
        // While the destination is away, one request at a time says whether it is back.
        let requests_max = if state.breaker.is_open() { 1 } else { state.policy.requests_max };
        !*self.paused.borrow()
            && self.status.trip.get().is_none()
            && state.requests < requests_max
            && state.burying_bytes < BURYING_BYTES_MAX
    }

    /// Sends what may go now. Returns when more may, if only time keeps it back.
    fn send_what_is_due(&self, state: &mut State) -> Option<Instant> {
        let now = Instant::now();
        state.lanes.wake(now);
        while self.can_send(state) && state.lanes.has_ready() {
            state.policy = self.spec.sink.batch_policy();
            let probe = state.breaker.next_probe();
            let suspect = state.breaker.suspect();
            let probed = probe.and_then(|_| state.lanes.next_one(suspect.or(state.probed)));
            // If only one message ever failed, another one says at once whether it is the message.
            let is_other = suspect.is_some() && probed != suspect;
            if probe.is_some_and(|next| next > now) && !is_other {
                return probe;
            }
            if let Some(rate) = &mut state.rate {
                let messages_max = state.policy.messages_max.min(rate.messages_max());
                state.policy.messages_max = messages_max;
                // What may be all goes at once, so that a batch is not divided by the clock.
                let wanted = if probed.is_some() { 1 } else { messages_max.min(state.lanes.len()) };
                let until = rate.wait(wanted, now);
                if until.is_some() {
                    return until;
                }
            }
            let taken = match probed {
                Some(ticket) => state.lanes.take_one(ticket),
                None => state.lanes.take(&state.policy, now)?,
            };
            self.send(state, taken);
        }
        None
    }

    /// When something happens next that somebody may wait for.
    fn show_times(&self, state: &State, gate: Option<Instant>) {
        let probe = state.breaker.next_probe();
        self.status.next_retry.set(probe.or_else(|| state.lanes.next_retry()));
        self.status.rate_limited.set(gate.filter(|_| probe.is_none()));
        self.status.breaker.next(probe, state.requests > 0);
    }

    fn send(&self, state: &mut State, taken: Taken) {
        let Taken { tickets, messages } = taken;
        if let ([ticket], [message]) = (&*tickets, &*messages)
            && let Some(bytes_max) = state.policy.message_bytes_max
            && message.payload.len() > bytes_max
        {
            let bytes = message.payload.len();
            let error = format!("{bytes} bytes, and this sink takes {bytes_max} at the most");
            let dead = Dead { ticket: *ticket, reason: TOO_LARGE, error, attempts: 0 };
            return self.bury(state, vec![dead], Vec::new());
        }
        let Some(mut batch) = Batch::new(messages) else { return };
        // For who traces the sink: told with the first message that is shown.
        let trace = &self.status.trace;
        let shown = batch.messages().iter().map(|it| it.position).find(|at| trace.shows(*at));
        let noted = shown.map(|at| (at, Arc::<Requests>::default()));
        if let Some((_, requests)) = &noted {
            batch = batch.noted(Arc::clone(requests));
        }
        if let Some(rate) = &mut state.rate {
            rate.sent(tickets.len(), Instant::now());
        }
        if state.breaker.is_open() {
            state.probed = tickets.last().copied();
        }
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
                sent.unwrap_or_else(|_| Err(SinkError::unreachable("the request never ended")))
            };
            Done::Sent { tickets, began, verdicts, noted }
        }));
    }

    fn finish(&self, state: &mut State, done: Done) {
        match done {
            Done::Sent { tickets, began, verdicts, noted } => {
                state.requests -= 1;
                if let Some((position, requests)) = noted {
                    for request in requests.take() {
                        let told = || Happened::Request(Box::new(request));
                        self.status.trace.tell(position, told);
                    }
                }
                let verdicts = verdicts.and_then(|verdicts| match verdicts {
                    verdicts if verdicts.len() == tickets.len() => Ok(verdicts),
                    _ => Err(SinkError::unreachable("the sink did not judge every message")),
                });
                let is_through =
                    |verdict: &Verdict| matches!(verdict, Verdict::Delivered | Verdict::Skipped);
                let is_delivered = verdicts.as_ref().is_ok_and(|all| all.iter().all(is_through));
                let Self { status, .. } = self;
                let requests =
                    if is_delivered { &status.requests_delivered } else { &status.requests_failed };
                requests.observe(began.elapsed());
                match verdicts {
                    Ok(verdicts) => {
                        self.show(state, &tickets, &verdicts, began.elapsed());
                        self.judge(state, tickets, verdicts);
                    }
                    Err(error) => {
                        let verdicts = refused(tickets.len(), &error);
                        self.show(state, &tickets, &verdicts, began.elapsed());
                        self.fail_as_a_whole(state, tickets, began, error);
                    }
                }
            }
            Done::Buried { tickets, marked, bytes } => {
                state.burying_bytes -= bytes;
                self.marked(state, &marked);
                self.settle(state, &tickets);
            }
            Done::Checked { again, is_open, marks } => self.checked(state, again, is_open, marks),
            Done::Spilled { written, scrap } => self.spilled(state, &written, scrap),
            Done::ReadBack(back) => self.came_back(state, back),
        }
    }

    /// For who traces the sink.
    fn show(&self, state: &State, tickets: &[Ticket], verdicts: &[Verdict], took: Duration) {
        if !self.status.trace.is_on() {
            return;
        }
        for (ticket, verdict) in tickets.iter().zip(verdicts) {
            let Some((message, _)) = state.lanes.get(*ticket) else { continue };
            let verdict = match verdict {
                Verdict::Delivered => "delivered".to_owned(),
                Verdict::Skipped => "nothing to do".to_owned(),
                Verdict::Untried => "not sent".to_owned(),
                Verdict::Rejected { error, .. } => error.clone(),
            };
            let (output, messages) = (message.output, tickets.len());
            let sent = || Happened::Sent { output, messages, took, verdict };
            self.status.trace.tell(message.position, sent);
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
        let mut dead: Vec<Dead> = Vec::new();
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
                        let error = format!("{reason}: {error}");
                        dead.push(Dead { ticket, reason: DELIVERY, error, attempts: 1 });
                    } else {
                        failed_groups.extend(keys());
                        state.beside.failed(ticket, &error);
                        later.push((ticket, retry));
                    }
                    last_error = Some(error);
                }
            }
        }
        self.status.failed.add(failures);
        self.status.delivered.add(passed);
        self.status.filtered.add(dropped);
        self.status.trip.passed(self.spec.letter_limit, passed + dropped);
        // A stream whose consumers took nothing says nothing.
        if passed + dropped + failures > 0 {
            self.answered(state);
        }
        if passed + dropped > 0 {
            state.up = Some(now);
        }
        let delivered = self.supersede(state, delivered);
        self.settle(state, &delivered);
        self.settle(state, &skipped);
        // Now it shows which of the others are the first of their groups.
        for ticket in again {
            state.lanes.put_back(ticket);
        }
        for (ticket, retry) in later {
            let due = self.due(state, ticket, retry, now);
            state.lanes.fail(ticket, due);
        }
        self.note(state, passed + dropped > 0, last_error, failures);
        if !dead.is_empty() {
            self.bury(state, dead, behind_dead);
        }
    }

    /// Why there is no next attempt of a message, if there is none.
    fn gives_up(&self, state: &State, ticket: Ticket, retry: Retry) -> Option<&'static str> {
        let tried = state.lanes.get(ticket).map_or(0, |(_, attempts)| attempts) + 1;
        let attempts_max = state.beside.attempts_max(ticket, self.spec.attempts_max);
        match retry {
            Retry::Never => Some("refused for good"),
            Retry::Later { .. } if attempts_max.is_some_and(|max| tried >= max) => {
                Some("out of attempts")
            }
            Retry::Later { .. } => None,
        }
    }

    /// When the next attempt of a message is.
    fn due(&self, state: &mut State, ticket: Ticket, retry: Retry, now: Instant) -> Instant {
        let tried = state.lanes.get(ticket).map_or(0, |(_, attempts)| attempts) + 1;
        let delay = self.spec.backoff.delay(tried, state.dice.f64());
        // A destination may ask for more time, not for less.
        match retry {
            Retry::Later { after: Some(after) } => now + after.max(delay),
            Retry::Later { after: None } | Retry::Never => now + delay,
        }
    }

    /// Puts messages aside; then they are settled, and what got through behind them.
    fn bury(&self, state: &mut State, dead: Vec<Dead>, behind: Vec<Ticket>) {
        let mut letters: Vec<Letter> = Vec::new();
        for dead in &dead {
            let Some((message, failed)) = state.lanes.get(dead.ticket) else { continue };
            let attempts = failed + dead.attempts;
            if state.beside.is_letter(dead.ticket, &dead.error, attempts) {
                continue;
            }
            let change = self.ledger.change(message.position);
            let (change, error) = (change.as_ref(), dead.error.clone());
            let letter = self.burial.message_letter(message, change, dead.reason, error, attempts);
            letters.push(letter);
        }
        let through = behind.iter().filter_map(|ticket| state.lanes.get(*ticket));
        let through: Vec<Arc<Message>> = through.map(|(message, _)| Arc::clone(message)).collect();
        let tickets = dead.into_iter().map(|dead| dead.ticket).chain(behind).collect();
        let burial = self.burial.clone();
        let texts =
            |letter: &Letter| letter.input.len() + letter.message.as_ref().map_or(0, String::len);
        let bytes = letters.iter().map(texts).sum();
        state.burying_bytes += bytes;
        state.under_way.push(Box::pin(async move {
            burial.bury(letters).await;
            // Also of letters that were just buried.
            let rows = burial.lettered(through.iter().map(|message| &**message));
            let marked = burial.supersede(rows).await;
            Done::Buried { tickets, marked, bytes }
        }));
    }

    fn settle(&self, state: &mut State, tickets: &[Ticket]) {
        let mut positions = Vec::with_capacity(tickets.len());
        for ticket in tickets {
            if state.beside.leaves(*ticket) {
                positions.extend(state.lanes.get(*ticket).map(|(message, _)| message.position));
            }
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

/// Resolves at the deadline. Only awaited where there is one.
async fn at(deadline: Option<Instant>) {
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline).await;
    }
}
