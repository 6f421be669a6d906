//! The port to a replication slot.

use std::sync::Arc;

use crate::BoxFuture;
use crate::change::Change;
use crate::lsn::Lsn;
use crate::position::Position;
pub use crate::seen::{Held, Oldest, Seen};

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

    /// What the server keeps for the slot, for whoever wants to see it, also while the stream is not
    /// read. None if nobody asks the server.
    fn held(&self) -> Option<Held> {
        None
    }

    /// How many transactions were decoded for the slot before this stream was opened, by whomever.
    /// None where the server does not count them.
    fn decoded_before(&self) -> Option<u64> {
        None
    }

    /// Who reads the slot from now on: it is written into the log at once, now and then, and when
    /// the stream is closed in order, and comes back as a [`Changes::claims`] to whoever reads the
    /// slot then. A standby writes nothing.
    fn claim(&mut self, _claim: Claim) {}

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
    /// Who said to read a slot, in order, each with the commit that said so. Of a standby, whose log
    /// has what is said of its primary's slots too, only what is said of its own.
    pub claims: Vec<(Lsn, Claim)>,
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

/// An engine's word that a slot is its own, which it writes into the source's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The slot, since all slots of a database see the message.
    pub slot: Arc<str>,
    /// The data directory's own id, which it has from its making.
    pub instance: Arc<str>,
    /// How often the data directory was opened.
    pub epoch: u64,
    /// The process: it tells two copies of one data directory apart.
    pub run: u64,
}

impl Claim {
    /// Of the message that carries it.
    pub const PREFIX: &str = "sequin:instance";

    /// As it is written: slot, epoch, process and instance, with a space between.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Self { slot, instance, epoch, run } = self;
        format!("{slot} {epoch} {run:x} {instance}")
    }

    /// None if it is not what an engine of any version writes.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(text).ok()?.splitn(4, ' ');
        let (slot, epoch, run) = (parts.next()?, parts.next()?, parts.next()?);
        let instance = parts.next().filter(|instance| !instance.is_empty())?;
        let (epoch, run) = (epoch.parse().ok()?, u64::from_str_radix(run, 16).ok()?);
        Some(Self { slot: slot.into(), instance: instance.into(), epoch, run })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_read_as_it_was_written_and_nothing_else_is_one() {
        let claim = Claim { slot: "s_1".into(), instance: "a b".into(), epoch: 7, run: 0xfe };
        assert_eq!(claim.to_text(), "s_1 7 fe a b");
        assert_eq!(Claim::read(claim.to_text().as_bytes()), Some(claim));
        for text in ["", "s", "s 1 2", "s 1 2 ", "s x 2 i", "s 1 x i", "s -1 2 i"] {
            assert_eq!(Claim::read(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Claim::read(&[0xff, b' ', b'1']), None);
    }
}
