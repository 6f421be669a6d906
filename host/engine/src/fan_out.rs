//! Hands each change to the sinks that want it.
//!
//! A change is opened in a sink's ledger here, before anything can settle it: whatever becomes of
//! it later, the slot is not confirmed past it until the sink settles it.

use std::sync::Arc;

use model::change::{Change, Operation};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{error, warn};

use crate::budget::Charge;
use crate::follow::Follow;
use crate::ledger::Ledger;
use crate::spec::SinkSpec;
use crate::status::{SinkStatus, SlotStatus};

/// A batch as it was read, shared by the sinks that want something of it.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) changes: Vec<Change>,
    pub(crate) read_at: Instant,
    pub(crate) _charge: Charge,
}

/// What one sink wants of a batch: indexes of its changes, rising. Never empty.
#[derive(Debug)]
pub(crate) struct Portion {
    pub(crate) handed: Arc<Handed>,
    pub(crate) picks: Vec<usize>,
}

/// One sink as the slot sees it.
pub(crate) struct Outlet {
    pub(crate) spec: Arc<SinkSpec>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) status: Arc<SinkStatus>,
    pub(crate) intake: mpsc::Sender<Portion>,
    follow: Follow,
    /// It has stopped, and a change that it missed is open.
    missed: bool,
}

impl Outlet {
    pub(crate) fn new(
        spec: Arc<SinkSpec>,
        ledger: Arc<Ledger>,
        status: Arc<SinkStatus>,
        intake: mpsc::Sender<Portion>,
    ) -> Self {
        Self { spec, ledger, status, intake, follow: Follow::default(), missed: false }
    }

    /// Whether a portion can be handed over without waiting. A sink that stopped takes none and
    /// holds nobody back: what it owes stays open in its ledger.
    pub(crate) fn has_room(&self) -> bool {
        self.intake.is_closed() || self.intake.capacity() > 0
    }

    fn wants(&mut self, change: &Change) -> bool {
        self.spec.selection.wants(change.operation) && self.wants_table(change)
    }

    /// Whether it wants the change's table, by the version in force at its place.
    fn wants_table(&mut self, change: &Change) -> bool {
        self.follow.wants(&change.relation, &self.spec, &self.status)
    }

    /// Opens what the sink wants of the batch in its ledger and hands it over.
    fn hand_over(&mut self, handed: &Arc<Handed>) {
        let mut picks = Vec::new();
        for (index, change) in handed.changes.iter().enumerate() {
            if self.wants(change) {
                picks.push(index);
            }
        }
        {
            let mut acks = self.ledger.lock();
            // A sink that stopped owes everything from the first change on that it missed: that
            // one is enough to hold the slot back, and a restart brings all of it. Those before may
            // yet be settled: their requests may still be under way.
            if self.missed {
                return;
            }
            picks.retain(|index| {
                handed.changes.get(*index).is_some_and(|change| acks.admit(change.position))
            });
        }
        if picks.is_empty() {
            return;
        }
        self.missed = self.intake.is_closed();
        self.status.received.add(picks.len() as u64);
        let portion = Portion { handed: Arc::clone(handed), picks };
        match self.intake.try_send(portion) {
            Ok(()) => {}
            // Stopped: shown in its status; its changes stay open.
            Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                // The slot asks `has_room` before it reads, so this is a fault of ours. Its changes
                // stay open, so nothing is lost: a restart brings them again.
                error!(sink.name = %self.spec.name, "a full intake was handed more");
            }
        }
    }
}

/// Hands a batch to all the sinks that want something of it.
pub(crate) fn fan_out(slot: &SlotStatus, outlets: &mut [Outlet], handed: Handed) {
    slot.ingested.add(handed.changes.len() as u64);
    let truncates = handed.changes.iter().filter(|change| change.operation == Operation::Truncate);
    for change in truncates {
        tell_skipped(slot, outlets, change);
    }
    let handed = Arc::new(handed);
    for outlet in outlets {
        outlet.hand_over(&handed);
    }
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

/// Whether the next batch can be handed over without waiting.
pub(crate) fn all_have_room(outlets: &[Outlet]) -> bool {
    outlets.iter().all(Outlet::has_room)
}
