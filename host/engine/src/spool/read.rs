//! Reads from the change log what one sink owes, as far as it has room.
//!
//! What was left by earlier processes, or by the version of the sink before this one, comes first, by
//! its position: what was kept of what the sink had been handed, and then what had not come to it.
//! Then it follows what the slot appends for it, until nothing is left and the slot hands it its
//! changes directly.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use model::change::Change;
use model::chunk::Chunk;
use model::position::Position;
use model::store::{Address, Logged, Part, StoreError};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::before::{Kept, by_address};
use super::{Owner, Spool, discard};
use crate::budget::{Budget, Share};
use crate::fan_out::{Handed, Held, Portion};
use crate::ledger::Place;

/// Between attempts while the disk gives nothing.
const RETRY: Duration = Duration::from_secs(1);

/// Changes of what was kept that are handed over at once.
const KEPT_MAX: usize = 256;

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
        self.learn_kept().await;
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
                if !self.hand_over_kept(None).await? {
                    continue;
                }
                caught_up = true;
                self.owner.backlog.catch_up();
                self.spool.settled.notify_one();
            }
            match logged {
                Some(logged) if self.room().await? => {
                    if self.hand_over(&logged).await? {
                        self.owner.backlog.passed(logged.next);
                    }
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

    /// The next chunk, waiting until the log can be read.
    async fn read(&self, part: Part, from: Address) -> Option<Logged> {
        loop {
            match self.owner.next(&self.spool, part, from).await {
                Ok(logged) => return logged,
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

    /// Finds out what was kept before.
    async fn learn_kept(&self) {
        loop {
            let turn = self.owner.backlog.before.turn().await;
            let learnt = self.owner.learn_kept(&self.spool, &turn).await;
            drop(turn);
            match learnt {
                Ok(()) => return,
                Err(error) => self.retry(&error).await,
            }
        }
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
            let owes = self.owner.owes(logged);
            let changes = chunk.changes_of(&self.owner.sink, &relations, |position| {
                owes(position) && wanted(position)
            });
            changes.map_err(|error| error.to_string())
        };
        read.await.unwrap_or_else(|what| {
            self.owner.tell_damage(&what);
            (Vec::new(), 0)
        })
    }

    /// Hands over what the sink owes of a chunk, and before it what was kept of what it had before.
    /// False if something is to be thrown away first.
    async fn hand_over(&self, logged: &Logged) -> Result<bool, Gone> {
        let (low, high) = logged.span;
        let (mut changes, mut bytes) = self.changes(logged, |_| true).await;
        if changes.is_empty() {
            return Ok(true);
        }
        if !self.hand_over_kept(Some(low)).await? {
            return Ok(false);
        }
        let before = &self.owner.backlog.before;
        let turn = before.turn().await;
        // Seldom: of a sink of which more was open than a record holds.
        let within = before.within(&turn, low..=high, usize::MAX);
        let mut among = within.clone();
        among.retain(|position, _| changes.iter().all(|change| change.position != *position));
        bytes += self.add_kept(&among, &mut changes).await;
        let place = |position: Position| match among.get(&position) {
            Some(address) => Place { part: Part::Kept, address: *address },
            None => Place { part: Part::Stream, address: logged.address },
        };
        self.admit(&mut changes, place);
        before.remove(&turn, within.into_keys());
        drop(turn);
        self.send(changes, bytes).await?;
        Ok(true)
    }

    /// Hands over what was kept of what the sink had before a position, or all of it. False if something
    /// is to be thrown away instead.
    async fn hand_over_kept(&self, below: Option<Position>) -> Result<bool, Gone> {
        let before = &self.owner.backlog.before;
        while before.has_before(below) {
            if !self.room().await? {
                return Ok(false);
            }
            let turn = before.turn().await;
            let until = below.map_or(Bound::Unbounded, Bound::Excluded);
            let some = before.within(&turn, (Bound::Unbounded, until), KEPT_MAX);
            let mut changes = Vec::new();
            let bytes = self.add_kept(&some, &mut changes).await;
            self.admit(&mut changes, |position| {
                let address = some.get(&position).copied().unwrap_or_default();
                Place { part: Part::Kept, address }
            });
            // By now the ledger sees to it that they are not trimmed.
            before.remove(&turn, some.into_keys());
            drop(turn);
            self.send(changes, bytes).await?;
        }
        Ok(true)
    }

    /// Adds changes that were kept to others: how many bytes were read for them.
    async fn add_kept(&self, kept: &Kept, changes: &mut Vec<Change>) -> usize {
        let mut bytes = 0;
        for (address, positions) in by_address(kept.iter().map(|(at, address)| (*at, *address))) {
            let Some(logged) = self.read(Part::Kept, address).await else { continue };
            let (more, of) = self.changes(&logged, |at| positions.contains(&at)).await;
            changes.extend(more);
            bytes += of;
        }
        changes.sort_by_key(|change| change.position);
        bytes
    }

    /// Only what the sink was not handed yet stays among the changes, and is open from now on.
    fn admit(&self, changes: &mut Vec<Change>, place: impl Fn(Position) -> Place) {
        let mut acks = self.owner.ledger.lock();
        changes.retain(|change| acks.admit_logged(change.position, place(change.position)));
    }

    async fn send(&self, changes: Vec<Change>, bytes: usize) -> Result<(), Gone> {
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
