//! One sink's [`Acks`], shared by the tasks that open and settle positions.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::acks::{Acks, Settled};
use model::position::Position;
use tokio::sync::Notify;

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
}
