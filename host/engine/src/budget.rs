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
    bytes_max: AtomicUsize,
    room: Notify,
    sharers: AtomicUsize,
}

impl Budget {
    /// A budget of `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Arc<Self> {
        let (used, sharers) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let bytes_max = AtomicUsize::new(bytes_max);
        Arc::new(Self { used, bytes_max, room: Notify::new(), sharers })
    }

    /// Charges `bytes` until the charge is dropped.
    #[must_use]
    pub fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        Charge { budget: Arc::clone(self), bytes }
    }

    /// One more sink that what may be held is shared with, until it is dropped.
    #[must_use]
    pub fn share(self: &Arc<Self>) -> Arc<Share> {
        self.sharers.fetch_add(1, Ordering::Relaxed);
        let (used, room) = (AtomicUsize::new(0), Notify::new());
        Arc::new(Share { budget: Arc::clone(self), used, room })
    }

    /// Whether more may be read.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.used() < self.bytes_max()
    }

    /// The bytes held now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The limit in bytes.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.bytes_max.load(Ordering::Relaxed)
    }

    /// Sets another limit. What is held stays: with less than that, nothing is read until enough of it
    /// is released.
    pub fn set_bytes_max(&self, bytes_max: usize) {
        let before = self.bytes_max.swap(bytes_max, Ordering::Relaxed);
        if before < bytes_max {
            self.wake();
        }
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

/// What one sink may hold of a [`Budget`]: as much as each of the others. A quarter is left for what
/// is on its way to them.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    used: AtomicUsize,
    room: Notify,
}

impl Share {
    /// Counts `bytes` as held by this sink until the charge is dropped. The budget is charged for
    /// them elsewhere.
    #[must_use]
    pub fn charge(self: &Arc<Self>, bytes: usize) -> ShareCharge {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        ShareCharge { share: Arc::clone(self), bytes }
    }

    /// The bytes that it holds.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The limit in bytes.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.budget.bytes_max() / 4 * 3 / self.budget.sharers.load(Ordering::Relaxed).max(1)
    }

    /// Whether it may hold more.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.used() < self.bytes_max()
    }

    /// Whether it holds so much that it should hold less.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        self.used() > self.bytes_max() / 2
    }

    /// Whether it has nearly nothing to do.
    #[must_use]
    pub fn is_hungry(&self) -> bool {
        self.used() < self.bytes_max() / 8
    }

    /// As [`Budget::room`].
    pub(crate) fn room(&self) -> tokio::sync::futures::Notified<'_> {
        self.room.notified()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.sharers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes held by one sink.
#[derive(Debug)]
pub struct ShareCharge {
    share: Arc<Share>,
    bytes: usize,
}

impl Drop for ShareCharge {
    fn drop(&mut self) {
        let share = &self.share;
        let before = share.used.fetch_sub(self.bytes, Ordering::Relaxed);
        let max = share.bytes_max();
        if before >= max && before.saturating_sub(self.bytes) < max {
            // Both who reads the log for it and the slot.
            share.room.notify_waiters();
            share.budget.wake();
        }
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
        if before >= self.budget.bytes_max() {
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

    #[test]
    fn sinks_share_three_quarters_alike() {
        let budget = Budget::new(800);
        let one = budget.share();
        assert_eq!(one.bytes_max(), 600);
        let other = budget.share();
        let held = [one.charge(200), one.charge(100)];
        assert!(!one.has_room() && other.has_room() && other.is_hungry());
        drop(other);
        assert!(one.has_room() && !one.is_hungry());
        drop(held);
        assert_eq!((one.used(), budget.used()), (0, 0));
    }

    #[tokio::test]
    async fn a_higher_limit_wakes_the_reader() {
        let budget = Budget::new(10);
        let charge = budget.charge(10);
        let mut room = std::pin::pin!(budget.room());
        room.as_mut().enable();
        budget.set_bytes_max(11);
        room.await;
        assert!(budget.has_room());
        budget.set_bytes_max(5);
        assert!(!budget.has_room());
        drop(charge);
    }

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
