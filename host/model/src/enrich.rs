//! The port to what the source knows of a row beside the row itself.

use std::sync::Arc;

use crate::BoxFuture;
use crate::page::Row;
use crate::relation::Relation;
use crate::source::SourceError;

/// Asks the source about rows, by key and in batches.
pub trait Enrich: Send + Sync {
    /// The name it has in the configuration.
    fn name(&self) -> &str;

    /// Whether it can be asked at all, as far as that shows without a row.
    ///
    /// # Errors
    /// The source does not answer, or does not take the question.
    fn check(&self) -> BoxFuture<'_, Result<(), SourceError>>;

    /// What there is about each of `rows` now: as many answers as rows, in their order. Equal keys
    /// are asked about once.
    ///
    /// # Errors
    /// The source does not answer, or does not take the question: no row is at fault.
    fn enrich<'a>(
        &'a self,
        relation: &'a Arc<Relation>,
        rows: &'a [Row],
    ) -> BoxFuture<'a, Result<Vec<Enriched>, SourceError>>;
}

/// What there is about one row: a JSON object, or nothing; or why this row got no answer.
pub type Enriched = Result<Option<Arc<str>>, RowRefused>;

/// One row got no answer, and another attempt does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RowRefused(pub String);
