//! Looks after the change log: keeps what sinks were handed and have not settled for long, trims what
//! nobody needs, and acts when there is too much of it.

use std::sync::Arc;
use std::time::Duration;

use model::change::Change;
use model::chunk::{Chunk, Writer};
use model::position::Position;
use model::store::{Address, Part};
use tokio::time::Instant;
use tracing::{error, info};

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
        limit(&spool, &owners).await;
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
    for change in changes {
        writer.push(change, [0], |relation| spool.relations.hash(relation));
    }
    let address = try_append(spool, Part::Kept, writer.finish()?).await?;
    try_sync(spool).await?;
    Some(address)
}

/// Acts when there is too much in the log: sinks that may lose something lose the oldest, and where
/// another needs that too nothing more is read for those that are behind.
async fn limit(spool: &Spool, owners: &[Owner]) {
    let slot = &spool.status.name;
    let is_over = spool.is_over();
    let mut strict: Vec<&str> = Vec::new();
    if is_over {
        for part in [Part::Stream, Part::Kept] {
            let Some(first) = spool.log.first_end(part) else { continue };
            for owner in owners {
                let at = owner.backlog.at(|| spool.log.end(Part::Stream));
                if part == Part::Stream && at < first {
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
                if part == Part::Kept && !owner.backlog.has_caught_up() {
                    // Whatever it would rather lose: what was kept is not trimmed before it has read it.
                    strict.push(&owner.sink);
                }
                // What it has in memory must not hold the whole segment.
                relocate(spool, owner, part, first).await;
            }
        }
    }
    if is_over && !strict.is_empty() {
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

/// Brings what is open and stands below an address to the end of what is kept.
async fn relocate(spool: &Spool, owner: &Owner, part: Part, below: Address) {
    let places: Vec<(Position, Address)> = {
        let acks = owner.ledger.lock();
        let here = acks.places().filter(|(_, place)| place.part == part && place.address < below);
        here.map(|(position, place)| (position, place.address)).collect()
    };
    let mut addresses: Vec<Address> = places.iter().map(|(_, address)| *address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    for address in addresses {
        let Ok(Some(logged)) = spool.log.read(part, address).await else { continue };
        let Ok(chunk) = Chunk::open(&logged.bytes) else { continue };
        let Ok(relations) = spool.relations.find(spool.log.as_ref(), chunk.relations()).await
        else {
            continue;
        };
        let is_here = |position| places.binary_search(&(position, address)).is_ok();
        let Ok((changes, _)) = chunk.changes_of(&owner.sink, &relations, is_here) else { continue };
        let Some(to) = append_kept(spool, &owner.sink, changes.iter()).await else { return };
        let place = Place { part: Part::Kept, address: to };
        owner.ledger.relocated(changes.iter().map(|change| change.position), place);
    }
}
