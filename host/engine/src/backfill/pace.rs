//! How many rows to read at once, and how often.

use std::time::Duration;

use tokio::time::Instant;

/// The predecessor's first page.
const ROWS_FIRST: usize = 1_000;
/// Its largest.
const ROWS_MAX: usize = 40_000;
/// A page that takes longer to read holds a snapshot of the source for longer than it is worth.
const READ_AIM: Duration = Duration::from_millis(500);
/// Changes that come behind a page wait for it at their sink.
const SETTLE_AIM: Duration = Duration::from_millis(50);
/// As long if none came.
const SETTLE_AIM_ALONE: Duration = Duration::from_secs(1);
/// What is on its way is small beside the budget.
const BYTES_AIM: usize = 8 << 20;

/// The size of the next page, by how it went before.
#[derive(Debug)]
pub(super) struct Pace {
    rows: usize,
    bytes_max: usize,
    /// No page before this time.
    next: Option<Instant>,
}

impl Pace {
    /// Pages take no more than a small part of what may be held in memory, in bytes.
    pub(super) fn new(budget_bytes: usize) -> Self {
        Self { rows: ROWS_FIRST, bytes_max: BYTES_AIM.min(budget_bytes / 16), next: None }
    }

    /// At most so many rows, at least 1.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// The server gave up.
    pub(super) fn timed_out(&mut self) {
        self.rows = (self.rows / 2).max(1);
    }

    /// A page was read.
    pub(super) fn read(&mut self, rows: usize, bytes: usize, took: Duration) {
        if took > READ_AIM {
            self.rows = (self.rows / 2).max(1);
        } else if rows >= self.rows && took < READ_AIM / 2 {
            self.rows = (self.rows * 2).min(ROWS_MAX);
        }
        let row_bytes = bytes.checked_div(rows).unwrap_or(0).max(1);
        self.rows = self.rows.min(self.bytes_max / row_bytes).max(1);
    }

    /// The sink settled a page of so many rows; whether changes of the stream came meanwhile.
    pub(super) fn settled(&mut self, rows: usize, took: Duration, live: bool) {
        let aim = if live { SETTLE_AIM } else { SETTLE_AIM_ALONE };
        if took > aim {
            let fits = rows as f64 * aim.as_secs_f64() / took.as_secs_f64();
            // No more than halved by one page that was slow for another reason.
            self.rows = self.rows.min((fits as usize).max(self.rows / 2)).max(1);
        }
    }

    /// When the next page may be read with at most so many rows a second: None is now.
    pub(super) fn throttle(&mut self, rows: usize, per_second: Option<u32>) {
        let now = Instant::now();
        self.next = per_second.map(|per_second| {
            let takes = Duration::from_secs_f64(rows as f64 / f64::from(per_second.max(1)));
            self.next.unwrap_or(now).max(now) + takes
        });
    }

    /// See [`Pace::throttle`].
    pub(super) fn due(&self) -> Option<Instant> {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Duration = Duration::from_millis(10);

    #[test]
    fn b168_a_page_shrinks_at_a_timeout_and_grows_while_it_is_fast() {
        let mut pace = Pace::new(1 << 30);
        assert_eq!(pace.rows(), 1_000);
        pace.timed_out();
        assert_eq!(pace.rows(), 500);
        pace.read(500, 500, FAST);
        assert_eq!(pace.rows(), 1_000);
        for _ in 0..10 {
            pace.read(pace.rows(), pace.rows(), FAST);
        }
        assert_eq!(pace.rows(), 40_000, "the most");
        pace.read(40_000, 40_000, Duration::from_secs(1));
        assert_eq!(pace.rows(), 20_000, "a slow page");
        pace.read(100, 100, FAST);
        assert_eq!(pace.rows(), 20_000, "the last page of a range says nothing");
        for _ in 0..30 {
            pace.timed_out();
        }
        assert_eq!(pace.rows(), 1);
    }

    #[test]
    fn b172_a_page_is_a_small_part_of_the_memory() {
        let mut pace = Pace::new(16 << 20);
        pace.read(1_000, 10 << 20, FAST);
        assert_eq!(pace.rows(), 100, "10 KiB a row, 1 MiB a page");
        pace.read(1, 1 << 30, FAST);
        assert_eq!(pace.rows(), 1);
    }

    #[test]
    fn b171_pages_are_small_where_changes_wait_behind_them() {
        let mut pace = Pace::new(1 << 30);
        pace.settled(1_000, Duration::from_millis(800), false);
        assert_eq!(pace.rows(), 1_000);
        pace.settled(1_000, Duration::from_millis(800), true);
        assert_eq!(pace.rows(), 500);
        for _ in 0..20 {
            // 0.8 ms a row.
            pace.settled(pace.rows(), Duration::from_micros(800 * pace.rows() as u64), true);
        }
        assert_eq!(pace.rows(), 62, "50 ms");
    }
}
