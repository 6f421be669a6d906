//! The ports to what outlives a process.

use crate::BoxFuture;
use crate::acks::Settled;
use crate::lsn::Lsn;
use crate::position::Position;

/// Fencing token: each process that takes over a store gets a higher one, and writes that show a
/// lower one are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// How far each sink came.
pub trait Progress: Send + Sync {
    /// Whether a slot of this name was ever used with this store.
    ///
    /// # Errors
    /// The store cannot be read.
    fn is_known<'a>(&'a self, slot: &'a str) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Notes that the slot is used with this store, for good.
    ///
    /// # Errors
    /// It was not noted.
    fn remember<'a>(&'a self, epoch: Epoch, slot: &'a str)
    -> BoxFuture<'a, Result<(), StoreError>>;

    /// What is recorded for a sink of a stream; None if it is new.
    ///
    /// # Errors
    /// The store cannot be read.
    fn load<'a>(
        &'a self,
        origin: &'a str,
        sink: &'a str,
    ) -> BoxFuture<'a, Result<Option<Settled>, StoreError>>;

    /// The highest position of a stream that was recorded to be confirmed; None if there is none.
    /// What the server has may be less, if the confirmation did not arrive, and never more.
    ///
    /// # Errors
    /// The store cannot be read.
    fn confirmed<'a>(&'a self, origin: &'a str) -> BoxFuture<'a, Result<Option<Lsn>, StoreError>>;

    /// Records all of these, or none. With a position to be confirmed, all is on disk when this
    /// returns; a lower one than was recorded before changes nothing.
    ///
    /// # Errors
    /// Nothing was recorded.
    fn record<'a>(
        &'a self,
        epoch: Epoch,
        origin: &'a str,
        sinks: Vec<(String, Settled)>,
        confirmed: Option<Lsn>,
    ) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// Messages put aside.
pub trait Letters: Send + Sync {
    /// Keeps the letters for good: they are on disk when this returns. A letter of the same sink,
    /// origin, position and output replaces the earlier one.
    ///
    /// # Errors
    /// None of them is kept.
    fn bury(&self, epoch: Epoch, letters: Vec<Letter>) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// A message put aside, with all that is needed to understand it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The stream it came from.
    pub origin: String,
    /// The sink that could not deliver it.
    pub sink: String,
    /// Its place.
    pub position: Position,
    /// Its index among the outputs of its change.
    pub output: u32,
    /// The message as it came, or as it would have been sent, in JSON.
    pub input: String,
    /// Stable name of the reason, e.g. `plugin_deadline`.
    pub reason: String,
    /// What went wrong, with the guest's stack if there is one.
    pub error: String,
    /// The plugin it failed in, if it did: `sha256:…`.
    pub plugin: Option<String>,
    /// How often delivery was tried.
    pub attempts: u32,
}

/// The store refused.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process took over: this one must stop writing.
    #[error("another process took over this state with epoch {current}; ours is {ours}")]
    Fenced {
        /// The epoch we showed.
        ours: u64,
        /// The epoch in force.
        current: u64,
    },
    /// The store cannot do it now.
    #[error("{0}")]
    Unavailable(String),
}
