//! How long things take.

use std::time::Duration;

/// The times of a lease. All nodes must have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// For how long a leader counts as alive after it last said so.
    pub ttl: Duration,
    /// A leader stops that much before the others may begin: for clocks that do not run alike, and for
    /// what it takes to stop.
    pub margin: Duration,
    /// How often a standby looks: what a hand-over takes at most.
    pub look_every: Duration,
    /// After this an answer of the truth is no answer any more.
    pub truth_max: Duration,
    /// The same of the coordinator: one that is slower is as good as away.
    pub coordinator_max: Duration,
    /// The longest that a request of the leader before may still be under way when it has stopped.
    pub requests_max: Duration,
    /// How long a leader that is asked to stop waits for what is under way.
    pub drain_max: Duration,
    /// The longest pause between two attempts to reach a coordinator that is away. A probe that connects
    /// ends it at once.
    pub pause_max: Duration,
}

impl Timing {
    /// Those of a lease that expires after `ttl`.
    #[must_use]
    pub fn of(ttl: Duration) -> Self {
        Self {
            ttl,
            margin: ttl / 10,
            look_every: (ttl / 3).min(Duration::from_secs(1)),
            truth_max: ttl / 8,
            coordinator_max: ttl / 16,
            requests_max: Duration::ZERO,
            drain_max: Duration::from_secs(30),
            pause_max: Duration::from_secs(3600),
        }
    }

    /// A third of the time, less up to a tenth of that by `jitter` (0 to 255), so that leases that began
    /// together do not stay together.
    pub(crate) fn renew_after(&self, jitter: u8) -> Duration {
        let third = self.ttl / 3;
        third - third / 10 * u32::from(jitter) / u32::from(u8::MAX)
    }

    /// How long to wait after `failures` attempts in a row that reached nobody: several times in the time
    /// of one lease at first, and then ever less often, unless there is a need.
    pub(crate) fn pause(&self, failures: u32, is_needed: bool) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let max = if is_needed { self.ttl / 3 } else { self.pause_max };
        (self.ttl / 16).saturating_mul(doubled).min(max)
    }
}

impl Default for Timing {
    /// Fifteen seconds.
    fn default() -> Self {
        Self::of(Duration::from_secs(15))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_several_tries_in_the_time_of_a_lease_and_pauses_end() {
        let timing = Timing::default();
        for jitter in [0, 128, 255] {
            let renew = timing.renew_after(jitter);
            assert!(renew <= timing.ttl / 3 && renew >= timing.ttl / 3 * 9 / 10);
            let tries = renew
                + timing.truth_max
                + timing.pause(1, false)
                + timing.truth_max
                + timing.pause(2, true);
            assert!(tries < timing.ttl - timing.margin, "{tries:?}");
        }
        assert_eq!(timing.pause(u32::MAX, false), timing.pause_max);
        assert_eq!(timing.pause(u32::MAX, true), timing.ttl / 3);
        assert!((1..40).all(|n| timing.pause(n, false) <= timing.pause(n + 1, false)));
    }
}
