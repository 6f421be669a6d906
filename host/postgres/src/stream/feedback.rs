//! When the server is told how far we are, and what.
//!
//! The server ends a connection that says nothing for `wal_sender_timeout`; what is confirmed it
//! may forget. So: at least every second, at once when it asks, and soon after a position was
//! confirmed, but not for each one. A position sent never goes back and never passes what was
//! received.

use std::time::Duration;

use model::lsn::Lsn;
use tokio::time::Instant;

use crate::wire::copy::Status;

/// At least so often.
const INTERVAL: Duration = Duration::from_secs(1);

/// Several confirmations within this go out as one.
const COALESCE: Duration = Duration::from_millis(100);

/// The server with default settings gives us up after so long (`wal_sender_timeout`); we give it
/// the same, although it is asked for a sign of life every second.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The clock and the positions of one stream.
#[derive(Debug)]
pub(super) struct Feedback {
    received: Lsn,
    confirmed: Lsn,
    /// What was confirmed at the last status update.
    sent: Lsn,
    sent_at: Instant,
    interval: Duration,
    /// The server asked.
    asked: bool,
    /// When the server was last heard of.
    heard_at: Instant,
    /// What its clock then said, in microseconds since 2000.
    clock_us: i64,
}

impl Feedback {
    /// A stream that begins at the slot's confirmed position, on a server that waits for
    /// `sender_timeout` (zero: for ever).
    pub(super) fn new(confirmed: Lsn, sender_timeout: Duration, now: Instant) -> Self {
        let interval = match sender_timeout {
            Duration::ZERO => INTERVAL,
            // Two updates may come late before the third is too late.
            timeout => INTERVAL.min(timeout / 3),
        };
        Self {
            received: confirmed,
            confirmed,
            sent: confirmed,
            sent_at: now,
            interval,
            asked: false,
            heard_at: now,
            clock_us: 0,
        }
    }

    /// Something came from the server, with its clock.
    pub(super) fn heard(&mut self, now: Instant, clock_us: i64) {
        self.heard_at = now;
        self.clock_us = clock_us;
    }

    /// We are not listening: its silence says nothing.
    pub(super) fn deaf(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// Everything below was received.
    pub(super) fn received(&mut self, position: Lsn) {
        self.received = self.received.max(position);
    }

    /// Everything below is settled.
    pub(super) fn confirm(&mut self, position: Lsn) {
        self.confirmed = self.confirmed.max(position);
    }

    /// The server wants a status update at once.
    pub(super) fn ask(&mut self) {
        self.asked = true;
    }

    /// When the next status update is due.
    pub(super) fn due(&self) -> Instant {
        if self.asked {
            self.sent_at
        } else if self.confirmable() > self.sent {
            self.sent_at + COALESCE.min(self.interval)
        } else {
            self.sent_at + self.interval
        }
    }

    /// The status update to send now.
    pub(super) fn status(&mut self, now: Instant) -> Status {
        self.sent = self.confirmable();
        self.sent_at = now;
        self.asked = false;
        Status {
            received: self.received,
            confirmed: self.sent,
            // The server's own: it only shows it, and ours need not agree with it.
            clock_us: self.clock_us,
            // An idle server says nothing unless asked, and its keepalives carry the position
            // up to which there is nothing for us.
            reply: now.duration_since(self.heard_at) >= self.interval,
        }
    }

    /// Whether the server was silent for too long.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        now.duration_since(self.heard_at) >= SILENCE_MAX
    }

    fn confirmable(&self) -> Lsn {
        self.confirmed.min(self.received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn feedback(timeout: Duration) -> (Feedback, Instant) {
        let now = Instant::now();
        (Feedback::new(Lsn(100), timeout, now), now)
    }

    #[tokio::test(start_paused = true)]
    async fn b031_updates_go_out_by_the_clock_and_at_once_when_asked() {
        let (mut usual, start) = feedback(60 * SECOND);
        assert_eq!(usual.due(), start + SECOND);
        usual.ask();
        assert_eq!(usual.due(), start);
        usual.status(start);
        assert_eq!(usual.due(), start + SECOND, "asked once, answered once");
        let (short, start) = feedback(SECOND);
        assert!(short.due() <= start + SECOND / 3, "well within a short timeout");
        let (without, start) = feedback(Duration::ZERO);
        assert_eq!(without.due(), start + SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn confirmations_coalesce_and_never_pass_what_was_received() {
        let (mut feedback, start) = feedback(60 * SECOND);
        feedback.confirm(Lsn(120));
        assert_eq!(feedback.due(), start + SECOND, "not received yet");
        assert_eq!(feedback.status(start).confirmed, Lsn(100));
        feedback.received(Lsn(110));
        assert_eq!(feedback.due(), start + COALESCE);
        let status = feedback.status(start);
        assert_eq!((status.received, status.confirmed), (Lsn(110), Lsn(110)));
        feedback.received(Lsn(130));
        feedback.confirm(Lsn(105));
        assert_eq!(feedback.status(start).confirmed, Lsn(120), "never back");
        feedback.received(Lsn(90));
        assert_eq!(feedback.status(start).received, Lsn(130), "never back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_server_is_asked_for_a_sign_and_given_up_in_the_end() {
        let (mut feedback, start) = feedback(60 * SECOND);
        feedback.heard(start, 7);
        assert!(!feedback.status(start + SECOND / 2).reply);
        let status = feedback.status(start + SECOND);
        assert_eq!((status.reply, status.clock_us), (true, 7));
        assert!(!feedback.is_silent(start + 59 * SECOND));
        assert!(feedback.is_silent(start + 60 * SECOND));
        feedback.deaf(start + 60 * SECOND);
        assert!(!feedback.is_silent(start + 60 * SECOND));
    }
}
