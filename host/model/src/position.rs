//! The total order of changes.

use crate::lsn::Lsn;

/// Where a change stands: the commit record of its transaction, then its ordinal among the changes
/// of that transaction.
///
/// Positions are the same each time the log is replayed, whatever sinks and filters there are, so
/// they are the base of idempotency keys. A row's own LSN would not do: the rows of one `COPY`
/// share it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// LSN of the commit record (pgoutput's `Begin.final_lsn`).
    pub commit_lsn: Lsn,
    /// Counts every row event of the transaction, from 0, before any selection.
    pub ordinal: u64,
}

impl Position {
    /// Before every change.
    pub const ZERO: Self = Self { commit_lsn: Lsn::ZERO, ordinal: 0 };

    /// The position of the `ordinal`th change of the transaction committed at `commit_lsn`.
    #[must_use]
    pub const fn new(commit_lsn: Lsn, ordinal: u64) -> Self {
        Self { commit_lsn, ordinal }
    }
}
