//! How many rows to read at once, and how often.

use std::time::Duration;

use tokio::time::Instant;

/// The predecessor's first page.
const ROWS_FIRST: usize = 1_000;
/// Its largest.
const ROWS_MAX: usize = 40_000;
/// A page that takes longer to read holds a snapshot of the source for longer than it is worth.
const READ_AIM: Duration = Duration::from_millis(500);
/// Changes that come behind a part wait for it at their sink: as long as they take by themselves, so
/// that they take twice as long, or this if that is less. It is what a part costs beside its rows.
const LIVE_AIM: Duration = Duration::from_millis(1);
/// As long if none came for a while: the first that comes again waits for a page that was begun.
const ALONE_AIM: Duration = Duration::from_millis(100);
/// So long after a change of the stream another one is expected.
const LIVE_FOR: Duration = Duration::from_secs(5);
/// Fewer rows gain nothing, however long a page takes: the time goes elsewhere.
const ROWS_WORTH: usize = 64;
/// A query for a page costs as much as some hundred rows: it is for so many parts, of which a kill makes
/// it read the ones again that were delivered.
const PARTS_MAX: usize = 16;
/// A part is judged by the quickest one before, if that had enough to do.
const BASE_MAX: Duration = Duration::from_secs(1);
/// What is on its way is small beside the budget.
const BYTES_AIM: usize = 8 << 20;

/// The size of the next page, by how it went before. What the source allows and what the sink allows
/// is known each for itself: a page that was read quickly says nothing of what its rows hold up.
#[derive(Debug)]
pub(super) struct Pace {
    /// As many rows as the source gives in time.
    readable: usize,
    /// As many as the sink settles in time.
    settleable: usize,
    /// As many as fit.
    fitting: usize,
    bytes_max: usize,
    /// The shortest time in which the sink settled a page: nearly all of it is not for rows.
    base: Duration,
    live_until: Option<Instant>,
    /// No page before this time.
    next: Option<Instant>,
}

impl Pace {
    /// Pages take no more than a small part of what may be held in memory, in bytes.
    pub(super) fn new(budget_bytes: usize) -> Self {
        Self {
            readable: ROWS_FIRST,
            settleable: ROWS_FIRST,
            fitting: ROWS_MAX,
            bytes_max: BYTES_AIM.min(budget_bytes / 16).max(1),
            base: BASE_MAX,
            live_until: None,
            next: None,
        }
    }

    /// At most so many rows, at least 1.
    pub(super) fn rows(&self) -> usize {
        let parts = if self.is_live() { PARTS_MAX } else { 1 };
        self.readable.min(self.settleable * parts).min(self.fitting).max(1)
    }

    /// So many of them are handed over at once.
    pub(super) fn part_rows(&self) -> usize {
        self.settleable.max(1)
    }

    /// At most so many bytes, but for one row.
    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// The server gave up.
    pub(super) fn timed_out(&mut self) {
        self.readable = (self.rows() / 2).max(1);
    }

    /// A page was read.
    pub(super) fn read(&mut self, rows: usize, bytes: usize, took: Duration) {
        if took > READ_AIM {
            self.readable = (self.rows() / 2).max(1);
        } else if rows >= self.readable && took < READ_AIM / 2 {
            self.readable = (self.readable * 2).min(ROWS_MAX);
        }
        let row_bytes = bytes.checked_div(rows).unwrap_or(0).max(1);
        self.fitting = self.bytes_max / row_bytes;
    }

    /// Whether changes of the stream came lately: they go first.
    pub(super) fn is_live(&self) -> bool {
        self.live_until.is_some_and(|until| Instant::now() < until)
    }

    /// Changes of the stream came.
    pub(super) fn live(&mut self) {
        if !self.is_live() {
            // Pages were large before: what is right is found from below, with one that tells what a
            // page takes beside its rows.
            self.settleable = ROWS_WORTH;
            self.base = BASE_MAX;
        }
        self.live_until = Some(Instant::now() + LIVE_FOR);
    }

    /// The sink settled a page of so many rows.
    pub(super) fn settled(&mut self, rows: usize, took: Duration) {
        if rows == 0 {
            return;
        }
        self.base = self.base.min(took);
        let aim = if self.is_live() { LIVE_AIM.max(self.base) + self.base } else { ALONE_AIM };
        if took > aim {
            let fits = rows as f64 * aim.as_secs_f64() / took.as_secs_f64();
            // No more than halved by one page that was slow for another reason.
            let fits = (fits as usize).max(self.settleable / 2).max(ROWS_WORTH);
            self.settleable = self.settleable.min(fits);
        } else if rows >= self.settleable && took < aim / 2 {
            self.settleable = (self.settleable * 2).min(ROWS_MAX);
        } else if rows >= self.settleable && took < aim / 4 * 3 {
            self.settleable = (self.settleable + self.settleable / 8).min(ROWS_MAX);
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

    const SLOW: Duration = Duration::from_millis(50);

    #[tokio::test(start_paused = true)]
    async fn b168_a_page_shrinks_at_a_timeout_and_grows_while_it_is_fast() {
        let mut pace = Pace::new(1 << 30);
        assert_eq!(pace.rows(), 1_000);
        pace.timed_out();
        assert_eq!(pace.rows(), 500);
        pace.read(500, 500, FAST);
        assert_eq!(pace.rows(), 1_000);
        for _ in 0..10 {
            pace.read(pace.rows(), pace.rows(), FAST);
            pace.settled(pace.rows(), FAST);
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

    #[tokio::test(start_paused = true)]
    async fn b172_a_page_is_a_small_part_of_the_memory() {
        let mut pace = Pace::new(16 << 20);
        assert_eq!(pace.bytes_max(), 1 << 20);
        pace.read(1_000, 10 << 20, FAST);
        assert_eq!(pace.rows(), 100, "10 KiB a row, 1 MiB a page");
        pace.read(1, 1 << 30, FAST);
        assert_eq!(pace.rows(), 1);
        pace.read(1, 100, FAST);
        assert!(pace.rows() >= 1_000, "rows are small again");
    }

    /// A sink that takes `base` for a request and so much for a row; each page is read in no time,
    /// which allows the next one to be larger.
    fn settle(pace: &mut Pace, base: Duration, row: Duration, parts: usize) {
        for _ in 0..parts {
            let rows = pace.rows();
            pace.read(rows, rows, FAST);
            let rows = rows.min(pace.part_rows());
            pace.settled(rows, base + row * u32::try_from(rows).unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn b171_changes_behind_a_part_take_no_more_than_twice_as_long() {
        let row = Duration::from_micros(50);
        for base in [FAST, SLOW] {
            let mut pace = Pace::new(1 << 30);
            pace.live();
            settle(&mut pace, base, row, 30);
            let waits = row * u32::try_from(pace.part_rows()).unwrap();
            let alone = base + row * u32::try_from(ROWS_WORTH).unwrap();
            let most = alone.max(LIVE_AIM) + alone;
            assert!(base + waits <= most, "{base:?}: {waits:?} for {} rows", pace.part_rows());
            assert!(pace.part_rows() > ROWS_WORTH, "{base:?}: {}", pace.part_rows());
        }
        // A sink that becomes slower.
        let mut pace = Pace::new(1 << 30);
        pace.live();
        settle(&mut pace, FAST, row, 30);
        settle(&mut pace, FAST, Duration::from_millis(5), 30);
        assert_eq!(pace.part_rows(), ROWS_WORTH, "fewer gain nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn b171_pages_grow_while_nothing_comes_in_the_stream() {
        let (mut pace, row) = (Pace::new(1 << 30), Duration::from_micros(10));
        settle(&mut pace, FAST, row, 30);
        assert!(pace.rows() > 4_000, "100 ms: {}", pace.rows());
        pace.live();
        assert!(pace.is_live() && pace.part_rows() == ROWS_WORTH, "at once");
        assert_eq!(pace.rows(), ROWS_WORTH * PARTS_MAX, "a query is worth more than a part");
        tokio::time::sleep_until(Instant::now() + LIVE_FOR).await;
        assert!(!pace.is_live());
        settle(&mut pace, FAST, row, 30);
        assert!(pace.rows() > 4_000, "{}", pace.rows());
    }
}
