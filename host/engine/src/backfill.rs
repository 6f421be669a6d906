//! Backfills: whole tables, read beside the stream, for one sink each.
//!
//! A page is read, then a mark is written into the source's log, and when the mark comes in the
//! stream the page's rows are handed to the sink at its place, without those of which the stream
//! brought something that the page does not show. So what a sink is told last of a row is the
//! newest, and nothing is locked or held for long.
//!
//! The slot's task notes what the stream brings ([`registry`], [`notes`]) and hands over
//! ([`arrive()`]); a task for each backfill reads ([`job`], [`range`]); one for each stream starts them
//! ([`conductor`]), also for new sinks and tables ([`initial`]). What becomes of them is kept in the
//! store ([`control`]).

mod arrive;
mod conductor;
mod control;
mod initial;
mod job;
mod notes;
mod pace;
mod range;
mod registry;

use model::relation::{Identity, Relation, Rendered};
use model::source::SourceError;

pub(crate) use arrive::arrive;
pub(crate) use conductor::Conductor;
pub use conductor::Source;
pub use control::{Backfills, Refused, Request, Shown};
pub(crate) use control::{Facts, cancel_without_sink, uuid};
pub use initial::{Initial, InitialTable, InitialTables};
pub(crate) use registry::{Registry, View};

/// Backfills of one database that run at once; others wait for their turn.
const TABLES_AT_ONCE: usize = 4;
/// Pages of one database that are read at once, each on a session of its own.
const PAGES_AT_ONCE: usize = 3;
/// Ranges of one backfill that are read at once.
const RANGES_AT_ONCE: usize = 3;

/// What the source says, as it is kept of a backfill that failed.
fn told(error: &SourceError) -> String {
    match error {
        SourceError::Definite { code, .. } => format!("{code}: {error}"),
        SourceError::Transient(reason) => reason.clone(),
    }
}

/// A table by its name alone, for choices.
fn relation_of(oid: u32, schema: &str, table: &str) -> Relation {
    Relation {
        oid,
        schema: schema.into(),
        table: table.into(),
        ancestors: Vec::new(),
        identity: Identity::Default,
        columns: Vec::new(),
        rendered: Rendered::default(),
    }
}
