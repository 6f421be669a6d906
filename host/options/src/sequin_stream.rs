//! `destination: {type: sequin_stream}`: consumers fetch the messages over HTTP.

use std::time::Duration;

use serde::Deserialize;

use crate::{Problem, Problems};

/// The predecessor's bound.
const VISIBILITY_MS_MIN: i64 = 500;
/// Twelve hours, as queues elsewhere allow: who works longer on a message has died.
const VISIBILITY_MS_MAX: i64 = 43_200_000;
/// Each takes memory, and the order of what is offered has to be kept.
const ACK_PENDING_MAX: i64 = 100_000;
/// Each is an open connection.
const WAITING_MAX: i64 = 1_000;

/// A stream as a user writes it. All of it is ours: the predecessor had these numbers, and no way
/// to set them but its console. The defaults are its.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// How long a consumer has a message for itself before it is offered again.
    #[serde(default = "visibility_timeout_ms")]
    pub visibility_timeout_ms: i64,
    /// How many messages are offered and not acknowledged at once.
    #[serde(default = "max_ack_pending")]
    pub max_ack_pending: i64,
    /// How many consumers may wait for messages at once.
    #[serde(default = "max_waiting")]
    pub max_waiting: i64,
}

/// A stream that can be offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    pub visibility_timeout: Duration,
    /// 1 or more.
    pub ack_pending_max: usize,
    /// 1 or more.
    pub waiting_max: usize,
}

fn visibility_timeout_ms() -> i64 {
    30_000
}

fn max_ack_pending() -> i64 {
    10_000
}

fn max_waiting() -> i64 {
    20
}

impl Options {
    /// # Errors
    /// Everything that is wrong with it.
    pub fn validate(&self) -> Result<Ready, Vec<Problem>> {
        let mut problems = Problems::default();
        let visibility = (VISIBILITY_MS_MIN, VISIBILITY_MS_MAX);
        let mut within = |field, number: i64, (min, max)| {
            if !(min..=max).contains(&number) {
                problems.push(Problem::new(field, format!("must be between {min} and {max}")));
            }
            number.unsigned_abs()
        };
        let visibility = within("visibility_timeout_ms", self.visibility_timeout_ms, visibility);
        let pending = within("max_ack_pending", self.max_ack_pending, (1, ACK_PENDING_MAX));
        let waiting = within("max_waiting", self.max_waiting, (1, WAITING_MAX));
        problems.or(Some(Ready {
            visibility_timeout: Duration::from_millis(visibility),
            ack_pending_max: usize::try_from(pending).unwrap_or(1),
            waiting_max: usize::try_from(waiting).unwrap_or(1),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_bounds_and_everything_wrong_is_told_at_once() {
        let good = Options { visibility_timeout_ms: 500, max_ack_pending: 1, max_waiting: 1 };
        let ready = good.validate().unwrap();
        assert_eq!(ready.visibility_timeout, Duration::from_millis(500));
        let bad = Options { visibility_timeout_ms: 499, max_ack_pending: 0, max_waiting: -1 };
        let fields: Vec<_> =
            bad.validate().unwrap_err().into_iter().map(|problem| problem.field).collect();
        assert_eq!(fields, ["visibility_timeout_ms", "max_ack_pending", "max_waiting"]);
    }
}
