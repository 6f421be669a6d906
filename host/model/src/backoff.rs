//! How long to wait before the next attempt.

use std::time::Duration;

/// Exponential delays with jitter, up to a cap.
///
/// The defaults are the predecessor's: 1 s doubling with each attempt, times a factor between 0.85
/// and 1.15, and 10 minutes at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Before the second attempt.
    pub first: Duration,
    /// Never longer than this.
    pub cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), cap: Duration::from_secs(600) }
    }
}

impl Backoff {
    /// The delay after `attempts` failed attempts (1 or more). `dice` is a random number in
    /// `0.0..1.0`, from outside so that tests and simulations choose it.
    #[must_use]
    pub fn delay(&self, attempts: u32, dice: f64) -> Duration {
        // 2^30 s is beyond every cap; the bound keeps the multiplication from overflowing.
        let doublings = attempts.saturating_sub(1).min(30);
        let plain = self.first.saturating_mul(1 << doublings);
        if plain >= self.cap {
            return self.cap;
        }
        plain.mul_f64(0.85 + 0.3 * dice.clamp(0.0, 1.0)).min(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b120_backoff_doubles_with_jitter_up_to_the_cap() {
        let backoff = Backoff::default();
        assert_eq!(backoff.delay(1, 0.5), Duration::from_secs(1));
        assert_eq!(backoff.delay(4, 0.5), Duration::from_secs(8));
        assert_eq!(backoff.delay(1, 0.0), Duration::from_millis(850));
        assert!(backoff.delay(1, 1.0) <= Duration::from_millis(1150));
        assert_eq!(backoff.delay(9, 0.5), Duration::from_secs(256));
        for attempts in [11, 31, u32::MAX] {
            assert_eq!(backoff.delay(attempts, 1.0), Duration::from_secs(600));
        }
    }
}
