//! When to read, while the stream is hot.
//!
//! A walsender writes each row by itself, and a system call for each costs several times what
//! decoding it does. So after a short read on a hot stream the reader waits a moment for more: a
//! third of the CPU and larger batches, for a delay that nobody sees. After a long read it looks at
//! once, and waits that moment if nothing is there: the sender is only slower, and a batch handed
//! over wakes the engine. An idle stream is never made to wait, and what was decoded never waits
//! longer than [`HELD_MAX`].

use std::time::Duration;

use tokio::time::Instant;

/// Less than this is a short read: a Unix socket holds about twice as much of a walsender's small
/// writes before that has to wait. At a lower limit, reads of a hot stream are long enough to be
/// followed at once by one that finds nothing, and what is handed over are a few dozen rows.
const SHORT_BYTES: usize = 64 * 1024;

/// Reads closer to each other than this are of a hot stream.
const HOT: Duration = Duration::from_millis(1);

/// Long enough to collect dozens of rows from one walsender at full speed, short enough that the
/// buffer of a socket (200 kB and more) does not fill up.
const NAP: Duration = Duration::from_micros(200);

/// What is decoded is handed over by then, also when more keeps coming.
const HELD_MAX: Duration = Duration::from_millis(1);

/// The rhythm of one stream.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last_read: Option<Instant>,
    /// The last read was close to the one before.
    hot: bool,
    /// To be done before the next read.
    nap_due: bool,
    /// Done since the last read.
    napped: bool,
    /// When the first change was decoded that is not handed over.
    holding_since: Option<Instant>,
}

impl Pace {
    /// Something was read.
    pub(super) fn read(&mut self, bytes: usize, now: Instant) {
        self.hot = self.last_read.is_some_and(|last| now.duration_since(last) < HOT);
        self.nap_due = self.hot && bytes < SHORT_BYTES;
        self.napped = false;
        self.last_read = Some(now);
    }

    /// How long to wait before the next read. Answered once for each read.
    pub(super) fn nap(&mut self) -> Option<Duration> {
        let nap = std::mem::take(&mut self.nap_due);
        self.napped |= nap;
        nap.then_some(NAP)
    }

    /// There is nothing to read. Whether more can be expected all the same, after a nap: then what
    /// is decoded is not handed over yet.
    pub(super) fn expects_more(&mut self) -> bool {
        self.nap_due = self.hot && !self.napped;
        self.nap_due
    }

    /// Whether what is decoded must be handed over now, although more may be there; `holding` says
    /// whether there is any.
    pub(super) fn hand_over(&mut self, holding: bool, now: Instant) -> bool {
        if !holding {
            self.holding_since = None;
            return false;
        }
        now.duration_since(*self.holding_since.get_or_insert(now)) >= HELD_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_short_reads_of_a_hot_stream_wait() {
        let start = Instant::now();
        let mut pace = Pace::default();
        pace.read(100, start);
        assert_eq!(pace.nap(), None, "the first after idling is handed over at once");
        pace.read(100, start + HOT / 2);
        assert_eq!(pace.nap(), Some(NAP));
        assert_eq!(pace.nap(), None, "once for each read");
        pace.read(SHORT_BYTES, start + HOT);
        assert_eq!(pace.nap(), None, "there is more than enough");
        pace.read(100, start + 3 * HOT);
        assert_eq!(pace.nap(), None, "not hot any more");
    }

    #[tokio::test(start_paused = true)]
    async fn more_is_expected_of_a_hot_stream_for_one_nap() {
        let start = Instant::now();
        let mut pace = Pace::default();
        pace.read(SHORT_BYTES, start);
        assert!(!pace.expects_more(), "the first after idling is handed over at once");
        pace.read(SHORT_BYTES, start + HOT / 2);
        assert_eq!(pace.nap(), None, "there may be more");
        assert!(pace.expects_more());
        assert_eq!(pace.nap(), Some(NAP));
        assert!(!pace.expects_more(), "it did not come");
        pace.read(100, start + HOT);
        assert_eq!(pace.nap(), Some(NAP));
        assert!(!pace.expects_more(), "one nap for each read");
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_does_not_hold_back_what_is_decoded() {
        let start = Instant::now();
        let mut pace = Pace::default();
        assert!(!pace.hand_over(true, start));
        assert!(!pace.hand_over(true, start + HELD_MAX / 2));
        assert!(pace.hand_over(true, start + HELD_MAX));
        assert!(!pace.hand_over(false, start + HELD_MAX));
        assert!(!pace.hand_over(true, start + HELD_MAX), "counted anew");
    }
}
