//! The ports to what outlives a process.

mod letters;

pub use letters::{
    Close, Counts, Edit, Letter, LetterBox, LetterId, LetterPage, LetterQuery, LetterState, Letters,
    Stage, StoredLetter,
};

use crate::BoxFuture;
use crate::acks::Settled;
use crate::lsn::Lsn;

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
    /// What was asked for is not there, or cannot be done to it.
    #[error("{0}")]
    Refused(String),
    /// The store cannot do it now.
    #[error("{0}")]
    Unavailable(String),
}
