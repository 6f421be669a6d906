//! What was kept for a sink before it was started: of what earlier processes, or the version of it
//! before this one, had been handed.

use std::collections::BTreeMap;
use std::ops::RangeBounds;
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::chunk::Chunk;
use model::position::Position;
use model::store::{Address, Logged, Part, StoreError};
use tracing::error;

use super::{Owner, Spool};

/// Part of the change log cannot be read.
const DAMAGED: &str = "change_log_damaged";

/// Where in what is kept each position stands.
pub(super) type Kept = BTreeMap<Position, Address>;

/// What of it a sink has not been handed yet. While any is left here, its chunks are not trimmed.
#[derive(Debug, Default)]
pub(super) struct Before {
    /// None until it is known.
    kept: Mutex<Option<Kept>>,
    /// Held by who hands some of it over and by who brings it to another place: an address is good only
    /// as long.
    turn: tokio::sync::Mutex<()>,
}

/// See [`Before::turn`].
pub(super) type Turn<'a> = tokio::sync::MutexGuard<'a, ()>;

impl Before {
    /// There is none.
    pub(super) fn nothing() -> Self {
        Self { kept: Mutex::new(Some(Kept::new())), ..Self::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn turn(&self) -> Turn<'_> {
        self.turn.lock().await
    }

    /// None if another has it.
    pub(super) fn try_turn(&self) -> Option<Turn<'_>> {
        self.turn.try_lock().ok()
    }

    pub(super) fn is_known(&self) -> bool {
        self.lock().is_some()
    }

    pub(super) fn set(&self, _: &Turn<'_>, kept: Kept) {
        *self.lock() = Some(kept);
    }

    /// The first address that is needed for it: of all there is, until it is known.
    pub(super) fn first_address(&self) -> Option<Address> {
        match &*self.lock() {
            Some(kept) => kept.values().min().copied(),
            None => Some(Address::default()),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.lock().as_ref().map_or(0, Kept::len)
    }

    /// Whether some of it stands before a position; None: at all.
    pub(super) fn has_before(&self, position: Option<Position>) -> bool {
        let kept = self.lock();
        let first = kept.as_ref().and_then(Kept::first_key_value);
        first.is_some_and(|(first, _)| position.is_none_or(|position| *first < position))
    }

    /// The first of it within these positions, at most so many.
    pub(super) fn within(
        &self,
        _: &Turn<'_>,
        positions: impl RangeBounds<Position>,
        max: usize,
    ) -> Kept {
        let kept = self.lock();
        let Some(kept) = kept.as_ref() else { return Kept::new() };
        let found = kept.range(positions).take(max);
        found.map(|(position, address)| (*position, *address)).collect()
    }

    /// What stands below an address.
    pub(super) fn below(&self, _: &Turn<'_>, below: Address) -> Kept {
        let kept = self.lock();
        let all = kept.iter().flatten().map(|(position, address)| (*position, *address));
        all.filter(|(_, address)| *address < below).collect()
    }

    /// These are handed over, or nobody owes them.
    pub(super) fn remove(&self, _: &Turn<'_>, positions: impl IntoIterator<Item = Position>) {
        let mut kept = self.lock();
        let Some(kept) = kept.as_mut() else { return };
        for position in positions {
            kept.remove(&position);
        }
    }

    /// These stand at another address by now.
    pub(super) fn relocated(
        &self,
        _: &Turn<'_>,
        positions: impl IntoIterator<Item = Position>,
        to: Address,
    ) {
        let mut kept = self.lock();
        let Some(kept) = kept.as_mut() else { return };
        for position in positions {
            kept.insert(position, to);
        }
    }
}

/// The positions that stand at each address, rising if they were.
pub(super) fn by_address(
    kept: impl IntoIterator<Item = (Position, Address)>,
) -> BTreeMap<Address, Vec<Position>> {
    let mut addresses: BTreeMap<Address, Vec<Position>> = BTreeMap::new();
    for (position, address) in kept {
        addresses.entry(address).or_default().push(position);
    }
    addresses
}

impl Owner {
    /// The next chunk of a part, passing what is damaged; what is missing then is told.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(super) async fn next(
        &self,
        spool: &Spool,
        part: Part,
        mut from: Address,
    ) -> Result<Option<Logged>, StoreError> {
        loop {
            match spool.log.read(part, from).await {
                Err(StoreError::Damaged { what, next }) if next > from => {
                    self.tell_damage(&what);
                    from = next;
                    if part == Part::Stream {
                        self.backlog.passed(next);
                    }
                }
                read => return read,
            }
        }
    }

    /// Changes of this sink may be lost: nothing else in the engine loses any.
    pub(super) fn tell_damage(&self, what: &str) {
        let read = self.ledger.lock().offered().unwrap_or_default();
        let problem = format!(
            "{what}: changes of this sink behind position {} are lost that stood there; load its \
             tables again to have them",
            read.commit_lsn
        );
        if self.status.warnings.raise(DAMAGED, what, problem) {
            error!(sink.name = %self.sink, code = DAMAGED, what, "part of the change log is lost");
        }
    }

    /// What of a chunk the sink owes.
    pub(super) fn owes<'a>(&'a self, logged: &'a Logged) -> impl Fn(Position) -> bool + 'a {
        |at| !logged.is_void(at) && !self.ledger.lock().was_settled(at)
    }

    /// Finds out what was kept for it before it was started.
    ///
    /// # Errors
    /// The log cannot be read. What was found until then is forgotten.
    pub(super) async fn learn_kept(
        &self,
        spool: &Spool,
        turn: &Turn<'_>,
    ) -> Result<(), StoreError> {
        if self.backlog.before.is_known() {
            return Ok(());
        }
        let (mut kept, mut from) = (Kept::new(), Address::default());
        while let Some(logged) = self.next(spool, Part::Kept, from).await? {
            from = logged.next;
            let positions =
                Chunk::open(&logged.bytes).and_then(|chunk| chunk.positions_of(&self.sink));
            match positions {
                Ok(positions) => {
                    let owed = positions.into_iter().filter(|at| self.owes(&logged)(*at));
                    kept.extend(owed.map(|position| (position, logged.address)));
                }
                Err(error) => self.tell_damage(&error.to_string()),
            }
        }
        self.backlog.before.set(turn, kept);
        Ok(())
    }
}
