//! What a server was last seen to keep for a slot, shared between who asks it and who shows it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One look at a slot from outside of its stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Bytes of log that the server keeps for the slot.
    pub held: u64,
    /// Bytes of log behind the confirmed position: what the sinks have still to settle, and what is
    /// not for them.
    pub behind: u64,
    /// How long ago the log ended where the confirmed position is now. None until that is known.
    pub lag: Option<Duration>,
    /// The server's `wal_status`: `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// Bytes that may still be written until the server may give the slot up (`safe_wal_size`). None
    /// where it has no limit.
    pub safe: Option<u64>,
    /// Bytes of log written in a second, as observed over the last minutes.
    pub written_per_second: Option<u64>,
    /// The oldest transaction that has written: the server keeps its log whatever is confirmed.
    pub oldest: Option<Oldest>,
    /// Whether the server is a standby, on which nothing can be written.
    pub is_standby: bool,
    /// Published tables whose old rows come without all their columns, by name.
    pub tables_without_old_rows: Arc<[String]>,
}

/// An open transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oldest {
    /// Whose it is.
    pub who: String,
    /// Since when it is open.
    pub age: Duration,
}

impl Seen {
    /// How long it takes until the server may give the slot up, if the log grows as it did and the
    /// slot stays where it is.
    #[must_use]
    pub fn forecast(&self) -> Option<Duration> {
        let (safe, rate) = (self.safe?, self.written_per_second?);
        // Ten years and more is never.
        let seconds = safe.checked_div(rate)?;
        (seconds < 315_360_000).then(|| Duration::from_secs(seconds))
    }
}

/// What was last seen, as clones share it.
#[derive(Clone, Debug, Default)]
pub struct Held(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    seen: Mutex<Option<Seen>>,
    heard: Mutex<Option<Instant>>,
    /// Whether heartbeats are written where the server takes them.
    beats: AtomicBool,
}

impl Held {
    /// The server has said so.
    pub fn set(&self, seen: Seen) {
        *self.0.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
    }

    /// None if the server has not been asked yet.
    #[must_use]
    pub fn seen(&self) -> Option<Seen> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Bytes of log that the server keeps. None if it has not been asked yet.
    #[must_use]
    pub fn get(&self) -> Option<u64> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|seen| seen.held)
    }

    /// A heartbeat came back in the stream.
    pub fn beat(&self, now: Instant) {
        *self.0.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// When the last heartbeat came back.
    #[must_use]
    pub fn heard(&self) -> Option<Instant> {
        *self.0.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Heartbeats are written from now on, where the server takes them.
    pub fn expect_beats(&self) {
        self.0.beats.store(true, Ordering::Relaxed);
    }

    /// Whether a heartbeat is to come back now and then: not from a standby.
    #[must_use]
    pub fn expects_beats(&self) -> bool {
        let is_standby = self.seen().is_some_and(|seen| seen.is_standby);
        self.0.beats.load(Ordering::Relaxed) && !is_standby
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b227_the_time_until_a_slot_is_given_up_is_what_is_left_by_what_is_written() {
        let seen = |safe, written_per_second| Seen { safe, written_per_second, ..Seen::default() };
        assert_eq!(seen(Some(1_000), Some(10)).forecast(), Some(Duration::from_secs(100)));
        assert_eq!(seen(Some(0), Some(10)).forecast(), Some(Duration::ZERO));
        for never in [seen(None, Some(1)), seen(Some(1), None), seen(Some(1), Some(0))] {
            assert_eq!(never.forecast(), None);
        }
        assert_eq!(seen(Some(u64::MAX), Some(1)).forecast(), None);
    }
}
