//! The task of one slot: opens the stream, hands changes over, confirms what is settled.
//!
//! It never waits for a sink, a plugin or a store. When the budget or a sink's queue is full it
//! stops reading; the source keeps the connection alive by itself.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::backoff::Backoff;
use model::change::Change;
use model::lsn::Lsn;
use model::position::Position;
use model::source::{Connect, Event, Missing, Source, SourceError};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::backfill::{self, Registry};
use crate::budget::Budget;
use crate::confirm::Confirm;
use crate::crew::Crew;
use crate::fan_out::{Handed, Outlet, fan_out, make_room};
use crate::owner::{self, Owner};
use crate::recorded::Recorded;
use crate::run::Stores;
use crate::spool::{PIECES_MAX, Spool};
use crate::status::{Fault, SlotStatus};
use crate::supervise::{Supervisor, TaskKind};

/// Between attempts to open the stream: quick at first (a restarting server is back in seconds),
/// then often enough that an operator's fix is noticed soon.
const RECONNECT: Backoff =
    Backoff { first: Duration::from_millis(250), cap: Duration::from_secs(15) };

/// Everything the slot's loop works with.
pub(crate) struct Slot {
    pub(crate) status: Arc<SlotStatus>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) connect: Arc<dyn Connect>,
    pub(crate) crew: Crew,
    pub(crate) spool: Arc<Spool>,
    pub(crate) settled: Arc<Notify>,
    pub(crate) confirm: Confirm,
    pub(crate) recorded: Arc<Recorded>,
    pub(crate) backfills: Arc<Registry>,
    /// See [`crate::run::Settings`].
    pub(crate) clock_us: fn() -> i64,
    /// Whether the slot is ours.
    pub(crate) owner: Owner,
    pub(crate) stores: Stores,
    pub(crate) supervisor: Supervisor,
    /// The highest position that was handed over, or passed by.
    pub(crate) read: Position,
}

/// Why a slot is not read any more.
pub(crate) enum End {
    /// It was cancelled; the open stream, if there is one, is for the last confirmation.
    Stopped(Option<Box<dyn Source>>),
    /// The server was replaced, promoted or restored: what is known of positions is void.
    OtherServer(Box<dyn Source>),
}

/// Opens the stream, trying until it is open. None if cancelled.
pub(crate) async fn open(
    connect: &dyn Connect,
    missing: Missing,
    status: &SlotStatus,
    cancelled: &CancellationToken,
) -> Option<Box<dyn Source>> {
    let mut dice = fastrand::Rng::new();
    let mut attempts = 0;
    loop {
        let connected = tokio::select! {
            biased;
            () = cancelled.cancelled() => return None,
            connected = connect.connect(missing) => connected,
        };
        let error = match connected {
            Ok(source) => {
                let (slot, origin) = (&status.name, source.origin());
                info!(slot.name = %slot, origin, server_position = source.server_position().map(display), "streaming");
                status.held.set(source.held());
                status.connected.store(true, Ordering::Relaxed);
                status.connects.add(1);
                status.problem.set(None);
                status.fault.set(None);
                return Some(source);
            }
            Err(error) => error,
        };
        attempts += 1;
        tell(status, &error, attempts == 1);
        pause(RECONNECT.delay(attempts, dice.f64()), cancelled).await?;
    }
}

/// Waits. None if cancelled.
async fn pause(delay: Duration, cancelled: &CancellationToken) -> Option<()> {
    let deadline = Instant::now() + delay;
    tokio::select! {
        biased;
        () = cancelled.cancelled() => None,
        () = tokio::time::sleep_until(deadline) => Some(()),
    }
}

/// The slot is not where we left it, and no confirmation of ours has moved it there: code and
/// message.
pub(crate) fn moved(slot: &str, at: Lsn, recorded: Lsn) -> (&'static str, String) {
    let message = format!(
        "slot {slot} stands at {at}, beyond {recorded}, the last position confirmed with this data \
         directory: the changes of the {} bytes of log between are lost to the sinks. The slot was \
         dropped and created again, somebody else reads it, or the data directory is an older copy",
        at.0.saturating_sub(recorded.0)
    );
    ("slot_moved", message)
}

/// Logs why there is no stream: once as long as the reason stays the same.
pub(crate) fn tell(status: &SlotStatus, error: &SourceError, first: bool) {
    let mut text = error.to_string();
    let confirmed = Lsn(status.confirmed.get());
    if matches!(error, SourceError::Definite { code: "slot_missing", .. }) && confirmed > Lsn::ZERO
    {
        text.push_str(&format!(
            "; the last position confirmed with this data directory: {confirmed}"
        ));
    }
    if first || status.problem.get().as_deref() != Some(text.as_str()) {
        match error {
            SourceError::Transient(reason) => {
                warn!(slot.name = %status.name, reason, "no stream; trying again");
            }
            SourceError::Definite { code, message, help } => {
                error!(slot.name = %status.name, code, message, help, %confirmed, "no stream; somebody must act");
            }
        }
    }
    status.connected.store(false, Ordering::Relaxed);
    status.held.set(None);
    status.fault.set(Some(match error {
        SourceError::Transient(reason) => Fault::unreached(reason.clone()),
        SourceError::Definite { code, help, .. } => {
            Fault { code, message: text.clone(), help: help.clone() }
        }
    }));
    status.problem.set(text);
}

/// Resolves at this time. Only awaited where there is one.
async fn until(time: Option<Instant>) {
    if let Some(time) = time {
        tokio::time::sleep_until(time).await;
    }
}

impl Slot {
    /// Streams until cancelled, over as many connections as it takes.
    pub(crate) async fn run(
        &mut self,
        mut source: Box<dyn Source>,
        cancelled: &CancellationToken,
    ) -> End {
        let mut dice = fastrand::Rng::new();
        let mut short_lived = 0;
        loop {
            let opened = Instant::now();
            let origin = source.origin().to_owned();
            match self.stream(source.as_mut(), cancelled).await {
                Ok(()) => return End::Stopped(Some(source)),
                Err(error) => {
                    tell(&self.status, &error, true);
                    if owner::is_final(&error) {
                        drop(source);
                        self.meanwhile(cancelled.cancelled()).await;
                        return End::Stopped(None);
                    }
                }
            }
            drop(source);
            // One break is mended at once. A stream that breaks again and again as soon as it is
            // open, such as at a row that the server cannot send, must not keep both sides busy.
            let is_short = opened.elapsed() < RECONNECT.cap;
            short_lived = if is_short { short_lived + 1 } else { 0 };
            if short_lived > 1 {
                let delay = RECONNECT.delay(short_lived - 1, dice.f64());
                if self.meanwhile(pause(delay, cancelled)).await.is_none() {
                    return End::Stopped(None);
                }
            }
            // The slot was there: if it is not any more, changes are lost.
            let (connect, status) = (Arc::clone(&self.connect), Arc::clone(&self.status));
            let reopened = open(connect.as_ref(), Missing::Refuse, &status, cancelled);
            source = match self.meanwhile(reopened).await {
                Some(source) => source,
                None => return End::Stopped(None),
            };
            // A server that stands before what it has sent already was set back: its positions
            // begin to mean something else, as those of another server do.
            let is_set_back = source.server_position().is_some_and(|at| at < self.offered());
            if source.origin() != origin || is_set_back {
                warn!(
                    slot.name = %self.status.name,
                    before = origin,
                    now = source.origin(),
                    position = source.server_position().map(display),
                    "the server is not the one it was; starting over with it"
                );
                return End::OtherServer(source);
            }
            let (at, highest) = (source.slot_position(), self.recorded.highest());
            let (code, message) = moved(&self.status.name, at, highest);
            if at <= highest {
                continue;
            }
            match self.owner.unless_accepted(code, message) {
                // What is recorded begins anew, as at a start.
                Ok(()) => return End::OtherServer(source),
                Err(error) => tell(&self.status, &error, true),
            }
            drop(source);
            // The sinks go on with what they have: it is not in the slot any more.
            self.meanwhile(cancelled.cancelled()).await;
            return End::Stopped(None);
        }
    }

    /// Sinks come and go while something is waited for that needs no stream.
    async fn meanwhile<T>(&mut self, other: impl Future<Output = T>) -> T {
        let mut other = std::pin::pin!(other);
        loop {
            tokio::select! {
                biased;
                done = &mut other => return done,
                event = self.crew.event() => self.crew.take(event, self.read),
            }
        }
    }

    /// The highest commit that was handed over: to a sink that is here, or to one that went.
    fn offered(&self) -> Lsn {
        let seen = self.crew.outlets.iter().map(Outlet::seen);
        seen.max().unwrap_or_default().max(self.read).commit_lsn
    }

    /// One connection. Priorities: 1 stop; 2 settlements, so that the server can forget; 3 sinks that
    /// come and go; 4 the next event, if there is room for it; 5 room, or the end of the patience with
    /// sinks that have none.
    async fn stream(
        &mut self,
        source: &mut dyn Source,
        cancelled: &CancellationToken,
    ) -> Result<(), SourceError> {
        self.confirm_settled(source);
        source.claim(self.owner.claim().clone());
        let budget = Arc::clone(&self.budget);
        let settled = Arc::clone(&self.settled);
        loop {
            // Armed before the question, so that no release falls in between.
            let mut room = std::pin::pin!(budget.room());
            room.as_mut().enable();
            let room_for_all = make_room(&mut self.crew.outlets, &budget, Instant::now());
            let can_read = room_for_all.is_ok() && self.can_read();
            self.status.paused.set(u64::from(!can_read));
            let patience = room_for_all.err();
            tokio::select! {
                biased;
                // 1
                () = cancelled.cancelled() => return Ok(()),
                // 2
                () = settled.notified() => self.confirm_settled(source),
                // 3
                event = self.crew.event() => self.crew.take(event, self.read),
                // 4
                event = source.next(), if can_read => {
                    let event = event?;
                    self.judge(&event)?;
                    self.take(event);
                    self.confirm_settled(source);
                }
                // 5
                () = room, if !can_read => {}
                () = until(patience), if patience.is_some() => {}
            }
        }
    }

    fn can_read(&self) -> bool {
        // What goes to the log for all of them is held no longer than that takes. A sink may fall behind
        // at any moment, so there has to be room for what is read also while none is.
        let all_are_logged = self.crew.outlets.iter().all(Outlet::is_logged);
        (all_are_logged || self.budget.has_room()) && self.spool.has_room()
    }

    /// Whether the slot is still ours.
    fn judge(&mut self, event: &Event) -> Result<(), SourceError> {
        let Event::Changes(batch) = event else { return Ok(()) };
        if let Some(until) = self.owner.judge(&batch.claims)? {
            let (owners, epoch) = (Arc::clone(&self.stores.owners), self.stores.epoch);
            let name = Arc::clone(&self.status.name);
            self.supervisor.spawn(TaskKind::Check, "owner", async move {
                // If it is not noted, more than what came before is accepted, once.
                if let Err(error) = owners.accepted_until(epoch, &name, until).await {
                    warn!(slot.name = %name, %error, "what was accepted is not noted as done");
                }
            });
        }
        Ok(())
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Changes(batch) => {
                let last = batch.changes.last().map(|change| change.position);
                // A transaction that has begun counts as read to its end: a sink that is new begins
                // with a whole one.
                let whole = last.map(|last| Position::new(last.commit_lsn, u64::MAX));
                self.read = self.read.max(whole.unwrap_or_default());
                if let Some(last) = batch.changes.last() {
                    // The server's clock may be ahead of ours.
                    let age = (self.clock_us)().saturating_sub(last.transaction.committed_at_us);
                    self.status.ingestion_us.set(u64::try_from(age).unwrap_or(0));
                }
                let row_bytes = batch.bytes / batch.changes.len().max(1);
                let registry = Arc::clone(&self.backfills);
                let (mut rest, mut taken) = (batch.changes, 0);
                let awaited = batch.marks.iter().filter(|mark| registry.awaits(&mark.text));
                // Of more than can be cut at, the others are written again.
                for mark in awaited.take(PIECES_MAX) {
                    let before = mark.before.saturating_sub(taken).min(rest.len());
                    let behind = rest.split_off(before);
                    taken += before;
                    self.hand_over(std::mem::replace(&mut rest, behind), row_bytes);
                    let now_us = (self.clock_us)();
                    backfill::arrive(&registry, mark, &mut self.crew.outlets, now_us);
                }
                self.hand_over(rest, row_bytes);
                for commit in batch.commits {
                    self.confirm.commit(commit);
                }
            }
            Event::Idle(position) => {
                // What is committed right at it is still to come.
                let below = Lsn(position.0.saturating_sub(1));
                self.read = self.read.max(Position::new(below, u64::MAX));
                self.confirm.idle(position);
            }
        }
    }

    /// Hands changes over that follow what was handed over before.
    fn hand_over(&mut self, changes: Vec<Change>, row_bytes: usize) {
        if changes.is_empty() {
            return;
        }
        self.backfills.see(&changes);
        let bytes = row_bytes * changes.len();
        let (charge, read_at) = (self.budget.charge(bytes), Instant::now());
        let handed = Handed { changes, read_at, bytes, _charge: charge };
        let to_log = fan_out(&self.status, &mut self.crew.outlets, handed);
        if to_log.is_some_and(|to_log| !self.spool.take(to_log)) {
            // There was room when it was read. Nothing is lost: it is not confirmed.
            error!(slot.name = %self.status.name, "the change log was handed too much");
        }
    }

    /// Asks for the record of the end of the prefix that every sink has settled.
    pub(crate) fn want_settled(&mut self) {
        for outlet in &mut self.crew.outlets {
            let owes_nothing = outlet.owes_nothing();
            outlet.status.caught_up.set(u64::from(owes_nothing));
        }
        let first_open = self.first_open();
        self.recorded.want(self.confirm.advance(first_open));
        self.backfills.wake();
    }

    /// Tells the source the end of the prefix that every sink has settled, as far as it is on
    /// record.
    pub(crate) fn confirm_settled(&mut self, source: &mut dyn Source) {
        self.want_settled();
        let confirmed = self.recorded.get();
        if confirmed > Lsn::ZERO {
            self.status.confirmed.set(confirmed.0);
            // Also when it did not move: a new connection has not been told yet.
            source.confirm(confirmed);
        }
    }

    fn first_open(&self) -> Option<Position> {
        let outlets = self.crew.outlets.iter();
        let open = outlets.filter_map(|outlet| outlet.hands.ledger.lock().first_open()).min();
        [open, self.spool.first_unsynced()].into_iter().flatten().min()
    }
}
