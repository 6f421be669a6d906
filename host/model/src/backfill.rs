//! The port to whole tables: what a backfill reads, page by page, beside the stream.
//!
//! A page and the stream meet at a mark, a message that is written into the source's log after the
//! page was read. Of a row that the page has, the stream may have brought a change before the mark
//! that the page did not see yet. Which these are, the page's [`Snapshot`] tells: rows with such a
//! change leave the page. Whatever is not in the stream before the mark comes after the page's rows.

use std::sync::Arc;
use std::time::Duration;

use crate::BoxFuture;
use crate::page::Row;
use crate::relation::Relation;
use crate::source::SourceError;

/// Reads tables of one database.
pub trait Tables: Send + Sync {
    /// What reading this table would be like, and its ranges. Nothing is counted.
    ///
    /// # Errors
    /// It is not there, cannot be read by us, or not in this way (`backfill_no_key`, …).
    fn survey<'a>(&'a self, wanted: &'a Wanted) -> BoxFuture<'a, Result<Survey, SourceError>>;

    /// Reads the next page of a range.
    ///
    /// # Errors
    /// The source does not answer, or not to us; `backfill_timeout` if it took longer than asked.
    fn page<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<Page, SourceError>>;

    /// Writes a mark into the log of the source (its primary), in a transaction of its own. It
    /// comes in the stream as a [`crate::source::Mark`].
    ///
    /// # Errors
    /// It may have been written all the same.
    fn mark<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<(), SourceError>>;
}

/// Which tables there are.
pub trait Catalog: Send + Sync {
    /// All tables whose changes can be published: partitioned ones, and partitions too.
    ///
    /// # Errors
    /// The source does not answer, or not to us.
    fn tables(&self) -> BoxFuture<'_, Result<Vec<Named>, SourceError>>;
}

/// A table by oid and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Postgres' id of it.
    pub oid: u32,
    /// Schema, unquoted.
    pub schema: Arc<str>,
    /// Table, unquoted.
    pub table: Arc<str>,
    /// Whether it is a partition: its rows come with those of the table above it.
    pub is_partition: bool,
}

/// What is to be read of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Schema, unquoted.
    pub schema: Arc<str>,
    /// Table, unquoted. Of a partitioned one, all its partitions.
    pub table: Arc<str>,
    /// Read by this column instead of the key; rows in which it is null are not read.
    pub sort_column: Option<Arc<str>>,
    /// Only rows in which the sort column is at least this, as Postgres reads it from text.
    pub from: Option<Arc<str>>,
    /// Only rows of which this SQL expression is true.
    pub condition: Option<Arc<str>>,
    /// Into about how many ranges of keys it is to be cut (1 or more); tables whose key cannot be cut
    /// have fewer.
    pub ranges: usize,
}

/// What reading a table is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Postgres' id of the table.
    pub oid: u32,
    /// How it is paged.
    pub order: Order,
    /// About how many rows there are, by the server's statistics; None if it has none.
    pub rows_estimate: Option<u64>,
    /// What to read, each by itself: together all of it. At least one.
    pub ranges: Vec<Range>,
}

/// How a table is paged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By its primary key, or the unique index that identifies its rows.
    Key,
    /// By the sort column that was asked for, and then by the key.
    Column,
    /// By the place of its rows on disk: there is no key. A row that moves while it is read may be
    /// read twice, and one may be missed only if a change of it comes in the stream.
    Place,
}

/// A range of a table's rows. What is in it means something to the source alone; it outlives the
/// process as this text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Range(pub Arc<str>);

/// How far a range was read. What is in it means something to the source alone; it outlives the
/// process as this text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cursor(pub Arc<str>);

/// The question for a page.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Of which table, and which of its rows.
    pub wanted: Wanted,
    /// By the survey.
    pub order: Order,
    /// One of the survey's.
    pub range: Range,
    /// Behind this; None: from the true beginning of the range.
    pub after: Option<Cursor>,
    /// At most this many rows (1 or more).
    pub rows_max: usize,
    /// And of these no more than have about so many bytes, but one at least.
    pub bytes_max: usize,
    /// The server gives up after this time.
    pub timeout: Duration,
}

/// Rows as one snapshot of the source has them.
#[derive(Debug)]
pub struct Page {
    /// The table as it was read.
    pub relation: Arc<Relation>,
    /// In order; their values are those that the stream would bring.
    pub rows: Vec<Row>,
    /// The rows' memory, in bytes.
    pub bytes: usize,
    /// What they show.
    pub snapshot: Snapshot,
    /// Where the next page begins; None if this was the last one of its range.
    pub next: Option<Cursor>,
    /// How long the server took.
    pub took: Duration,
}

/// Which transactions a page shows: `pg_current_snapshot()`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// All below have ended.
    pub xmin: u64,
    /// None from here on had ended.
    pub xmax: u64,
    /// Those between that had not, rising.
    pub in_progress: Vec<u64>,
}

impl Snapshot {
    /// Whether a page shows what this transaction did, given that it has committed. `xid` is without
    /// its epoch, as streams have it: of two transactions that are compared, none is 2^31 older.
    #[must_use]
    pub fn shows(&self, xid: u32) -> bool {
        // The full id that is nearest to the snapshot's end.
        let near = |full: u64| {
            let low = xid.wrapping_sub(full as u32).cast_signed();
            full.wrapping_add_signed(i64::from(low))
        };
        self.shows_full(near(self.xmax))
    }

    fn shows_full(&self, full: u64) -> bool {
        full < self.xmax && (full < self.xmin || self.in_progress.binary_search(&full).is_err())
    }

    /// Whether it shows all that an earlier one shows. It may not, if another standby gave it.
    #[must_use]
    pub fn shows_all_of(&self, earlier: &Self) -> bool {
        self.xmax >= earlier.xmax && !self.in_progress.iter().any(|full| earlier.shows_full(*full))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_shows_what_had_ended() {
        let snapshot = Snapshot { xmin: 10, xmax: 20, in_progress: vec![10, 15] };
        let shown: Vec<u32> = (8..22).filter(|xid| snapshot.shows(*xid)).collect();
        assert_eq!(shown, [8, 9, 11, 12, 13, 14, 16, 17, 18, 19]);
    }

    #[test]
    fn b179_a_snapshot_of_a_standby_that_is_behind_does_not_show_all_of_an_earlier_one() {
        let earlier = Snapshot { xmin: 10, xmax: 20, in_progress: vec![10, 15] };
        let later = |xmin, xmax, in_progress| Snapshot { xmin, xmax, in_progress };
        assert!(earlier.shows_all_of(&earlier));
        assert!(later(15, 20, vec![15]).shows_all_of(&earlier));
        assert!(later(25, 25, vec![]).shows_all_of(&earlier));
        assert!(!later(10, 19, vec![10, 15]).shows_all_of(&earlier));
        assert!(!later(10, 21, vec![10, 12]).shows_all_of(&earlier));
    }

    #[test]
    fn ids_that_wrapped_around_are_compared_by_their_distance() {
        let epoch = 3_u64 << 32;
        let snapshot = Snapshot { xmin: epoch + 2, xmax: epoch + 5, in_progress: vec![epoch + 3] };
        assert!(snapshot.shows(u32::MAX), "of the epoch before");
        assert!(snapshot.shows(1) && snapshot.shows(2) && !snapshot.shows(3));
        assert!(snapshot.shows(4) && !snapshot.shows(5) && !snapshot.shows(1_000));
    }
}
