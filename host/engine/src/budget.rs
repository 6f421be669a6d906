//! The one byte budget.
//!
//! Everything that stays in memory on its way to a sink holds a [`Charge`]. Charging never waits
//! and never fails: a batch that is already read must go somewhere, so the sum may pass the limit
//! by what was under way. What waits for room is the reading of more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// A limit on the bytes that are held at once.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    bytes_max: usize,
    room: Notify,
}

impl Budget {
    /// A budget of `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), bytes_max, room: Notify::new() })
    }

    /// Charges `bytes` until the charge is dropped.
    #[must_use]
    pub fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        Charge { budget: Arc::clone(self), bytes }
    }

    /// Whether more may be read.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.used() < self.bytes_max
    }

    /// The bytes held now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The limit in bytes.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Wakes who waits in [`Budget::room`]: something was released, or a queue has a free place.
    pub(crate) fn wake(&self) {
        self.room.notify_waiters();
    }

    /// Resolves at the next release. Create it before looking at [`Budget::has_room`], and enable
    /// it, so that a release in between is not missed.
    pub(crate) fn room(&self) -> tokio::sync::futures::Notified<'_> {
        self.room.notified()
    }
}

/// Bytes held against a [`Budget`].
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        let before = self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        if before >= self.budget.bytes_max {
            self.budget.wake();
        }
    }
}

/// Wakes who waits for room when it is dropped: a queue is gone, and nobody waits for it any more.
#[derive(Debug)]
pub(crate) struct WakeOnDrop(pub(crate) Arc<Budget>);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_released_charge_wakes_the_reader() {
        let budget = Budget::new(10);
        let charge = budget.charge(10);
        assert!(!budget.has_room());
        let mut room = std::pin::pin!(budget.room());
        room.as_mut().enable();
        drop(charge);
        room.await;
        assert!(budget.has_room());
    }
}
