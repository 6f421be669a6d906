//! Hands each change to the sinks that want it.
//!
//! A change is opened in a sink's ledger here, or goes to the change log for it, before anything can
//! settle it: whatever becomes of it later, the slot is not confirmed past it until the sink settles
//! it or the log has it.

use std::sync::Arc;

use model::change::{Change, Operation};
use model::position::Position;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::budget::{Budget, Charge, Share, ShareCharge};
use crate::follow::Follow;
use crate::ledger::{Ledger, Raw};
use crate::spec::SinkSpec;
use crate::spool::backlog::{Backlog, Sent};
use crate::status::{SinkStatus, SlotStatus};

/// A batch as it was read, shared by the sinks that want something of it.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) changes: Vec<Change>,
    pub(crate) read_at: Instant,
    /// The memory that it takes.
    pub(crate) bytes: usize,
    pub(crate) _charge: Charge,
}

/// A batch in the hands of one sink.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) handed: Arc<Handed>,
    _share: ShareCharge,
}

impl Held {
    /// So many changes of it.
    pub(crate) fn new(handed: &Arc<Handed>, changes: usize, share: &Arc<Share>) -> Arc<Self> {
        let bytes = handed.bytes / handed.changes.len().max(1) * changes;
        Arc::new(Self { handed: Arc::clone(handed), _share: share.charge(bytes) })
    }
}

/// What one sink wants of a batch: indexes of its changes, rising. Never empty.
#[derive(Debug)]
pub(crate) struct Portion {
    pub(crate) held: Arc<Held>,
    pub(crate) picks: Vec<usize>,
}

/// What one sink is handed through.
pub(crate) struct Hands {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) intake: mpsc::Sender<Portion>,
    pub(crate) share: Arc<Share>,
    pub(crate) backlog: Arc<Backlog>,
}

/// Where an engine keeps its own state in a database, ours and the predecessor's: no sink gets its
/// rows, whatever it chose and whatever is published.
const OWN_SCHEMAS: [&str; 2] = ["sequin", "_sequin"];

/// How a sink gets its changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// As they are read.
    Direct {
        /// Since when there is no room for them.
        full_since: Option<Instant>,
    },
    /// Through the change log.
    Logged,
}

/// One sink as the slot sees it.
pub(crate) struct Outlet {
    pub(crate) spec: Arc<SinkSpec>,
    pub(crate) status: Arc<SinkStatus>,
    pub(crate) hands: Hands,
    way: Way,
    /// The highest position that it was handed, or that went to the log for it.
    seen: Position,
    /// What went to the log for it in this run.
    sent: Arc<Sent>,
    follow: Follow,
}

impl Outlet {
    /// Of a sink that begins with what the log may have for it.
    pub(crate) fn new(spec: Arc<SinkSpec>, status: Arc<SinkStatus>, hands: Hands) -> Self {
        let (way, seen) = (Way::Logged, Position::ZERO);
        let (sent, follow) = (Arc::default(), Follow::default());
        Self { spec, status, hands, way, seen, sent, follow }
    }

    /// Another version of the sink takes its place.
    pub(crate) fn replace(&mut self, spec: Arc<SinkSpec>, status: Arc<SinkStatus>, hands: Hands) {
        let (seen, sent) = (self.seen, Arc::clone(&self.sent));
        *self = Self { seen, sent, ..Self::new(spec, status, hands) };
    }

    /// The highest position that it was handed, or that went to the log for it.
    pub(crate) fn seen(&self) -> Position {
        self.seen
    }

    /// Whether changes can be handed over as they are read.
    fn has_room(&self) -> bool {
        let Hands { intake, share, .. } = &self.hands;
        intake.capacity() > 0 && share.has_room()
    }

    /// Whether it waits for work.
    fn is_hungry(&self) -> bool {
        let Hands { intake, share, .. } = &self.hands;
        self.way != Way::Logged && intake.capacity() == intake.max_capacity() && share.is_hungry()
    }

    /// Whether what is read next would go to the log for it.
    pub(crate) fn is_logged(&self) -> bool {
        self.way == Way::Logged
    }

    /// Whether all that was read for it is settled.
    pub(crate) fn owes_nothing(&mut self) -> bool {
        if self.way == Way::Logged {
            self.catch_up();
        }
        let Hands { ledger, backlog, .. } = &self.hands;
        ledger.lock().is_empty() && backlog.is_read(&self.sent)
    }

    /// From here on its changes go through the log, until it has caught up.
    fn fall_behind(&mut self, why: &str) {
        if self.way != Way::Logged {
            self.way = Way::Logged;
            self.hands.backlog.set_direct(false);
            self.status.spooling.set(1);
            info!(sink.name = %self.spec.name, why, "the sink is behind: its changes go to the change log");
        }
    }

    /// Whether it may be handed changes as they are read: nothing of it is left in the log.
    fn catch_up(&mut self) {
        let Hands { intake, share, backlog, .. } = &self.hands;
        let has_caught_up = !intake.is_closed()
            && intake.capacity() > intake.max_capacity() / 2
            && share.used() < share.bytes_max() / 2 + 1
            && backlog.is_read(&self.sent);
        if has_caught_up {
            self.way = Way::Direct { full_since: None };
            backlog.set_direct(true);
            if self.status.spooling.get() > 0 {
                self.status.spooling.set(0);
                info!(sink.name = %self.spec.name, "the sink has caught up with the stream");
            }
        }
    }

    fn wants(&mut self, change: &Change) -> bool {
        !OWN_SCHEMAS.contains(&&*change.relation.schema)
            && self.spec.selection.wants(change.operation)
            && self.wants_table(change)
    }

    /// Whether it wants the change's table, by the version in force at its place.
    fn wants_table(&mut self, change: &Change) -> bool {
        self.follow.wants(&change.relation, &self.spec, &self.status)
    }

    /// Hands over what the sink wants of the batch; what is to go to the log for it is returned.
    fn hand_over(&mut self, handed: &Arc<Handed>) -> Vec<usize> {
        let mut picks = Vec::new();
        for (index, change) in handed.changes.iter().enumerate() {
            // What it had before a reconnect is no news.
            if change.position > self.seen && self.wants(change) {
                picks.push(index);
            }
        }
        if let Some(last) = handed.changes.last() {
            self.seen = self.seen.max(last.position);
        }
        self.hand_over_picks(handed, picks)
    }

    /// Whether rows of a backfill can be handed over behind all that was read for it.
    pub(crate) fn takes_reads(&mut self) -> bool {
        if self.way == Way::Logged {
            self.catch_up();
        }
        self.way != Way::Logged && self.has_room() && !self.hands.intake.is_closed()
    }

    /// As [`Outlet::hand_over`], of these alone.
    pub(crate) fn hand_over_picks(
        &mut self,
        handed: &Arc<Handed>,
        mut picks: Vec<usize>,
    ) -> Vec<usize> {
        let position = |index: &usize| handed.changes.get(*index).map(|change| change.position);
        {
            let acks = self.hands.ledger.lock();
            picks.retain(|index| position(index).is_some_and(|at| !acks.was_settled(at)));
        }
        if picks.is_empty() {
            return picks;
        }
        self.status.received.add(picks.len() as u64);
        if self.hands.intake.is_closed() {
            self.fall_behind("it does not run");
        } else if self.hands.intake.capacity() == 0 {
            // There was room when the batch was read, of which this is not the first piece.
            self.fall_behind("it has no room");
        }
        if self.way == Way::Logged {
            self.catch_up();
        }
        if self.way == Way::Logged {
            self.sent.send();
            return picks;
        }
        let held = Held::new(handed, picks.len(), &self.hands.share);
        {
            let mut acks = self.hands.ledger.lock();
            picks.retain(|index| {
                let raw = Raw::new(&held, *index);
                position(index).is_some_and(|position| acks.admit(position, raw))
            });
        }
        if picks.is_empty() {
            return picks;
        }
        match self.hands.intake.try_send(Portion { held, picks }) {
            Ok(()) => {}
            // It stopped this very moment. What it owes is open in its ledger.
            Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                // The slot asks for room before it reads, so this is a fault of ours. Its changes
                // stay open, so nothing is lost: they are logged in time, and a restart brings them.
                error!(sink.name = %self.spec.name, "a full intake was handed more");
            }
        }
        Vec::new()
    }
}

/// What is to go to the change log of a batch.
#[derive(Debug)]
pub(crate) struct ToLog {
    pub(crate) handed: Arc<Handed>,
    /// Pairs of a change's index and a sink's among `sinks`, rising.
    pub(crate) owed: Vec<(usize, usize)>,
    pub(crate) sinks: Vec<(Arc<str>, Arc<Sent>)>,
}

impl ToLog {
    fn new(handed: Arc<Handed>) -> Self {
        Self { handed, owed: Vec::new(), sinks: Vec::new() }
    }

    fn add(&mut self, outlet: &Outlet, picks: Vec<usize>) {
        if !picks.is_empty() {
            let owner = self.sinks.len();
            self.sinks.push((Arc::clone(&outlet.spec.name), Arc::clone(&outlet.sent)));
            self.owed.extend(picks.into_iter().map(|pick| (pick, owner)));
        }
    }

    fn finish(mut self) -> Option<Self> {
        self.owed.sort_unstable();
        (!self.owed.is_empty()).then_some(self)
    }

    /// The first position in it.
    pub(crate) fn first(&self) -> Option<Position> {
        let (index, _) = self.owed.first()?;
        self.handed.changes.get(*index).map(|change| change.position)
    }
}

/// Hands a batch to all the sinks that want something of it. What the change log has to take is
/// returned.
#[must_use]
pub(crate) fn fan_out(slot: &SlotStatus, outlets: &mut [Outlet], handed: Handed) -> Option<ToLog> {
    slot.ingested.add(handed.changes.len() as u64);
    let truncates = handed.changes.iter().filter(|change| change.operation == Operation::Truncate);
    for change in truncates {
        tell_skipped(slot, outlets, change);
    }
    let mut to_log = ToLog::new(Arc::new(handed));
    for outlet in outlets {
        let picks = outlet.hand_over(&Arc::clone(&to_log.handed));
        to_log.add(outlet, picks);
    }
    to_log.finish()
}

/// A sink that has a table's rows and is not told that all of them are gone keeps them: that is its
/// configuration's choice, but never a silent one.
fn tell_skipped(slot: &SlotStatus, outlets: &mut [Outlet], truncate: &Change) {
    let table = format_args!("{}.{}", truncate.relation.schema, truncate.relation.table);
    for outlet in outlets {
        if !outlet.spec.selection.wants(Operation::Truncate) && outlet.wants_table(truncate) {
            slot.truncates_skipped.add(1);
            warn!(
                slot.name = %slot.name,
                sink.name = %outlet.spec.name,
                %table,
                commit_lsn = %truncate.position.commit_lsn,
                "a truncate is not delivered: the sink's `actions` do not name it"
            );
        }
    }
}

/// How long a sink without room may hold up the reading while a neighbour has nothing to do.
const NEIGHBOUR_PATIENCE: std::time::Duration = std::time::Duration::from_millis(20);
/// How long it may while nobody suffers but the source, which keeps its log.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

/// Whether all sinks can be handed the next batch. A sink without room is waited for a little, so
/// that a short stop costs no detour; then its changes go to the log. If somebody is waited for,
/// until when.
pub(crate) fn make_room(
    outlets: &mut [Outlet],
    budget: &Budget,
    now: Instant,
) -> Result<(), Instant> {
    let neighbours = outlets.iter().filter(|outlet| outlet.is_hungry()).count();
    let mut until: Option<Instant> = None;
    for outlet in outlets {
        let has_room = budget.has_room() && outlet.has_room();
        let is_closed = outlet.hands.intake.is_closed();
        let Way::Direct { full_since } = &mut outlet.way else { continue };
        if has_room && !is_closed {
            *full_since = None;
            continue;
        }
        let patience = if neighbours > 0 { NEIGHBOUR_PATIENCE } else { PATIENCE };
        let deadline = *full_since.get_or_insert(now) + patience;
        if is_closed || deadline <= now {
            outlet.fall_behind(if is_closed { "it does not run" } else { "it has no room" });
        } else {
            until = Some(until.map_or(deadline, |until| until.min(deadline)));
        }
    }
    until.map_or(Ok(()), Err)
}
