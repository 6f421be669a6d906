//! The port to a destination.

use std::sync::Arc;
use std::time::Duration;

use crate::BoxFuture;
use crate::batch::{Batch, BatchPolicy};
use crate::pull::Pull;
use crate::route::{Route, RouteError};

/// A destination. One call, one attempt: retry, order, deadlines and backoff belong to the engine.
pub trait Sink: Send + Sync {
    /// Whether it holds the state of rows or a log of events.
    fn kind(&self) -> SinkKind;

    /// How it wants its batches cut. It is asked before each batch, and what it learned of its
    /// destination may change the answer; `grouping` and `one_route` stay as they are.
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
    /// The request as a whole failed: no message is known to be delivered. Where it is said to be a
    /// matter of what was sent, the engine sends it again in halves, until what is refused is alone.
    fn deliver<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Vec<Verdict>, SinkError>>;

    /// The stream, if consumers fetch the messages. A delivery then lasts until a consumer has
    /// acknowledged its messages, however long that is, or until the stream is stopped.
    fn pull(self: Arc<Self>) -> Option<Arc<dyn Pull>> {
        None
    }
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
    /// It was not sent: it stays where it is, and no attempt is counted.
    Untried,
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

/// Whose matter it is that a request failed as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The destination cannot be reached, or can do nothing for anybody now: no connection, no answer
    /// in time, 429, 5xx, a full disk. It comes back by itself.
    Unreachable,
    /// The destination is there and takes nothing from us until somebody acts: credentials, a name,
    /// an address.
    Misconfigured,
    /// What was sent: some message of it, nobody knows which.
    Refused,
    /// It was too large; fewer messages may pass.
    TooLarge,
}

impl Failure {
    /// Whether other messages would have met it too, as far as this one request tells.
    #[must_use]
    pub const fn is_outage(self) -> bool {
        matches!(self, Self::Unreachable | Self::Misconfigured)
    }
}

/// A request failed as a whole.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct SinkError {
    /// What went wrong, without secrets and row data.
    pub message: String,
    /// Whether another attempt can help. It cannot if a message is too large; it always can if the
    /// destination is out of reach.
    pub retry: Retry,
    /// Whose matter it is.
    pub failure: Failure,
}

impl SinkError {
    /// What was sent was refused, and another attempt may not meet that again.
    #[must_use]
    pub fn later(message: impl Into<String>) -> Self {
        Self::new(Failure::Refused, message)
    }

    /// The destination is away.
    #[must_use]
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new(Failure::Unreachable, message)
    }

    /// Somebody must act.
    #[must_use]
    pub fn misconfigured(message: impl Into<String>) -> Self {
        Self::new(Failure::Misconfigured, message)
    }

    /// What was sent is too large: fewer messages may pass, one alone is put aside.
    #[must_use]
    pub fn too_large(message: impl Into<String>) -> Self {
        let message = message.into();
        Self { message, retry: Retry::Never, failure: Failure::TooLarge }
    }

    fn new(failure: Failure, message: impl Into<String>) -> Self {
        Self { message: message.into(), retry: Retry::Later { after: None }, failure }
    }
}
