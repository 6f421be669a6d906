//! What may be confirmed to the server: first it is on record, then it is sent.
//!
//! So what a slot has confirmed is never more than what is recorded, whenever the process is
//! killed, unless somebody else has confirmed it. Invariant: `get` never passes what the store
//! holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::lsn::Lsn;
use tokio::sync::Notify;

/// The confirmed position of one stream on its way from the slot to the store and back.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// Settled by every sink.
    wanted: AtomicU64,
    /// Of that, what is on record.
    recorded: AtomicU64,
    /// On record, of this process or an earlier one.
    highest: AtomicU64,
    /// Tells the slot that there is something to confirm.
    changed: Arc<Notify>,
}

impl Recorded {
    /// Goes on from what an earlier process recorded.
    pub(crate) fn new(earlier: Lsn, changed: Arc<Notify>) -> Self {
        Self {
            wanted: AtomicU64::new(0),
            recorded: AtomicU64::new(0),
            highest: AtomicU64::new(earlier.0),
            changed,
        }
    }

    /// Everything below is settled, and is to be recorded. The slot's side.
    pub(crate) fn want(&self, position: Lsn) {
        self.wanted.fetch_max(position.0, Ordering::Relaxed);
    }

    /// Up to where the slot may be confirmed.
    pub(crate) fn get(&self) -> Lsn {
        Lsn(self.recorded.load(Ordering::Acquire))
    }

    /// The highest position that was ever recorded: nobody but us has confirmed a position up to
    /// it.
    pub(crate) fn highest(&self) -> Lsn {
        Lsn(self.highest.load(Ordering::Acquire))
    }

    /// What is to be recorded. The recorder's side, as what follows.
    pub(crate) fn wanted(&self) -> Lsn {
        Lsn(self.wanted.load(Ordering::Relaxed))
    }

    /// It is on record.
    pub(crate) fn set(&self, position: Lsn) {
        self.highest.fetch_max(position.0, Ordering::Release);
        if self.recorded.fetch_max(position.0, Ordering::Release) < position.0 {
            self.changed.notify_one();
        }
    }
}
