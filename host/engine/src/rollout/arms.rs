//! What the two versions of a function did with the rows that they had: counts of a sliding window,
//! and what the rules say of them. Pure but for the clock that is handed in.

use std::collections::VecDeque;
use std::time::Duration;

use model::plugin::{Fault, Outcome, PluginError};
use model::rollout::Rules;
use tokio::time::Instant;

use crate::costs;

/// The window slides in so many steps: what was in one of them is forgotten as a whole.
const PARTS: u32 = 6;

/// Four classes for each doubling, from 1 ns to 18 minutes: quantiles are right within a fifth.
const CLASSES: usize = 160;

/// Of how many rows what was how large.
#[derive(Clone, Debug)]
pub struct Spread {
    classes: Box<[u64; CLASSES]>,
    count: u64,
    sum: f64,
}

impl Default for Spread {
    fn default() -> Self {
        Self { classes: Box::new([0; CLASSES]), count: 0, sum: 0.0 }
    }
}

impl Spread {
    pub(super) fn add(&mut self, value: f64, times: u64) {
        // Saturates; below 1 it is all the same.
        let class = (value.max(1.0).log2() * 4.0) as usize;
        if let Some(count) = self.classes.get_mut(class.min(CLASSES - 1)) {
            *count += times;
        }
        self.count += times;
        self.sum += value * times as f64;
    }

    fn merge(&mut self, other: &Self) {
        for (count, more) in self.classes.iter_mut().zip(other.classes.iter()) {
            *count += more;
        }
        self.count += other.count;
        self.sum += other.sum;
    }

    /// At least so much of all is at most this, within a fifth; None of nothing.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let wanted = (share * self.count as f64).ceil();
        let mut seen = 0_u64;
        let class = self.classes.iter().position(|count| {
            seen += count;
            seen as f64 >= wanted
        });
        Some(2_f64.powf((class.unwrap_or(CLASSES) as f64 + 1.0) / 4.0))
    }

    /// The mean; None of nothing.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// Upper bounds of the classes that hold something, and how many are in each.
    #[must_use]
    pub fn classes(&self) -> Vec<(f64, u64)> {
        let classes = self.classes.iter().enumerate().filter(|(_, count)| **count > 0);
        classes.map(|(class, count)| (2_f64.powf((class as f64 + 1.0) / 4.0), *count)).collect()
    }
}

/// What one version did.
#[derive(Clone, Debug, Default)]
pub struct Arm {
    /// Rows that it judged.
    pub rows: u64,
    /// Of these: dropped or evicted.
    pub dropped: u64,
    /// Failed, by what it said or gave.
    pub errors: u64,
    /// Failed otherwise: traps, time, memory, faults of the host.
    pub traps: u64,
    /// Nanoseconds a row.
    pub time_ns: Spread,
    /// Bytes that it gave for a row that goes on.
    pub output_bytes: Spread,
}

/// Whether a failure is none that the guest chose.
pub(super) const fn is_trap(fault: Fault) -> bool {
    matches!(fault, Fault::Trap | Fault::Deadline | Fault::Memory | Fault::Host)
}

impl Arm {
    pub(super) fn add(&mut self, outcomes: &[Result<Outcome, PluginError>], took: Duration) {
        let rows = outcomes.len() as u64;
        if rows == 0 {
            return;
        }
        self.rows += rows;
        self.time_ns.add(took.as_nanos() as f64 / rows as f64, rows);
        for outcome in outcomes {
            match outcome {
                Ok(Outcome::Drop | Outcome::Evict) => self.dropped += 1,
                Ok(outcome) => self.output_bytes.add(costs::bytes(outcome) as f64, 1),
                Err(error) if is_trap(error.fault) => self.traps += 1,
                Err(_) => self.errors += 1,
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.dropped += other.dropped;
        self.errors += other.errors;
        self.traps += other.traps;
        self.time_ns.merge(&other.time_ns);
        self.output_bytes.merge(&other.output_bytes);
    }

    fn percent(&self, count: u64) -> f64 {
        if self.rows == 0 { 0.0 } else { count as f64 * 100.0 / self.rows as f64 }
    }
}

/// Both versions.
#[derive(Clone, Debug, Default)]
pub struct Arms {
    /// The one in use.
    pub old: Arm,
    /// The new one.
    pub new: Arm,
}

impl Arms {
    /// Which rule is broken, in words.
    #[must_use]
    pub fn breach(&self, rules: &Rules) -> Option<String> {
        let Self { old, new } = self;
        if new.rows < rules.min_rows {
            return None;
        }
        let traps = new.percent(new.traps);
        if traps > rules.max_trap_percent {
            let max = rules.max_trap_percent;
            return Some(format!(
                "{traps:.1}% of {} rows trapped (max_trap_percent {max})",
                new.rows
            ));
        }
        let errors = new.percent(new.errors) - old.percent(old.errors);
        if errors > rules.max_error_percent {
            let (max, rows) = (rules.max_error_percent, new.rows);
            return Some(format!(
                "{errors:.1}% more of {rows} rows failed than in the version in use \
                 (max_error_percent {max})"
            ));
        }
        // Of few rows in the version in use, nothing is known to compare with.
        let comparable = old.rows >= rules.min_rows;
        if let Some(max) = rules.max_drop_change.filter(|_| comparable) {
            let (was, is) = (old.percent(old.dropped), new.percent(new.dropped));
            if (is - was).abs() > max {
                return Some(format!(
                    "{is:.1}% of {} rows are dropped, and {was:.1}% in the version in use \
                     (max_drop_change {max})",
                    new.rows
                ));
            }
        }
        let p99 = |arm: &Arm| arm.time_ns.quantile(0.99);
        if let Some((max, p99)) = rules.max_p99_us.zip(p99(new))
            && p99 / 1_000.0 > max
        {
            return Some(format!("a row takes {:.1} µs (p99; max_p99_us {max})", p99 / 1_000.0));
        }
        let more = |new: Option<f64>, old: Option<f64>| {
            let (new, old) = new.zip(old.filter(|old| comparable && *old > 0.0))?;
            Some(new / old)
        };
        if let Some((max, factor)) = rules.max_p99_factor.zip(more(p99(new), p99(old)))
            && factor > max
        {
            return Some(format!(
                "a row takes {factor:.1} times as long (p99) as in the version in use \
                 (max_p99_factor {max})"
            ));
        }
        let size = |arm: &Arm| arm.output_bytes.mean();
        if let Some((max, factor)) = rules.max_output_factor.zip(more(size(new), size(old)))
            && factor > max
        {
            return Some(format!(
                "outputs are {factor:.1} times as large as in the version in use \
                 (max_output_factor {max})"
            ));
        }
        None
    }
}

/// The counts of the last while, and of all.
#[derive(Debug)]
pub(super) struct Window {
    /// At most [`PARTS`] and one.
    parts: VecDeque<(Instant, Arms)>,
    pub(super) all: Arms,
    /// Since when, and of how many rows of the new version by then: the share was another before.
    pub(super) since: (Instant, u64),
}

impl Window {
    pub(super) fn new(now: Instant) -> Self {
        Self { parts: VecDeque::new(), all: Arms::default(), since: (now, 0) }
    }

    /// The share is another: what was seen before says nothing of it.
    pub(super) fn restart(&mut self, now: Instant) {
        self.parts.clear();
        self.since = (now, self.all.new.rows);
    }

    /// Counts, in the part of now.
    pub(super) fn add(&mut self, rules: &Rules, now: Instant, add: impl Fn(&mut Arms)) {
        let window = Duration::from_secs(rules.window_seconds);
        while self.parts.front().is_some_and(|(begun, _)| *begun + window < now) {
            self.parts.pop_front();
        }
        if self.parts.back().is_none_or(|(begun, _)| *begun + window / PARTS <= now) {
            self.parts.push_back((now, Arms::default()));
        }
        if let Some((_, arms)) = self.parts.back_mut() {
            add(arms);
        }
        add(&mut self.all);
    }

    /// What is in the window.
    pub(super) fn arms(&self) -> Arms {
        let mut sum = Arms::default();
        for (_, arms) in &self.parts {
            sum.old.merge(&arms.old);
            sum.new.merge(&arms.new);
        }
        sum
    }

    /// Whether the new version has stood what it had to.
    pub(super) fn is_proven(&self, rules: &Rules, now: Instant) -> bool {
        let (since, rows) = self.since;
        rules.auto_promote.is_some_and(|auto| {
            self.all.new.rows - rows >= auto.rows
                && now.saturating_duration_since(since) >= Duration::from_secs(auto.seconds)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arms(old: (u64, u64, u64), new: (u64, u64, u64), trapped: u64) -> Arms {
        let arm = |(rows, dropped, errors)| Arm { rows, dropped, errors, ..Arm::default() };
        let mut arms = Arms { old: arm(old), new: arm(new) };
        arms.new.traps = trapped;
        arms
    }

    #[test]
    fn b270_each_rule_is_judged_by_itself_and_not_before_enough_rows() {
        let rules = Rules { max_drop_change: Some(5.0), ..Rules::default() };
        let breach = |arms: Arms| arms.breach(&rules).unwrap_or_default();
        assert_eq!(breach(arms((0, 0, 0), (99, 99, 99), 99)), "", "too few rows");
        assert_eq!(breach(arms((900, 0, 0), (100, 0, 1), 0)), "");
        assert!(breach(arms((0, 0, 0), (100, 0, 0), 1)).contains("max_trap_percent"));
        assert!(breach(arms((900, 0, 0), (100, 0, 2), 0)).contains("max_error_percent"));
        assert_eq!(breach(arms((900, 0, 450), (100, 0, 50), 0)), "", "as many fail in both");
        assert!(breach(arms((900, 0, 0), (100, 6, 0), 0)).contains("max_drop_change"));
        assert!(breach(arms((900, 900, 0), (100, 94, 0), 0)).contains("max_drop_change"));
        assert_eq!(breach(arms((10, 0, 0), (100, 94, 0), 0)), "", "nothing to compare with");
    }

    #[test]
    fn b270_times_and_sizes_are_judged_by_their_spread() {
        let mut arms = arms((1_000, 0, 0), (1_000, 0, 0), 0);
        arms.old.time_ns.add(1_000.0, 1_000);
        arms.old.output_bytes.add(100.0, 1_000);
        arms.new.time_ns.add(1_000.0, 985);
        arms.new.time_ns.add(50_000.0, 15);
        arms.new.output_bytes.add(150.0, 1_000);
        let breach = |rules: Rules| arms.breach(&rules).unwrap_or_default();
        let rules = Rules::default;
        assert_eq!(breach(rules()), "");
        assert_eq!(breach(Rules { max_p99_us: Some(70.0), ..rules() }), "");
        assert!(breach(Rules { max_p99_us: Some(40.0), ..rules() }).contains("max_p99_us"));
        assert!(breach(Rules { max_p99_factor: Some(9.0), ..rules() }).contains("p99_factor"));
        assert_eq!(breach(Rules { max_output_factor: Some(1.6), ..rules() }), "");
        assert!(
            breach(Rules { max_output_factor: Some(1.4), ..rules() }).contains("output_factor")
        );
    }

    #[test]
    fn quantiles_are_right_within_a_fifth() {
        let mut spread = Spread::default();
        assert_eq!(spread.quantile(0.5), None);
        (1..=1_000).for_each(|n| spread.add(f64::from(n) * 1_000.0, 1));
        for (share, exact) in [(0.5, 500_000.0), (0.99, 990_000.0), (1.0, 1_000_000.0)] {
            let found = spread.quantile(share).unwrap();
            assert!((exact..exact * 1.2).contains(&found), "{share}: {found}");
        }
        spread.add(f64::MAX, 1);
        assert!(spread.quantile(1.0).unwrap().is_finite());
    }

    #[tokio::test(start_paused = true)]
    async fn the_window_forgets_and_the_sum_does_not() {
        let rules = Rules { window_seconds: 60, ..Rules::default() };
        let mut window = Window::new(Instant::now());
        for _ in 0..20 {
            window.add(&rules, Instant::now(), |arms| arms.new.rows += 1);
            tokio::time::advance(Duration::from_secs(10)).await;
        }
        assert_eq!(window.all.new.rows, 20);
        assert!((6..=7).contains(&window.arms().new.rows), "{}", window.arms().new.rows);
        assert!(window.parts.len() <= PARTS as usize + 1);
    }
}
