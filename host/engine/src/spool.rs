//! The change log of one slot while it streams: what is written to it, by whom it is read, what is
//! thrown away.
//!
//! Three kinds of tasks work with it. One writes what the slot has for sinks that are behind
//! ([`write`]). One keeps what sinks were handed and have not settled for long, trims what nobody
//! needs, and acts at the limit ([`keep`]). And each sink reads what it owes, as far as it has room
//! ([`read`]).

pub(crate) mod backlog;
mod before;
mod discard;
pub(crate) mod keep;
pub(crate) mod read;
mod relations;
pub(crate) mod write;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use model::position::Position;
use model::store::{Address, ChangeLog, Part, Synced};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::budget::Share;
use crate::fan_out::ToLog;
use crate::ledger::Ledger;
use crate::spec::OnFull;
use crate::status::{SinkStatus, SlotStatus};

use backlog::Backlog;
pub(crate) use relations::Relations;

/// Batches on their way to the log. Each is a page of the stream and charged for, so few may wait.
pub(crate) const TO_LOG_MAX: usize = 8;

/// What is read at once may come in so many batches more than one, cut by marks.
pub(crate) const PIECES_MAX: usize = 3;

/// A sink that may need something of the log.
#[derive(Clone)]
pub(crate) struct Owner {
    pub(crate) sink: Arc<str>,
    pub(crate) status: Arc<SinkStatus>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) backlog: Arc<Backlog>,
    pub(crate) on_full: OnFull,
    /// What it may hold in memory, while it runs.
    pub(crate) share: Weak<Share>,
}

/// What went to the log and is not on the disk.
#[derive(Debug, Default)]
struct Unsynced {
    /// The first position of each batch that waits for it.
    waiting: VecDeque<Position>,
    /// The first position that the log did not take: nothing is confirmed past it in this run.
    refused: Option<Position>,
}

/// The change log of one stream and what its tasks share.
pub(crate) struct Spool {
    pub(crate) log: Arc<dyn ChangeLog>,
    pub(crate) relations: Relations,
    pub(crate) status: Arc<SlotStatus>,
    /// No more may be in the log, in bytes.
    pub(crate) bytes_max: u64,
    /// Tells the slot that a confirmation may have become possible, or reading.
    pub(crate) settled: Arc<Notify>,
    /// Once nothing more comes.
    pub(crate) stop: CancellationToken,
    to_log: mpsc::Sender<ToLog>,
    unsynced: Mutex<Unsynced>,
    /// What is on the disk.
    synced: (AtomicU64, AtomicU64),
    /// Tells the readers that there is more.
    appended: Notify,
    /// Everybody who may need something of it.
    owners: Mutex<Vec<Owner>>,
    /// How many are bringing something to what is kept that no ledger knows yet.
    keeping: AtomicUsize,
    /// Changes that were brought to what is kept, in this run.
    kept: AtomicU64,
    /// Tells who looks after the log that it has reached its limit, and who writes that it has room.
    over: Notify,
    trimmed: Notify,
}

impl Spool {
    pub(crate) fn new(
        log: Arc<dyn ChangeLog>,
        status: Arc<SlotStatus>,
        bytes_max: u64,
        settled: Arc<Notify>,
    ) -> (Arc<Self>, mpsc::Receiver<ToLog>) {
        let (to_log, queue) = mpsc::channel(TO_LOG_MAX + PIECES_MAX);
        let spool = Self {
            log,
            relations: Relations::default(),
            status,
            bytes_max,
            settled,
            stop: CancellationToken::new(),
            to_log,
            unsynced: Mutex::default(),
            synced: (AtomicU64::new(0), AtomicU64::new(0)),
            appended: Notify::new(),
            owners: Mutex::default(),
            keeping: AtomicUsize::new(0),
            kept: AtomicU64::new(0),
            over: Notify::new(),
            trimmed: Notify::new(),
        };
        (Arc::new(spool), queue)
    }

    fn unsynced(&self) -> MutexGuard<'_, Unsynced> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing was ever written to it.
    pub(crate) fn is_empty(&self) -> bool {
        [Part::Stream, Part::Kept].iter().all(|part| self.log.end(*part) == Address::default())
    }

    /// Whether it takes another batch.
    pub(crate) fn has_room(&self) -> bool {
        self.to_log.capacity() > PIECES_MAX
    }

    /// Takes a batch. False if there was no room, or the log is gone: then nothing of it may be
    /// confirmed any more.
    pub(crate) fn take(&self, to_log: ToLog) -> bool {
        let Some(first) = to_log.first() else { return true };
        // Before it is sent, so that it is not synced first.
        self.unsynced().waiting.push_back(first);
        let is_sent = self.to_log.try_send(to_log).is_ok();
        if !is_sent {
            let mut unsynced = self.unsynced();
            unsynced.waiting.pop_back();
            unsynced.refused = Some(unsynced.refused.map_or(first, |known| known.min(first)));
        }
        is_sent
    }

    /// The first position that went to the log and is not on the disk.
    pub(crate) fn first_unsynced(&self) -> Option<Position> {
        let unsynced = self.unsynced();
        [unsynced.waiting.front().copied(), unsynced.refused].into_iter().flatten().min()
    }

    /// What of the log is on the disk.
    pub(crate) fn synced(&self) -> Synced {
        let (stream, kept) = &self.synced;
        Synced {
            stream: Address(stream.load(Ordering::Acquire)),
            kept: Address(kept.load(Ordering::Acquire)),
        }
    }

    fn set_synced(&self, synced: Synced) {
        self.synced.0.fetch_max(synced.stream.0, Ordering::Release);
        self.synced.1.fetch_max(synced.kept.0, Ordering::Release);
    }

    fn lock_owners(&self) -> MutexGuard<'_, Vec<Owner>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owners(&self) -> Vec<Owner> {
        self.lock_owners().clone()
    }

    /// This sink may need something of the log; another of its name does not any more.
    pub(crate) fn add_owner(&self, owner: Owner) {
        let mut owners = self.lock_owners();
        owners.retain(|known| known.sink != owner.sink);
        owners.push(owner);
    }

    /// This sink needs nothing any more.
    pub(crate) fn remove_owner(&self, sink: &str) {
        self.lock_owners().retain(|known| *known.sink != *sink);
    }

    /// The first address of a part that a sink needs; None if it needs nothing of it.
    fn needed_by(&self, owner: &Owner, part: Part) -> Option<Address> {
        let at = match part {
            Part::Stream => Some(owner.backlog.at(|| self.log.end(part))),
            Part::Kept => owner.backlog.before.first_address(),
        };
        [at, owner.ledger.first_place(part)].into_iter().flatten().min()
    }

    /// While this is held, nothing of what is kept is trimmed.
    fn keeping(&self) -> Keeping<'_> {
        self.keeping.fetch_add(1, Ordering::SeqCst);
        Keeping(self)
    }

    fn is_keeping(&self) -> bool {
        self.keeping.load(Ordering::SeqCst) > 0
    }

    /// Whether there is as much in the log as may be.
    fn is_over(&self) -> bool {
        self.log.bytes() > self.bytes_max
    }

    /// Where a sink begins that is started in the place of another: at the first chunk that it may
    /// need.
    pub(crate) fn begin_behind(&self, ledger: &Ledger, backlog: &Backlog) -> Address {
        let at = backlog.at(|| self.log.end(Part::Stream));
        ledger.first_place(Part::Stream).map_or(at, |place| place.min(at))
    }
}

/// See [`Spool::keeping`].
struct Keeping<'a>(&'a Spool);

impl Drop for Keeping<'_> {
    fn drop(&mut self) {
        self.0.keeping.fetch_sub(1, Ordering::SeqCst);
    }
}
