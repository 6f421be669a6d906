//! The port to a replication slot.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::BoxFuture;
use crate::change::Change;
use crate::lsn::Lsn;
use crate::position::Position;

/// Opens the slot, as often as its stream breaks.
pub trait Connect: Send + Sync {
    /// Connects, makes what may be made (publication, and the slot as far as `missing` allows), and
    /// starts the stream at the slot's confirmed position.
    fn connect(&self, missing: Missing) -> BoxFuture<'_, Result<Box<dyn Source>, SourceError>>;
}

/// What to do about a slot that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It was never used: it is created, if the configuration allows it.
    Create,
    /// It was used before, so what was written since is lost: an error, never a new slot that
    /// pretends to go on.
    Refuse,
}

/// One open stream.
pub trait Source: Send {
    /// What tells this stream from one whose positions mean something else: system identifier,
    /// timeline, database, slot and publication. Positions of different origins cannot be compared.
    fn origin(&self) -> &str;

    /// The server's position when the stream was opened. No recorded position of this origin may
    /// be beyond it. None for a standby: after its own restart it replays what it had before.
    fn server_position(&self) -> Option<Lsn>;

    /// Where the slot stood when the stream was opened: what is below is gone from it, whoever
    /// confirmed it.
    fn slot_position(&self) -> Lsn;

    /// How much of its log the server keeps for the slot, for whoever wants to see it, also while the
    /// stream is not read. None if nobody asks the server.
    fn held(&self) -> Option<Held> {
        None
    }

    /// The next event, in commit order. Cancel-safe: a dropped call loses nothing.
    ///
    /// # Errors
    /// The stream is broken and this source is of no further use.
    fn next(&mut self) -> BoxFuture<'_, Result<Event, SourceError>>;

    /// Tells the server that everything below `flushed` is settled. Never waits for the network:
    /// the stream sends it on its own clock.
    fn confirm(&mut self, flushed: Lsn);

    /// Sends the last confirmed position and closes the stream in order.
    ///
    /// # Errors
    /// The position may not have reached the server.
    fn close(self: Box<Self>) -> BoxFuture<'static, Result<(), SourceError>>;
}

/// Bytes of log that a server keeps for a slot, as last seen. Clones share it.
#[derive(Clone, Debug)]
pub struct Held(Arc<AtomicU64>);

impl Held {
    /// No log is as long.
    const UNKNOWN: u64 = u64::MAX;

    /// The server has said so.
    pub fn set(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    /// None if the server has not been asked yet.
    #[must_use]
    pub fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|bytes| *bytes != Self::UNKNOWN)
    }
}

impl Default for Held {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(Self::UNKNOWN)))
    }
}

/// What a stream hands over.
#[derive(Debug)]
pub enum Event {
    /// Changes, and the transactions that ended among or after them.
    Changes(Changes),
    /// Nothing below this position is still to come, and no transaction is open.
    Idle(Lsn),
}

/// A batch of changes of one or more transactions.
#[derive(Debug, Default)]
pub struct Changes {
    /// In order.
    pub changes: Vec<Change>,
    /// The transactions that ended, in order: all their changes are in this batch or came before.
    pub commits: Vec<Commit>,
    /// The marks that came among the changes, in order.
    pub marks: Vec<Mark>,
    /// The memory that the batch takes, in bytes.
    pub bytes: usize,
}

/// A mark that was written with [`crate::backfill::Tables::mark`], as the only thing of its
/// transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its place: rows that are handed over at it have its commit, and ordinals behind its own.
    pub position: Position,
    /// How many of the batch's changes come before it.
    pub before: usize,
    /// Its transaction, without the epoch: a page that shows it shows, on a standby, all that was
    /// committed before it.
    pub xid: u32,
    /// What it says.
    pub text: Arc<str>,
}

/// The end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// LSN of the commit record.
    pub commit_lsn: Lsn,
    /// One past it: what to confirm once the transaction is settled.
    pub end_lsn: Lsn,
}

/// A stream could not be opened or broke.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The same call may succeed later: the server is restarting, the network broke.
    #[error("{0}")]
    Transient(String),
    /// Somebody must act: wrong password, missing slot, missing right. `code` is stable.
    #[error("{message} (fix: {help})")]
    Definite {
        /// Stable name of the condition, e.g. `slot_missing`.
        code: &'static str,
        /// What is wrong.
        message: String,
        /// What to do about it.
        help: String,
    },
}
