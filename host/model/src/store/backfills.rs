//! The port to what is known of backfills.

use std::sync::Arc;
use std::time::Duration;

use super::{Epoch, StoreError};
use crate::BoxFuture;
use crate::backfill::{Cursor, Order, Range, Wanted};

/// Schema and table, unquoted.
pub type TableName = (Arc<str>, Arc<str>);

/// Backfills, whatever became of them, and for which sinks the initial ones were begun.
pub trait Backfills: Send + Sync {
    /// All of them, the oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    fn all(&self) -> BoxFuture<'_, Result<Vec<Backfill>, StoreError>>;

    /// Keeps what is known of one: it is on disk when this returns.
    ///
    /// # Errors
    /// Nothing was kept.
    fn save(&self, epoch: Epoch, backfill: Backfill) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The tables (schema, table) that the sink was begun with; None if it is new.
    ///
    /// # Errors
    /// The store cannot be read.
    fn begun<'a>(
        &'a self,
        sink: &'a str,
    ) -> BoxFuture<'a, Result<Option<Vec<TableName>>, StoreError>>;

    /// The sink was begun with these tables, beside those that are known, and has these backfills:
    /// all or nothing, and on disk when this returns.
    ///
    /// # Errors
    /// Nothing was kept.
    fn begin<'a>(
        &'a self,
        epoch: Epoch,
        sink: &'a str,
        tables: Vec<TableName>,
        backfills: Vec<Backfill>,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// All sinks but these are gone: one that comes with such a name is a new one.
    ///
    /// # Errors
    /// They are still known.
    fn keep_sinks(
        &self,
        epoch: Epoch,
        sinks: Vec<Arc<str>>,
    ) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// A backfill: one table, for one sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backfill {
    /// Its id, a UUID.
    pub id: Arc<str>,
    /// The sink's name.
    pub sink: Arc<str>,
    /// The database's name in the configuration.
    pub database: Arc<str>,
    /// What is read.
    pub wanted: Wanted,
    /// How.
    pub limits: BackfillLimits,
    /// What became of it.
    pub state: BackfillState,
    /// Why it failed.
    pub error: Option<String>,
    /// How the table is paged; None until it was looked at.
    pub order: Option<Order>,
    /// About how many rows there are, as it was told then.
    pub rows_estimate: Option<u64>,
    /// Its parts; empty until the table was looked at.
    pub ranges: Vec<BackfillRange>,
    /// How much was done.
    pub counts: BackfillCounts,
    /// When it was asked for, in microseconds since 1970.
    pub created_us: i64,
    /// When anything of this was last another.
    pub updated_us: i64,
    /// When it was completed, cancelled, or failed.
    pub ended_us: Option<i64>,
}

/// How a backfill may go about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackfillLimits {
    /// The server may take as long for a page.
    pub page_timeout: Duration,
    /// No more rows in a second, on average; None: as fast as it goes.
    pub rows_per_second: Option<u32>,
    /// A table without a key may be read by the place of its rows.
    pub by_place: bool,
}

impl Default for BackfillLimits {
    fn default() -> Self {
        // The predecessor's timeout.
        let page_timeout = Duration::from_secs(5);
        Self { page_timeout, rows_per_second: None, by_place: false }
    }
}

/// A part of a backfill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackfillRange {
    /// By the survey.
    pub range: Range,
    /// Everything up to here is delivered; None: nothing yet.
    pub after: Option<Cursor>,
    /// All of it is delivered.
    pub done: bool,
    /// The keys of rows behind the cursor that are delivered already.
    pub beyond: Vec<String>,
}

/// How much a backfill did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackfillCounts {
    /// Rows read.
    pub read: u64,
    /// Rows that the stream had something newer of.
    pub evicted: u64,
    /// Rows that the sink has settled.
    pub delivered: u64,
}

/// What became of a backfill. The predecessor's states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackfillState {
    /// It runs, or waits for its turn.
    Active,
    /// It was told to wait.
    Paused,
    /// All was delivered.
    Completed,
    /// It cannot go on.
    Failed,
    /// It was told to end.
    Cancelled,
}

impl BackfillState {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Active, Self::Paused, Self::Completed, Self::Failed, Self::Cancelled];

    /// The word of the API and the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether nothing becomes of it any more.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// Whether it may become another.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Active => !matches!(next, Self::Active),
            Self::Paused => matches!(next, Self::Active | Self::Cancelled),
            Self::Completed | Self::Failed | Self::Cancelled => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b173_states_change_only_in_ways_that_make_sense() {
        use BackfillState::{Active, Cancelled, Completed, Failed, Paused};
        let allowed = [
            (Active, Paused),
            (Active, Completed),
            (Active, Failed),
            (Active, Cancelled),
            (Paused, Active),
            (Paused, Cancelled),
        ];
        for from in BackfillState::ALL {
            assert_eq!(BackfillState::from_word(from.as_str()), Some(from));
            for to in BackfillState::ALL {
                assert_eq!(from.may_become(to), allowed.contains(&(from, to)), "{from:?} {to:?}");
            }
        }
    }
}
