//! What takes a new version back, and what promotes it.

use serde::{Deserialize, Serialize};

/// The rules of one rollout. Shares are percent of the rows that the new version judged in the window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Nothing is judged before the new version has had so many rows in the window.
    pub min_rows: u64,
    /// What is looked at, in seconds.
    pub window_seconds: u64,
    /// More traps (also of time and memory, and faults of the host) take it back.
    pub max_trap_percent: f64,
    /// More rows that fail otherwise, beyond what fails in the version in use, take it back.
    pub max_error_percent: f64,
    /// Dropped or evicted rows may be so many percentage points more or fewer; None: any.
    pub max_drop_change: Option<f64>,
    /// The 99th percentile of the time for a row, in microseconds; None: any.
    pub max_p99_us: Option<f64>,
    /// The same, as a multiple of the version in use; None: any.
    pub max_p99_factor: Option<f64>,
    /// The mean output of a row that goes on, as a multiple of the version in use; None: any.
    pub max_output_factor: Option<f64>,
    /// Promotes a canary without being asked; None: somebody has to say so.
    pub auto_promote: Option<AutoPromote>,
}

/// What a canary has to stand before it is promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoPromote {
    /// So many rows through the new version since its share was last changed.
    pub rows: u64,
    /// For so long, in seconds.
    pub seconds: u64,
}

/// A rule that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {range}")]
pub struct RulesError {
    /// Which.
    pub field: &'static str,
    /// What it may be.
    pub range: &'static str,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            min_rows: 100,
            window_seconds: 300,
            max_trap_percent: 0.0,
            max_error_percent: 1.0,
            max_drop_change: None,
            max_p99_us: None,
            max_p99_factor: None,
            max_output_factor: None,
            auto_promote: None,
        }
    }
}

impl Rules {
    /// Whether they can be followed.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn check(&self) -> Result<(), RulesError> {
        let percent = |value: f64| (0.0..=100.0).contains(&value);
        let positive = |value: Option<f64>| value.is_none_or(|it| it.is_finite() && it > 0.0);
        let (share, more) = ("from 0 to 100", "more than 0");
        for (field, range, fits) in [
            ("min_rows", "from 1", self.min_rows >= 1),
            ("window_seconds", "from 1 to 86400", (1..=86_400).contains(&self.window_seconds)),
            ("max_trap_percent", share, percent(self.max_trap_percent)),
            ("max_error_percent", share, percent(self.max_error_percent)),
            ("max_drop_change", share, self.max_drop_change.is_none_or(percent)),
            ("max_p99_us", more, positive(self.max_p99_us)),
            ("max_p99_factor", more, positive(self.max_p99_factor)),
            ("max_output_factor", more, positive(self.max_output_factor)),
        ] {
            if !fits {
                return Err(RulesError { field, range });
            }
        }
        Ok(())
    }
}
