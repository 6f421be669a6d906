//! What is looked after beside the stream, on a slow clock and on the SQL session.
//!
//! Whether the server shuts down: it ends its other sessions at once, but a logical stream only when
//! all it has sent is confirmed. A sink that stands still would hold up the shutdown for ever, as we
//! go on answering. So the stream is closed in order when the server takes no more sessions; what
//! is not confirmed stays in the slot.
//!
//! And the heartbeat, if there shall be one: a message into the log when nothing was sent for a while.

use std::time::Duration;

use tokio::time::Instant;

/// A server that shuts down waits for us so much longer, at most.
const INTERVAL: Duration = Duration::from_secs(5);

/// Between claims of the slot. Whoever reads the slot beside us is noticed by theirs, too.
const CLAIM_INTERVAL: Duration = Duration::from_secs(600);

/// The clock of one stream.
#[derive(Debug)]
pub(super) struct Pulse {
    due: Instant,
    interval: Duration,
    heartbeat: Option<Duration>,
    /// When something was last sent to us, or written by us.
    quiet_since: Instant,
    /// The last heartbeat was not written, which is told once.
    failing: bool,
    /// When a claim was last begun to be written.
    claimed: Option<Instant>,
}

impl Pulse {
    pub(super) fn new(heartbeat: Option<Duration>, now: Instant) -> Self {
        let interval = heartbeat.map_or(INTERVAL, |heartbeat| INTERVAL.min(heartbeat));
        Self {
            due: now + interval,
            interval,
            heartbeat,
            quiet_since: now,
            failing: false,
            claimed: None,
        }
    }

    /// When to look next.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Changes came.
    pub(super) fn changes(&mut self, now: Instant) {
        self.quiet_since = now;
    }

    /// A look begins. Whether a heartbeat is due with it.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        self.due = now + self.interval;
        let due = self.heartbeat.is_some_and(|after| now.duration_since(self.quiet_since) >= after);
        if due {
            self.quiet_since = now;
        }
        due
    }

    /// Whether the claim is to be written with the look that begins: at first, and now and then.
    pub(super) fn claim(&mut self, now: Instant) -> bool {
        let due = self.claimed.is_none_or(|at| now.duration_since(at) >= CLAIM_INTERVAL);
        if due {
            self.claimed = Some(now);
        }
        due
    }

    /// It was not written: with the next look.
    pub(super) fn claim_again(&mut self) {
        self.claimed = None;
    }

    /// There is a new one, which is not to wait.
    pub(super) fn claim_anew(&mut self, now: Instant) {
        (self.claimed, self.due) = (None, self.due.min(now));
    }

    /// A heartbeat was written, or not. True if that is to be told.
    pub(super) fn beaten(&mut self, failed: bool) -> bool {
        let before = std::mem::replace(&mut self.failing, failed);
        failed && !before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_heartbeat_is_due_only_after_quiet() {
        let start = Instant::now();
        let mut never = Pulse::new(None, start);
        assert!(!never.begin(start + 3600 * SECOND));
        let mut pulse = Pulse::new(Some(3 * SECOND), start);
        assert_eq!(pulse.due(), start + 3 * SECOND);
        pulse.changes(start + SECOND);
        assert!(!pulse.begin(start + 3 * SECOND));
        assert_eq!(pulse.due(), start + 6 * SECOND);
        assert!(pulse.begin(start + 6 * SECOND));
        assert!(!pulse.begin(start + 7 * SECOND));
        assert!(pulse.begin(start + 9 * SECOND));
        let rare = Pulse::new(Some(60 * SECOND), start);
        assert_eq!(rare.due(), start + INTERVAL, "the server is looked after all the same");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_heartbeat_is_told_once() {
        let mut pulse = Pulse::new(Some(SECOND), Instant::now());
        assert_eq!(
            [true, true, false, true].map(|failed| pulse.beaten(failed)),
            [true, false, false, true]
        );
    }
}
