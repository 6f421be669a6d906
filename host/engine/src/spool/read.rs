//! Reads from the change log what one sink owes, as far as it has room.
//!
//! What was left by earlier processes, or by the version of the sink before this one, comes first, by
//! its position: what was kept of what the sink had been handed, and then what had not come to it.
//! Then it follows what the slot appends for it, until nothing is left and the slot hands it its
//! changes directly.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::change::Change;
use model::chunk::Chunk;
use model::position::Position;
use model::store::{Address, Logged, Part, StoreError};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{Owner, Spool, discard};
use crate::budget::{Budget, Share};
use crate::fan_out::{Handed, Held, Portion};
use crate::ledger::Place;

/// Part of the change log cannot be read.
const DAMAGED: &str = "change_log_damaged";

/// Between attempts while the disk gives nothing.
const RETRY: Duration = Duration::from_secs(1);

/// Changes of what was kept that are handed over at once.
const KEPT_MAX: usize = 256;

/// What was kept of what a sink had been handed, by position.
type Kept = BTreeMap<Position, Address>;

/// Everything the reader of one sink works with.
pub(crate) struct Read {
    pub(crate) spool: Arc<Spool>,
    pub(crate) owner: Owner,
    pub(crate) share: Arc<Share>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) portions: mpsc::Sender<Portion>,
}

/// Nobody takes what is read any more.
struct Gone;

impl Read {
    /// Works until cancelled, or until the sink is gone.
    pub(crate) async fn run(self, cancelled: CancellationToken) {
        let _reading = self.owner.backlog.reading();
        tokio::select! {
            biased;
            () = cancelled.cancelled() => {}
            _gone = self.follow() => {}
        }
    }

    /// Never returns but when the sink is gone.
    async fn follow(&self) -> Result<(), Gone> {
        let mut kept = self.kept().await;
        // What this process appends comes behind it.
        let end = self.spool.log.end(Part::Stream);
        let mut caught_up = false;
        loop {
            let mut appended = std::pin::pin!(self.spool.appended.notified());
            appended.as_mut().enable();
            discard::pass(&self.spool, &self.owner).await;
            let at = self.owner.backlog.at(|| self.spool.log.end(Part::Stream));
            let logged = self.read(Part::Stream, at).await;
            if !caught_up && (logged.is_none() || at >= end) {
                self.hand_over_kept(&mut kept, None).await?;
                caught_up = true;
                self.owner.backlog.catch_up();
                self.spool.settled.notify_one();
            }
            match logged {
                Some(logged) if self.room().await? => {
                    let next = logged.next;
                    self.hand_over(&logged, &mut kept).await?;
                    self.owner.backlog.passed(next);
                }
                // Something is to be thrown away.
                Some(_) => {}
                None => {
                    tokio::select! {
                        () = appended => {}
                        () = self.owner.backlog.told() => {}
                    }
                }
            }
        }
    }

    /// Waits until the sink can hold more. False if something is to be thrown away instead.
    async fn room(&self) -> Result<bool, Gone> {
        loop {
            let mut share = std::pin::pin!(self.share.room());
            let mut budget = std::pin::pin!(self.budget.room());
            share.as_mut().enable();
            budget.as_mut().enable();
            // One that holds nothing may go on, whatever the others hold.
            let may_hold = self.budget.has_room() || self.share.used() == 0;
            if self.share.has_room() && may_hold {
                return tokio::select! {
                    place = self.portions.reserve() => place.map(|_| true).map_err(|_| Gone),
                    () = self.owner.backlog.told() => Ok(false),
                };
            }
            tokio::select! {
                () = share => {}
                () = budget => {}
                () = self.portions.closed() => return Err(Gone),
                () = self.owner.backlog.told() => return Ok(false),
            }
        }
    }

    /// The next chunk, passing what is damaged; what is missing then is told.
    async fn read(&self, part: Part, mut from: Address) -> Option<Logged> {
        loop {
            match self.spool.log.read(part, from).await {
                Ok(logged) => return logged,
                Err(StoreError::Damaged { what, next }) if next > from => {
                    self.tell_damage(&what);
                    from = next;
                    if part == Part::Stream {
                        self.owner.backlog.passed(next);
                    }
                }
                Err(error) => self.retry(&error).await,
            }
        }
    }

    async fn retry(&self, error: &StoreError) {
        warn!(sink.name = %self.owner.sink, %error, "the change log cannot be read; trying again");
        self.owner.status.waiting.set(format!("the change log cannot be read: {error}"));
        tokio::time::sleep_until(Instant::now() + RETRY).await;
        self.owner.status.waiting.set(None);
    }

    /// Changes of this sink may be lost: nothing else in the engine loses any.
    fn tell_damage(&self, what: &str) {
        let read = self.owner.ledger.lock().offered().unwrap_or_default();
        let problem = format!(
            "{what}: changes of this sink behind position {} are lost that stood there; load its \
             tables again to have them",
            read.commit_lsn
        );
        if self.owner.status.warnings.raise(DAMAGED, what, problem) {
            error!(sink.name = %self.owner.sink, code = DAMAGED, what, "part of the change log is lost");
        }
    }

    /// What of the chunk the sink owes.
    fn owes<'a>(&'a self, logged: &'a Logged) -> impl Fn(Position) -> bool + 'a {
        |at| !logged.is_void(at) && !self.owner.ledger.lock().was_settled(at)
    }

    /// What was kept of what the sink had been handed.
    async fn kept(&self) -> Kept {
        let (mut kept, mut from) = (Kept::new(), Address::default());
        while let Some(logged) = self.read(Part::Kept, from).await {
            from = logged.next;
            let positions =
                Chunk::open(&logged.bytes).and_then(|chunk| chunk.positions_of(&self.owner.sink));
            match positions {
                Ok(positions) => {
                    let owed = positions.into_iter().filter(|at| self.owes(&logged)(*at));
                    kept.extend(owed.map(|position| (position, logged.address)));
                }
                Err(error) => self.tell_damage(&error.to_string()),
            }
        }
        kept
    }

    /// The changes of a chunk that the sink owes and that are among `wanted`.
    async fn changes(
        &self,
        logged: &Logged,
        wanted: impl Fn(Position) -> bool,
    ) -> (Vec<Change>, usize) {
        let read = async {
            let chunk = Chunk::open(&logged.bytes).map_err(|error| error.to_string())?;
            let (log, known) = (self.spool.log.as_ref(), &self.spool.relations);
            let relations = loop {
                match known.find(log, chunk.relations()).await {
                    Ok(relations) => break relations,
                    Err(StoreError::Damaged { what, .. }) => return Err(what),
                    Err(error) => self.retry(&error).await,
                }
            };
            let owes = self.owes(logged);
            let changes = chunk.changes_of(&self.owner.sink, &relations, |position| {
                owes(position) && wanted(position)
            });
            changes.map_err(|error| error.to_string())
        };
        read.await.unwrap_or_else(|what| {
            self.tell_damage(&what);
            (Vec::new(), 0)
        })
    }

    /// Hands over what the sink owes of a chunk, and before it what was kept of what it had before.
    async fn hand_over(&self, logged: &Logged, kept: &mut Kept) -> Result<(), Gone> {
        let (low, high) = logged.span;
        let (mut changes, mut bytes) = self.changes(logged, |_| true).await;
        if changes.is_empty() {
            return Ok(());
        }
        self.hand_over_kept(kept, Some(low)).await?;
        let place = |position: Position, among: &Kept| match among.get(&position) {
            Some(address) => Place { part: Part::Kept, address: *address },
            None => Place { part: Part::Stream, address: logged.address },
        };
        // Seldom: of a sink of which more was open than a record holds.
        let mut among: Kept = kept.extract_if(low..=high, |_, _| true).collect();
        among.retain(|position, _| changes.iter().all(|change| change.position != *position));
        for (address, positions) in by_address(&among) {
            let Some(logged) = self.read(Part::Kept, address).await else { continue };
            let (more, of) = self.changes(&logged, |at| positions.contains(&at)).await;
            changes.extend(more);
            bytes += of;
        }
        changes.sort_by_key(|change| change.position);
        self.send(changes, bytes, |position| place(position, &among)).await
    }

    /// Hands over what was kept of what the sink had before a position, or all of it.
    async fn hand_over_kept(&self, kept: &mut Kept, below: Option<Position>) -> Result<(), Gone> {
        while let Some((first, _)) = kept.first_key_value()
            && below.is_none_or(|below| *first < below)
        {
            if !self.room().await? {
                continue;
            }
            let mut some = Kept::new();
            while some.len() < KEPT_MAX
                && let Some(entry) = kept.first_entry()
                && below.is_none_or(|below| *entry.key() < below)
            {
                let (position, address) = entry.remove_entry();
                some.insert(position, address);
            }
            let (mut changes, mut bytes) = (Vec::new(), 0);
            for (address, positions) in by_address(&some) {
                let Some(logged) = self.read(Part::Kept, address).await else { continue };
                let (more, of) = self.changes(&logged, |at| positions.contains(&at)).await;
                changes.extend(more);
                bytes += of;
            }
            changes.sort_by_key(|change| change.position);
            let place = |position: Position| {
                let address = some.get(&position).copied().unwrap_or_default();
                Place { part: Part::Kept, address }
            };
            self.send(changes, bytes, place).await?;
        }
        Ok(())
    }

    async fn send(
        &self,
        mut changes: Vec<Change>,
        bytes: usize,
        place: impl Fn(Position) -> Place,
    ) -> Result<(), Gone> {
        {
            let mut acks = self.owner.ledger.lock();
            changes.retain(|change| acks.admit_logged(change.position, place(change.position)));
        }
        if changes.is_empty() {
            return Ok(());
        }
        let picks = (0..changes.len()).collect::<Vec<_>>();
        let charge = self.budget.charge(bytes);
        let handed = Handed { changes, read_at: Instant::now(), bytes, _charge: charge };
        let held = Held::new(&Arc::new(handed), picks.len(), &self.share);
        self.portions.send(Portion { held, picks }).await.map_err(|_| Gone)
    }
}

/// The positions that stand at each address.
fn by_address(kept: &Kept) -> BTreeMap<Address, Vec<Position>> {
    let mut addresses: BTreeMap<Address, Vec<Position>> = BTreeMap::new();
    for (position, address) in kept {
        addresses.entry(*address).or_default().push(*position);
    }
    addresses
}
