//! The port to a destination.

use std::time::Duration;

use crate::BoxFuture;
use crate::batch::{Batch, BatchPolicy};
use crate::route::{Route, RouteError};

/// A destination. One call, one attempt: retry, order, deadlines and backoff belong to the engine.
pub trait Sink: Send + Sync {
    /// Whether it holds the state of rows or a log of events.
    fn kind(&self) -> SinkKind;

    /// How it wants its batches cut.
    fn batch_policy(&self) -> BatchPolicy;

    /// Whether the destination can be reached and would accept messages. Writes nothing.
    ///
    /// # Errors
    /// What is wrong, for an operator.
    fn check(&self) -> BoxFuture<'_, Result<(), SinkError>>;

    /// Whether it can send a message where a router says: asked before the message is queued, also
    /// of a route without keys, which lacks what the sink has no default for.
    ///
    /// # Errors
    /// It takes no routes, or not this one. The message is put aside.
    fn check_route(&self, route: &Route) -> Result<(), RouteError> {
        let Some((field, _)) = route.keys().next() else { return Ok(()) };
        Err(RouteError {
            field: field.into(),
            message: "is no routing key of this sink".to_owned(),
        })
    }

    /// Sends the batch once and judges each message: as many verdicts as messages, in their order.
    ///
    /// # Errors
    /// The request as a whole failed: no message is known to be delivered.
    fn deliver<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Vec<Verdict>, SinkError>>;
}

/// What a destination holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkKind {
    /// One document per row: index, cache, table. A row that leaves the set is removed.
    State,
    /// A stream of events. A row that leaves the set is not mentioned.
    Log,
}

/// What became of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The destination has it.
    Delivered,
    /// There was nothing to do: the document that it would complete is not there.
    Skipped,
    /// The destination refused it.
    Rejected {
        /// Whether another attempt can help.
        retry: Retry,
        /// What it said, without row data.
        error: String,
    },
}

/// Whether another attempt can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Yes: after the delay the destination asked for, else by the sink's backoff.
    Later {
        /// What the destination asked for (`Retry-After`).
        after: Option<Duration>,
    },
    /// No: the message is put aside.
    Never,
}

/// A request failed as a whole.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct SinkError {
    /// What went wrong, without secrets and row data.
    pub message: String,
    /// Whether another attempt can help.
    pub retry: Retry,
}

impl SinkError {
    /// A failure that another attempt may not meet again.
    #[must_use]
    pub fn later(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry: Retry::Later { after: None } }
    }
}
