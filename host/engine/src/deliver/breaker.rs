//! Tells an outage of a destination from a failure of a message, and what is tried meanwhile.
//!
//! A few requests in a row that fail as only a destination can fail open it: from then on one
//! message at a time is tried, and no attempt is counted. Whatever the destination answers to one
//! closes it. No I/O, no clock: time comes in as an argument.

use std::time::Duration;

use model::backoff::Backoff;
use model::sink::{Failure, Retry, SinkError};
use tokio::time::Instant;

use crate::lane::Ticket;

/// Requests in a row. One may be a poison that a receiver fails on, and its neighbours of the same
/// moment; but sinks have eight requests under way at the most, so that a few see an outage at once.
const FAILURES_MAX: u32 = 5;

/// Between probes: a destination that is back is noticed within half a minute.
const PROBES: Backoff = Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(30) };

/// Of one sink.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Requests that failed since one was answered.
    failures: u32,
    /// No request before: a destination asked for it (`Retry-After`).
    asked: Option<Instant>,
    /// Whom they were about.
    about: About,
    open: Option<Open>,
}

/// Which messages failed since a request was answered.
#[derive(Clone, Copy, Debug, Default)]
enum About {
    #[default]
    Nobody,
    /// One, alone, each time: it may be a poison that the receiver fails on.
    One(Ticket),
    Several,
}

/// The destination is away.
#[derive(Debug)]
struct Open {
    /// Requests that found it so since it opened.
    probes: u32,
    next: Instant,
}

/// What a failure did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It may be an outage, or not.
    Doubt,
    /// It is one: now it is known.
    Opened,
    /// It was known.
    Away,
}

impl Breaker {
    /// Whether the destination is away.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// When the next probe is due, while the destination is away.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        self.open.as_ref().map(|open| open.next)
    }

    /// Nothing but this one message failed: another one may be tried at once.
    pub(super) fn suspect(&self) -> Option<Ticket> {
        match self.about {
            About::One(ticket) => Some(ticket),
            About::Nobody | About::Several => None,
        }
    }

    /// A request failed as a whole, as in an outage.
    pub(super) fn failed(
        &mut self,
        tickets: &[Ticket],
        error: &SinkError,
        now: Instant,
        dice: f64,
    ) -> Heard {
        self.failures = self.failures.saturating_add(1);
        self.about = match (self.about, tickets) {
            (About::Nobody, [ticket]) => About::One(*ticket),
            (About::One(known), [ticket]) if known == *ticket => self.about,
            _ => About::Several,
        };
        if let Retry::Later { after: Some(after) } = error.retry {
            self.asked = self.asked.max(Some(now + after));
        }
        let heard = match &mut self.open {
            // Those that were under way when it opened tell nothing new.
            Some(open) if open.next > now => return Heard::Away,
            Some(open) => {
                open.probes = open.probes.saturating_add(1);
                Heard::Away
            }
            None if self.failures < FAILURES_MAX => return Heard::Doubt,
            None => {
                self.open = Some(Open { probes: 1, next: now });
                Heard::Opened
            }
        };
        if let Some(open) = &mut self.open {
            let next = now + PROBES.delay(open.probes, dice);
            open.next = self.asked.map_or(next, |asked| asked.max(next));
        }
        heard
    }

    /// The destination answered. True if it was away.
    pub(super) fn answered(&mut self) -> bool {
        (self.failures, self.asked, self.about) = (0, None, About::Nobody);
        self.open.take().is_some()
    }
}

/// The code of the warning, while a destination is away.
pub(super) fn code(failure: Failure) -> &'static str {
    match failure {
        Failure::Misconfigured => "destination_misconfigured",
        _ => "destination_unreachable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &mut Breaker, now: Instant) -> Heard {
        breaker.failed(&[], &SinkError::unreachable("refused"), now, 0.5)
    }

    #[tokio::test]
    async fn it_opens_after_failures_in_a_row_and_any_answer_closes_it() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..3 {
            for _ in 0..4 {
                assert_eq!(fail(&mut breaker, now), Heard::Doubt);
            }
            assert!(!breaker.answered());
        }
        for _ in 0..4 {
            fail(&mut breaker, now);
        }
        assert_eq!(fail(&mut breaker, now), Heard::Opened);
        assert!(breaker.is_open());
        assert!(breaker.answered());
        assert_eq!((breaker.is_open(), fail(&mut breaker, now)), (false, Heard::Doubt));
    }

    #[tokio::test]
    async fn probes_are_further_and_further_apart_up_to_half_a_minute() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        for _ in 0..5 {
            fail(&mut breaker, now);
        }
        let mut delays = Vec::new();
        for _ in 0..7 {
            let next = breaker.next_probe().unwrap();
            delays.push((next - now).as_secs());
            // What was under way before changes nothing.
            assert_eq!(fail(&mut breaker, now), Heard::Away);
            assert_eq!(breaker.next_probe(), Some(next));
            now = next;
            assert_eq!(fail(&mut breaker, now), Heard::Away);
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 30, 30]);
    }

    #[tokio::test]
    async fn b119_no_probe_comes_before_the_time_that_was_asked_for() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        let after = Some(Duration::from_secs(90));
        let retry = Retry::Later { after };
        let error = SinkError { retry, ..SinkError::unreachable("429") };
        breaker.failed(&[], &error, now, 0.5);
        for _ in 0..4 {
            fail(&mut breaker, now);
        }
        assert_eq!(breaker.next_probe(), Some(now + Duration::from_secs(90)));
    }
}
