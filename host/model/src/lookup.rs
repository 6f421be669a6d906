//! The port to the present state of the source.

use std::sync::Arc;

use crate::BoxFuture;
use crate::page::Row;
use crate::relation::Relation;
use crate::source::SourceError;

/// Reads rows as they are now, by key and in batches.
pub trait Lookup: Send + Sync {
    /// The values of `columns` (indexes into the relation's) in the rows that have the keys of
    /// `rows`: as many answers as rows, in their order, each a row of just these columns. None for
    /// a row that is not there now or cannot be told by its key; [`crate::page::Value::Unchanged`]
    /// for a column that is gone, or is of another type by now.
    ///
    /// # Errors
    /// The source does not answer, or not to us.
    fn fetch<'a>(
        &'a self,
        relation: &'a Arc<Relation>,
        rows: &'a [Row],
        columns: &'a [usize],
    ) -> BoxFuture<'a, Result<Vec<Option<Row>>, SourceError>>;
}
