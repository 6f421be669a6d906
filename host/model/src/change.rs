//! One row's change.

use std::sync::Arc;

use crate::lsn::Lsn;
use crate::page::{Row, Value};
use crate::position::Position;
use crate::relation::Relation;

/// One row's insert, update, delete or backfill read, or a table's truncate.
#[derive(Clone, Debug)]
pub struct Change {
    /// Where it stands.
    pub position: Position,
    /// What happened.
    pub operation: Operation,
    /// The table at this place in the stream.
    pub relation: Arc<Relation>,
    /// The old row, as far as Postgres sent it: updates that changed the key or under full
    /// identity, and deletes.
    pub before: Option<Row>,
    /// The new row: inserts, updates and reads.
    pub after: Option<Row>,
    /// The transaction it belongs to.
    pub transaction: Arc<Transaction>,
    /// What its transaction said of the changes from some place on: JSON text, shared by them.
    pub annotations: Option<Arc<str>>,
    /// Columns of the new row that were not sent and were read from the source later: their values
    /// may be newer than the change. None is the usual case.
    pub fetched: Option<Arc<[usize]>>,
}

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A new row.
    Insert,
    /// A changed row.
    Update,
    /// A removed row.
    Delete,
    /// A row as a backfill found it.
    Read,
    /// All rows of the table removed at once.
    Truncate,
}

impl Operation {
    /// The word used in messages, configuration and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Read => "read",
            Self::Truncate => "truncate",
        }
    }
}

/// What the changes of one transaction share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// LSN of its commit record.
    pub commit_lsn: Lsn,
    /// Its id, without the epoch.
    pub xid: u32,
    /// When it committed by the source's clock, in microseconds since 1970.
    pub committed_at_us: i64,
}

impl Change {
    /// The row that stands for the change: the new one, or the old one of a delete.
    #[must_use]
    pub fn row(&self) -> Option<&Row> {
        self.after.as_ref().or(self.before.as_ref())
    }

    /// Columns of the new row that were not sent.
    pub fn unsent(&self) -> impl Iterator<Item = usize> + '_ {
        let columns = self.relation.columns.len();
        self.after.iter().flat_map(move |row| row.unsent(columns))
    }

    /// Takes values for columns that were not sent from `found`, a row of just `columns` as the
    /// source has it now.
    #[must_use]
    pub fn filled(self, columns: &[usize], found: &Row) -> Self {
        let Some(after) = &self.after else { return self };
        let taken: Vec<(usize, usize)> = columns
            .iter()
            .enumerate()
            .filter(|(at, column)| {
                after.value(**column) == Value::Unchanged && found.value(*at) != Value::Unchanged
            })
            .map(|(at, column)| (*column, at))
            .collect();
        if taken.is_empty() {
            return self;
        }
        let filled = after.completed(self.relation.columns.len(), found, &taken);
        let fetched = taken.into_iter().map(|(column, _)| column).collect();
        Self { after: Some(filled), fetched: Some(fetched), ..self }
    }
}
