//! One row's change.

use std::sync::{Arc, OnceLock};

use crate::json;
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
    /// What the source said of the row when it was asked: a JSON object.
    pub enrichment: Option<Arc<str>>,
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
    rendered: Rendered,
}

/// Text that is the same in all messages of a transaction, made for the first of them. It is no part
/// of what the transaction is: all are equal.
#[derive(Clone, Debug, Default)]
struct Rendered(OnceLock<String>);

impl PartialEq for Rendered {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Rendered {}

impl Transaction {
    /// A transaction by its commit record, its id and its time.
    #[must_use]
    pub fn new(commit_lsn: Lsn, xid: u32, committed_at_us: i64) -> Self {
        Self { commit_lsn, xid, committed_at_us, rendered: Rendered::default() }
    }

    /// `"commit_timestamp":…,"commit_lsn":…,`.
    pub(crate) fn head(&self) -> &str {
        self.rendered.0.get_or_init(|| {
            // One allocation: there are transactions of one row. 70 bytes and up to 20 digits.
            let mut head = String::with_capacity(96);
            head.push_str("\"commit_timestamp\":\"");
            json::timestamp(&mut head, self.committed_at_us);
            head.push_str("\",\"commit_lsn\":");
            json::number(&mut head, self.commit_lsn.0);
            head.push(',');
            head
        })
    }
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
