//! One sink's [`Acks`], shared by the tasks that open and settle positions, with the changes that are
//! open.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::acks::Settled;
use model::change::Change;
use model::position::Position;
use model::store::{Address, Part};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::fan_out::Held;

/// A change that was handed over, as it was read. It keeps the batch in memory that it came with.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    held: Arc<Held>,
    index: usize,
}

impl Raw {
    pub(crate) fn new(held: &Arc<Held>, index: usize) -> Self {
        Self { held: Arc::clone(held), index }
    }

    pub(crate) fn change(&self) -> Option<&Change> {
        self.held.handed.changes.get(self.index)
    }

    /// When it was read.
    pub(crate) fn read_at(&self) -> Instant {
        self.held.handed.read_at
    }
}

/// Where an open change stands in the change log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) part: Part,
    pub(crate) address: Address,
}

pub(crate) type Acks = model::acks::Acks<Raw, Place>;

/// Shared ledger of one sink. Locks are held for a few operations and never across an await.
#[derive(Debug)]
pub(crate) struct Ledger {
    acks: Mutex<Acks>,
    /// Tells the slot that a confirmation may have become possible.
    changed: Arc<Notify>,
}

impl Ledger {
    pub(crate) fn new(restored: Settled, changed: Arc<Notify>) -> Self {
        Self { acks: Mutex::new(Acks::restore(restored)), changed }
    }

    /// Work on the ledger without waking anybody.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Acks> {
        // The ledger's operations do not panic half-way, so a poisoned lock still guards good data.
        self.acks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Settles messages and tells the slot.
    pub(crate) fn settle(&self, positions: impl IntoIterator<Item = Position>) {
        let mut any = false;
        {
            let mut acks = self.lock();
            for position in positions {
                acks.settle(position);
                any = true;
            }
        }
        if any {
            self.changed.notify_one();
        }
    }

    /// These stand in the change log by now, on the disk.
    pub(crate) fn logged(&self, positions: impl IntoIterator<Item = Position>, place: Place) {
        {
            let mut acks = self.lock();
            for position in positions {
                acks.log(position, place);
            }
        }
        self.changed.notify_one();
    }

    /// These stand in another place of the change log by now.
    pub(crate) fn relocated(&self, positions: impl IntoIterator<Item = Position>, place: Place) {
        let mut acks = self.lock();
        for position in positions {
            acks.relocate(position, place);
        }
    }

    /// The first open changes that were read before `before` and are in no log, at most so many
    /// bytes of them, about.
    pub(crate) fn unlogged(&self, before: Instant, bytes_max: usize) -> Vec<(Position, Raw)> {
        let acks = self.lock();
        let mut bytes = 0;
        let mut found = Vec::new();
        for (position, raw) in acks.raws() {
            if bytes >= bytes_max {
                break;
            }
            if raw.read_at() <= before {
                let row = raw.change().and_then(Change::row);
                bytes += row.map_or(0, model::page::Row::bytes) + size_of::<Change>();
                found.push((position, raw.clone()));
            }
        }
        found
    }

    /// The change at a position, if it is open and still in memory.
    pub(crate) fn change(&self, position: Position) -> Option<Change> {
        self.lock().raw(position)?.change().cloned()
    }

    /// The first place in this part of the log of something that is open.
    pub(crate) fn first_place(&self, part: Part) -> Option<Address> {
        let acks = self.lock();
        let places = acks.places_used().filter(|place| place.part == part);
        places.map(|place| place.address).min()
    }
}
