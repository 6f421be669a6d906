//! The ports to what outlives a process.

mod backfills;
mod letters;
mod rollouts;
mod scratch;

pub use letters::{
    Close, Counts, Edit, KeyPage, Letter, LetterBox, LetterId, LetterPage, LetterQuery,
    LetterState, Letters, Stage, StoredLetter,
};

use std::sync::Arc;

use crate::BoxFuture;
use crate::acks::Settled;
use crate::chunk::{RelationHash, Written};
use crate::lsn::Lsn;
use crate::position::Position;
use crate::source::Claim;

pub use rollouts::Rollouts;
pub use scratch::{Scrap, Scratch};

pub use backfills::{
    Backfill, BackfillCounts, BackfillLimits, BackfillRange, BackfillState, Backfills, TableName,
};

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
    fn confirmed<'a>(
        &'a self,
        origin: &'a str,
    ) -> BoxFuture<'a, Result<Option<Confirmed>, StoreError>>;

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
        confirmed: Option<Confirmed>,
    ) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// Whose a slot is.
pub trait Owners: Send + Sync {
    /// What this process says of a slot that it reads.
    fn claim(&self, slot: &str) -> Claim;

    /// The stream of a slot that was confirmed last, and up to where, with this store.
    ///
    /// # Errors
    /// The store cannot be read.
    fn last_stream<'a>(
        &'a self,
        slot: &'a str,
    ) -> BoxFuture<'a, Result<Option<(String, Lsn)>, StoreError>>;

    /// All streams of a slot that were ever confirmed with this store, the last one last.
    ///
    /// # Errors
    /// The store cannot be read.
    fn streams<'a>(&'a self, slot: &'a str) -> BoxFuture<'a, Result<Vec<String>, StoreError>>;

    /// What an operator has accepted of a slot; None if nothing.
    ///
    /// # Errors
    /// The store cannot be read.
    fn accepted<'a>(&'a self, slot: &'a str)
    -> BoxFuture<'a, Result<Option<Accepted>, StoreError>>;

    /// Our own claim came at this commit: what was accepted is what stands before it.
    ///
    /// # Errors
    /// It was not noted.
    fn accepted_until<'a>(
        &'a self,
        epoch: Epoch,
        slot: &'a str,
        until: Lsn,
    ) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// Whoever read a slot before us, an operator has said that we read it from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The commit of our first claim behind that; None if it has not come yet.
    pub until: Option<Lsn>,
}

/// How the parts of a system are and since when, so that a restart does not forget it.
pub trait HealthRecords: Send + Sync {
    /// All that was recorded.
    ///
    /// # Errors
    /// The store cannot be read.
    fn load(&self) -> BoxFuture<'_, Result<HealthRecord, StoreError>>;

    /// Replaces what is recorded of errors: each entity with the time since which it has one, in
    /// microseconds since 1970.
    ///
    /// # Errors
    /// Nothing was recorded.
    fn record(
        &self,
        epoch: Epoch,
        erroring: Vec<(String, i64)>,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// A notice about this subject of an entity is not to be shown any more, or again.
    ///
    /// # Errors
    /// It was not noted.
    fn dismiss<'a>(
        &'a self,
        epoch: Epoch,
        entity: &'a str,
        notice: &'a str,
        is_dismissed: bool,
    ) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// What is recorded of health.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthRecord {
    /// Entities and since when they have an error, in microseconds since 1970.
    pub erroring: Vec<(String, i64)>,
    /// Entities and the notices that somebody has dismissed.
    pub dismissed: Vec<(String, String)>,
}

/// What was recorded to be confirmed of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confirmed {
    /// Everything below is settled, or in the change log.
    pub lsn: Lsn,
    /// Up to where that was on the disk.
    pub log: Synced,
}

/// The change logs of a store, one for each stream.
pub trait ChangeLogs: Send + Sync {
    /// Opens the log of a stream, which is empty at first. Changes of transactions at or above
    /// `refetched` that earlier processes appended are void from now on: they come in the stream
    /// again. `synced` is the last [`ChangeLog::sync`] that is on record.
    ///
    /// # Errors
    /// It cannot be read or written; [`StoreError::Damaged`] if something is missing of what was
    /// synced.
    fn open<'a>(
        &'a self,
        epoch: Epoch,
        origin: &'a str,
        refetched: Lsn,
        synced: Option<Synced>,
    ) -> BoxFuture<'a, Result<Arc<dyn ChangeLog>, StoreError>>;

    /// Whether there is a log of this stream.
    ///
    /// # Errors
    /// That cannot be known.
    fn exists<'a>(&'a self, origin: &'a str) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Removes the log of a stream, which nobody needs and nobody has open.
    ///
    /// # Errors
    /// Some of it may still be there.
    fn forget<'a>(&'a self, epoch: Epoch, origin: &'a str)
    -> BoxFuture<'a, Result<(), StoreError>>;
}

/// The durable log of raw changes of one stream, in two parts. Writes show the epoch with which it
/// was opened.
pub trait ChangeLog: Send + Sync {
    /// Appends a chunk, with the relation versions that it needs as far as they are not there yet. It
    /// survives the end of the process when this returns, and a power cut once it is synced.
    ///
    /// # Errors
    /// Nothing was appended; [`StoreError::Full`] if there is no room for it.
    fn append(&self, part: Part, chunk: Written) -> BoxFuture<'_, Result<Address, StoreError>>;

    /// Brings all that was appended to the disk.
    ///
    /// # Errors
    /// It may not be there.
    fn sync(&self) -> BoxFuture<'_, Result<Synced, StoreError>>;

    /// The first chunk at or behind an address; None at the end.
    ///
    /// # Errors
    /// It cannot be read. Of a damaged place, [`StoreError::Damaged`] tells where to go on.
    fn read(&self, part: Part, from: Address) -> BoxFuture<'_, Result<Option<Logged>, StoreError>>;

    /// A relation version by its hash, as bytes.
    ///
    /// # Errors
    /// It is not there.
    fn relation(&self, hash: RelationHash) -> BoxFuture<'_, Result<Vec<u8>, StoreError>>;

    /// Nobody needs what is below this address.
    ///
    /// # Errors
    /// Some of it may still be there.
    fn trim(&self, part: Part, below: Address) -> BoxFuture<'_, Result<(), StoreError>>;

    /// What it takes on the disk, in bytes.
    fn bytes(&self) -> u64;

    /// Behind the last chunk of a part.
    fn end(&self, part: Part) -> Address;

    /// Where the first segment of a part ends: what can be trimmed next. None while there is but one.
    fn first_end(&self, part: Part) -> Option<Address>;
}

/// The parts of a change log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// What was not handed to its sinks: in the order of the stream.
    Stream,
    /// What was handed to its sinks and is not settled for long: in no order.
    Kept,
}

/// Where a chunk stands in a part of a change log: rises with each that is appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub u64);

/// Up to where the parts of a change log are on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Synced {
    /// Of [`Part::Stream`].
    pub stream: Address,
    /// Of [`Part::Kept`].
    pub kept: Address,
}

/// A chunk as it stands in a log.
#[derive(Clone, Debug)]
pub struct Logged {
    /// Where.
    pub address: Address,
    /// Where the next one begins.
    pub next: Address,
    /// The first and the last position in it.
    pub span: (Position, Position),
    /// Changes of transactions from here on are void: a later process fetched them again.
    pub void_from: Lsn,
    /// See [`crate::chunk`].
    pub bytes: Vec<u8>,
}

impl Logged {
    /// Whether a change in it is void.
    #[must_use]
    pub fn is_void(&self, at: Position) -> bool {
        at.commit_lsn >= self.void_from
    }
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
    /// There is no room on the disk.
    #[error("{0}")]
    Full(String),
    /// Something is missing of what was on the disk.
    #[error("{what}")]
    Damaged {
        /// What is missing, and where.
        what: String,
        /// Where the next chunk may begin that can be read.
        next: Address,
    },
    /// The store cannot do it now.
    #[error("{0}")]
    Unavailable(String),
}
