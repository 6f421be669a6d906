//! Looks after the change log: keeps what sinks were handed and have not settled for long, trims what
//! nobody needs, and acts when there is too much of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::change::Change;
use model::chunk::{Chunk, Writer};
use model::position::Position;
use model::store::{Address, Logged, Part};
use tokio::time::Instant;
use tracing::{error, info};

use super::before::by_address;
use super::write::{CHUNK_BYTES, retry, try_append, try_sync};
use super::{Owner, Spool, discard};
use crate::budget::Budget;
use crate::ledger::{Ledger, Place};
use crate::spec::OnFull;

/// How often.
const INTERVAL: Duration = Duration::from_millis(100);
/// What a sink has not settled for as long goes to the log, so that the slot can be confirmed past
/// it: a message that waits for its next attempt must not make the source keep its log.
const OPEN_MAX: Duration = Duration::from_secs(10);
/// As long while more than half of the budget is used, or of the sink's share of it: what is open keeps
/// the whole batch in memory that it came with.
const OPEN_MAX_PRESSED: Duration = Duration::from_millis(250);

/// The change log has reached its limit, and a sink needs all of it that may not lose anything.
const FULL: &str = "change_log_full";

/// Works until the spool is stopped.
pub(crate) async fn run(spool: Arc<Spool>, budget: Arc<Budget>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut round = Round::default();
    loop {
        tokio::select! {
            biased;
            () = spool.stop.cancelled() => return,
            _ = ticks.tick() => {}
            () = spool.over.notified() => {}
        }
        let all_are_pressed = budget.used() > budget.bytes_max() / 2;
        let now = Instant::now();
        let owners = spool.owners();
        for owner in &owners {
            let is_pressed = || owner.share.upgrade().is_some_and(|share| share.is_pressed());
            let patience =
                if all_are_pressed || is_pressed() { OPEN_MAX_PRESSED } else { OPEN_MAX };
            if let Some(before) = now.checked_sub(patience) {
                // Not waited for while the disk takes nothing: what is trimmed below makes room.
                keep(&spool, &owner.sink, &owner.ledger, before).await;
            }
        }
        limit(&spool, &owners, &mut round).await;
        for part in [Part::Stream, Part::Kept] {
            // As they are now: of those from before one may have given way to another version, and what
            // was appended for that since is not known to be needed by the one before.
            let end = spool.log.end(part);
            if part == Part::Kept && spool.is_keeping() {
                continue;
            }
            let owners = spool.owners();
            let needed = owners.iter().filter_map(|owner| spool.needed_by(owner, part)).min();
            let below = needed.map_or(end, |needed| needed.min(end));
            if spool.log.first_end(part).is_some_and(|first| first <= below)
                && let Err(error) = spool.log.trim(part, below).await
            {
                error!(slot.name = %spool.status.name, %error, "the change log cannot be trimmed; trying again");
            }
        }
        if !spool.is_over() {
            spool.trimmed.notify_waiters();
        }
        spool.status.log_bytes.set(spool.log.bytes());
    }
}

/// As [`keep`] of all that a sink owes, trying until it is there. None if the spool is stopped before.
pub(crate) async fn keep_all(spool: &Spool, sink: &Arc<str>, ledger: &Ledger) -> Option<()> {
    while keep(spool, sink, ledger, Instant::now()).await.is_none() {
        retry(spool).await?;
    }
    Some(())
}

/// Brings what a sink owes, was handed before `before`, and is in no log, to the log. None if the disk
/// does not take all of it.
async fn keep(spool: &Spool, sink: &Arc<str>, ledger: &Ledger, before: Instant) -> Option<()> {
    loop {
        let open = ledger.unlogged(before, CHUNK_BYTES);
        if open.is_empty() {
            return Some(());
        }
        // Until the ledger knows the place, nobody else knows that it is needed.
        let _keeping = spool.keeping();
        let changes = open.iter().filter_map(|(_, raw)| raw.change());
        let address = append_kept(spool, sink, changes).await?;
        let place = Place { part: Part::Kept, address };
        spool.status.logged.add(open.len() as u64);
        ledger.logged(open.into_iter().map(|(position, _)| position), place);
    }
}

async fn append_kept<'a>(
    spool: &Spool,
    sink: &Arc<str>,
    changes: impl Iterator<Item = &'a Change>,
) -> Option<Address> {
    let mut writer = Writer::new(vec![Arc::clone(sink)]);
    let mut count = 0;
    for change in changes {
        count += 1;
        writer.push(change, [0], |relation| spool.relations.hash(relation));
    }
    let address = try_append(spool, Part::Kept, writer.finish()?).await?;
    try_sync(spool).await?;
    spool.kept.fetch_add(count, Ordering::Relaxed);
    Some(address)
}

/// Acts when there is too much in the log: sinks that may lose something lose the oldest, what others
/// need of it is brought to its end, and where one still needs to read the oldest that may not lose it
/// nothing more is read for those that are behind.
async fn limit(spool: &Spool, owners: &[Owner], round: &mut Round) {
    let slot = &spool.status.name;
    let mut strict: Vec<&str> = Vec::new();
    if spool.is_over() {
        if let Some(first) = spool.log.first_end(Part::Stream) {
            for owner in owners {
                let at = owner.backlog.at(|| spool.log.end(Part::Stream));
                if at < first {
                    match owner.on_full {
                        OnFull::Discard => {
                            owner.backlog.discard(first);
                            // One that cannot run must not hold up those that can.
                            if !owner.backlog.has_reader() {
                                discard::pass(spool, owner).await;
                            }
                        }
                        OnFull::Pause => strict.push(&owner.sink),
                    }
                }
                // What it has in memory must not hold the whole segment.
                relocate(spool, owner, Part::Stream, first).await;
            }
        }
        for owner in owners {
            if learn(spool, owner).await.is_none() {
                strict.push(&owner.sink);
            }
        }
        if let Some(first) = round.next(spool, owners) {
            for owner in owners {
                relocate(spool, owner, Part::Kept, first).await;
                relocate_before(spool, owner, first).await;
            }
        }
    }
    // Where that was enough, it is only not trimmed yet.
    if !strict.is_empty() {
        strict.sort_unstable();
        strict.dedup();
        let problem = format!(
            "the change log has reached its limit of {} bytes, and {} still has to read the oldest \
             of it: nothing more is read until it has. Let the sink go on, raise \
             SEQUIN_CHANGE_LOG_MB, or let it lose the oldest changes with \
             `load_shedding_policy: discard_on_full`",
            spool.bytes_max,
            strict.join(", ")
        );
        if spool.status.warnings.raise(FULL, slot, problem.clone()) {
            error!(slot.name = %slot, code = FULL, problem, "the change log is full");
        }
    } else if spool.status.warnings.clear(FULL, slot) {
        info!(slot.name = %slot, "the change log has room again");
    }
}

/// What a sink was kept before it was started, if nobody else finds that out. None if that cannot be
/// known yet: then all that is kept is needed.
async fn learn(spool: &Spool, owner: &Owner) -> Option<()> {
    let before = &owner.backlog.before;
    if !before.is_known()
        && !owner.backlog.has_reader()
        && let Some(turn) = before.try_turn()
    {
        // It is told who holds up the rest, and the next look tries again.
        owner.learn_kept(spool, &turn).await.ok()?;
    }
    before.is_known().then_some(())
}

/// How far what is kept was brought together: each round goes once through all of it.
#[derive(Default)]
struct Round {
    /// What stood below when it began was looked at, or will be.
    end: Address,
    /// Changes that had been kept in this run when it began: those since are all there are, once
    /// what stood below is trimmed.
    kept: u64,
}

impl Round {
    /// The address below which what is needed is to be brought to the end; None if that would not make
    /// enough room: what is needed is not written again and again.
    fn next(&mut self, spool: &Spool, owners: &[Owner]) -> Option<Address> {
        let first = spool.log.first_end(Part::Kept)?;
        if first <= self.end {
            return Some(first);
        }
        let kept = spool.kept.load(Ordering::Relaxed);
        let there = kept.saturating_sub(self.kept);
        let needed: usize = owners.iter().map(kept_for).sum();
        // A quarter of it at least is to go: no more than four times as much is written anew.
        let is_worth_it = 4 * there >= 5 * needed as u64;
        if self.end > Address::default() && !is_worth_it {
            return None;
        }
        *self = Self { end: spool.log.end(Part::Kept), kept };
        Some(first)
    }
}

/// How many changes are kept that a sink needs.
fn kept_for(owner: &Owner) -> usize {
    let acks = owner.ledger.lock();
    let open = acks.places().filter(|(_, place)| place.part == Part::Kept).count();
    open + owner.backlog.before.len()
}

/// Brings what is open and stands below an address to the end of what is kept.
async fn relocate(spool: &Spool, owner: &Owner, part: Part, below: Address) {
    let here: Vec<(Position, Address)> = {
        let acks = owner.ledger.lock();
        let here = acks.places().filter(|(_, place)| place.part == part && place.address < below);
        here.map(|(position, place)| (position, place.address)).collect()
    };
    for (address, positions) in by_address(here) {
        let Ok(Some(logged)) = spool.log.read(part, address).await else { continue };
        let Some(changes) = changes_at(spool, owner, &logged, &positions).await else { continue };
        // Until the ledger knows the place, nobody else knows that it is needed.
        let _keeping = spool.keeping();
        let Some(to) = append_kept(spool, &owner.sink, changes.iter()).await else { return };
        let place = Place { part: Part::Kept, address: to };
        owner.ledger.relocated(changes.iter().map(|change| change.position), place);
    }
}

/// As [`relocate`], of what was kept for it before it was started and that it has not been handed yet.
async fn relocate_before(spool: &Spool, owner: &Owner, below: Address) {
    let before = &owner.backlog.before;
    // Its reader is at it.
    let Some(turn) = before.try_turn() else { return };
    let here = before.below(&turn, below);
    for (address, positions) in by_address(here) {
        let Ok(logged) = owner.next(spool, Part::Kept, address).await else { continue };
        let Some(logged) = logged.filter(|logged| logged.address == address) else {
            // It is damaged, which was told.
            before.remove(&turn, positions);
            continue;
        };
        let Some(changes) = changes_at(spool, owner, &logged, &positions).await else { continue };
        let _keeping = spool.keeping();
        let Some(to) = append_kept(spool, &owner.sink, changes.iter()).await else { return };
        before.relocated(&turn, changes.iter().map(|change| change.position), to);
    }
}

/// The changes of a chunk that stand at these positions, for one sink. None if it cannot be read.
async fn changes_at(
    spool: &Spool,
    owner: &Owner,
    logged: &Logged,
    positions: &[Position],
) -> Option<Vec<Change>> {
    let chunk = Chunk::open(&logged.bytes).ok()?;
    let relations = spool.relations.find(spool.log.as_ref(), chunk.relations()).await.ok()?;
    let is_here = |position| positions.binary_search(&position).is_ok();
    let (changes, _) = chunk.changes_of(&owner.sink, &relations, is_here).ok()?;
    (!changes.is_empty()).then_some(changes)
}
