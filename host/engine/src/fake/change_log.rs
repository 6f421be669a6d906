//! A change log in memory. Each chunk is a segment; what was not synced is lost when it is opened
//! again, as after a power cut.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use model::BoxFuture;
use model::chunk::{RelationHash, Written};
use model::lsn::Lsn;
use model::position::Position;
use model::store::{Address, ChangeLog, ChangeLogs, Epoch, Logged, Part, StoreError, Synced};

/// All logs of a store.
#[derive(Default)]
pub(crate) struct Disk {
    logs: Mutex<HashMap<String, Arc<Mutex<State>>>>,
    faults: Arc<Mutex<Faults>>,
}

#[derive(Default)]
struct Faults {
    /// Nothing can be written.
    full: bool,
    /// No more bytes fit.
    room: Option<u64>,
    /// Nothing can be read.
    unreadable: bool,
    /// A sync takes so much longer.
    slow: std::time::Duration,
}

#[derive(Default)]
struct State {
    parts: [Chunks; 2],
    relations: HashMap<RelationHash, Vec<u8>>,
}

#[derive(Default)]
struct Chunks {
    all: BTreeMap<u64, Chunk>,
    next: u64,
    synced: u64,
}

#[derive(Clone)]
struct Chunk {
    span: (Position, Position),
    void_from: Lsn,
    bytes: Vec<u8>,
}

struct Open {
    state: Arc<Mutex<State>>,
    faults: Arc<Mutex<Faults>>,
}

fn index(part: Part) -> usize {
    match part {
        Part::Stream => 0,
        Part::Kept => 1,
    }
}

impl Disk {
    /// The disk has so many bytes.
    pub(crate) fn set_room(&self, bytes: u64) {
        self.faults.lock().unwrap().room = Some(bytes);
    }

    /// Each sync takes so much longer.
    pub(crate) fn set_slow(&self, slow: std::time::Duration) {
        self.faults.lock().unwrap().slow = slow;
    }

    /// Whether nothing can be read from now on.
    pub(crate) fn set_unreadable(&self, unreadable: bool) {
        self.faults.lock().unwrap().unreadable = unreadable;
    }

    /// Whether the disk is full from now on.
    pub(crate) fn set_full(&self, full: bool) {
        self.faults.lock().unwrap().full = full;
    }
}

impl Disk {
    /// Whether there is a log of this stream.
    pub(crate) fn has(&self, origin: &str) -> bool {
        self.logs.lock().unwrap().contains_key(origin)
    }

    /// The transactions of which a sink's changes are on the disk.
    pub(crate) fn commits_of(&self, origin: &str, sink: &str) -> HashSet<Lsn> {
        let Some(state) = self.logs.lock().unwrap().get(origin).map(Arc::clone) else {
            return HashSet::new();
        };
        let state = state.lock().unwrap();
        let synced = state.parts.iter().flat_map(|part| part.all.range(..part.synced));
        let commits = synced.flat_map(|(_, chunk)| {
            let positions = model::chunk::Chunk::open(&chunk.bytes).unwrap();
            let positions = positions.positions_of(sink).unwrap().into_iter();
            let void_from = chunk.void_from;
            positions.map(|at| at.commit_lsn).filter(move |at| *at < void_from)
        });
        commits.collect()
    }
}

impl ChangeLogs for Disk {
    fn open<'a>(
        &'a self,
        _: Epoch,
        origin: &'a str,
        refetched: Lsn,
        synced: Option<Synced>,
    ) -> BoxFuture<'a, Result<Arc<dyn ChangeLog>, StoreError>> {
        let state = Arc::clone(self.logs.lock().unwrap().entry(origin.to_owned()).or_default());
        {
            let mut state = state.lock().unwrap();
            for part in &mut state.parts {
                let synced = part.synced;
                part.all.retain(|at, _| *at < synced);
                for chunk in part.all.values_mut() {
                    chunk.void_from = chunk.void_from.min(refetched);
                }
            }
            let promised = synced.unwrap_or_default();
            let there = [promised.stream, promised.kept];
            for (part, promised) in state.parts.iter().zip(there) {
                assert!(part.synced >= promised.0, "what is on record was synced");
            }
        }
        let log: Arc<dyn ChangeLog> = Arc::new(Open { state, faults: Arc::clone(&self.faults) });
        Box::pin(async move { Ok(log) })
    }

    fn exists<'a>(&'a self, origin: &'a str) -> BoxFuture<'a, Result<bool, StoreError>> {
        let exists = self.has(origin);
        Box::pin(async move { Ok(exists) })
    }

    fn forget<'a>(&'a self, _: Epoch, origin: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.logs.lock().unwrap().remove(origin);
        Box::pin(async { Ok(()) })
    }
}

impl Open {
    /// Whether so many bytes more fit.
    fn writable(&self, bytes: usize) -> Result<(), StoreError> {
        let faults = self.faults.lock().unwrap();
        let is_full =
            faults.full || faults.room.is_some_and(|room| self.bytes() + bytes as u64 > room);
        if is_full { Err(StoreError::Full("full".into())) } else { Ok(()) }
    }
}

impl ChangeLog for Open {
    fn append(&self, part: Part, chunk: Written) -> BoxFuture<'_, Result<Address, StoreError>> {
        Box::pin(async move {
            // A disk takes a while, in which other tasks have their turn.
            tokio::task::yield_now().await;
            self.writable(chunk.bytes.len())?;
            let mut state = self.state.lock().unwrap();
            for (hash, relation) in chunk.relations {
                state.relations.insert(hash, relation.to_bytes());
            }
            let chunks = &mut state.parts[index(part)];
            let at = chunks.next;
            chunks.next += 1;
            let (span, void_from) = (chunk.span, Lsn(u64::MAX));
            chunks.all.insert(at, Chunk { span, void_from, bytes: chunk.bytes });
            Ok(Address(at))
        })
    }

    fn sync(&self) -> BoxFuture<'_, Result<Synced, StoreError>> {
        Box::pin(async move {
            let ends = self.state.lock().unwrap().parts.each_ref().map(|part| part.next);
            let now = tokio::time::Instant::now();
            let slow = self.faults.lock().unwrap().slow;
            tokio::time::sleep_until(now + slow + std::time::Duration::from_millis(3)).await;
            self.writable(0)?;
            let mut state = self.state.lock().unwrap();
            for (part, end) in state.parts.iter_mut().zip(ends) {
                part.synced = part.synced.max(end);
            }
            let [stream, kept] = ends.map(Address);
            Ok(Synced { stream, kept })
        })
    }

    fn read(&self, part: Part, from: Address) -> BoxFuture<'_, Result<Option<Logged>, StoreError>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            if self.faults.lock().unwrap().unreadable {
                return Err(StoreError::Unavailable("unreadable".into()));
            }
            let state = self.state.lock().unwrap();
            let found = state.parts[index(part)].all.range(from.0..).next();
            Ok(found.map(|(at, chunk)| Logged {
                address: Address(*at),
                next: Address(at + 1),
                span: chunk.span,
                void_from: chunk.void_from,
                bytes: chunk.bytes.clone(),
            }))
        })
    }

    fn relation(&self, hash: RelationHash) -> BoxFuture<'_, Result<Vec<u8>, StoreError>> {
        let found = self.state.lock().unwrap().relations.get(&hash).cloned();
        Box::pin(async move { Ok(found.unwrap()) })
    }

    fn trim(&self, part: Part, below: Address) -> BoxFuture<'_, Result<(), StoreError>> {
        self.state.lock().unwrap().parts[index(part)].all.retain(|at, _| *at >= below.0);
        Box::pin(async { Ok(()) })
    }

    fn bytes(&self) -> u64 {
        let state = self.state.lock().unwrap();
        let chunks = state.parts.iter().flat_map(|part| part.all.values());
        chunks.map(|chunk| chunk.bytes.len() as u64).sum()
    }

    fn end(&self, part: Part) -> Address {
        Address(self.state.lock().unwrap().parts[index(part)].next)
    }

    fn first_end(&self, part: Part) -> Option<Address> {
        let state = self.state.lock().unwrap();
        let first = state.parts[index(part)].all.first_key_value();
        first.map(|(at, _)| Address(at + 1))
    }
}
