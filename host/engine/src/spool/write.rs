//! Writes to the change log what the slot has for sinks that are behind.

use std::sync::Arc;
use std::time::Duration;

use model::chunk::{Writer, Written};
use model::store::{Address, Part, StoreError};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{error, info};

use super::Spool;
use super::backlog::Sent;
use crate::fan_out::ToLog;

/// Batches are put into one chunk up to about so many bytes: small enough to be read back piece by
/// piece, large enough that its head costs nothing.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;
/// What is written is brought to the disk as often, at least: the slot is confirmed as far.
const SYNC_INTERVAL: Duration = Duration::from_millis(100);
/// Between attempts while the disk takes nothing.
const RETRY: Duration = Duration::from_secs(1);

/// The code of what the slot says while its log takes nothing.
pub(super) const UNWRITABLE: &str = "change_log_unwritable";

/// Works until the spool is stopped and what was taken before is on the disk.
pub(crate) async fn run(spool: Arc<Spool>, mut queue: mpsc::Receiver<ToLog>) {
    let mut unsynced = 0;
    let mut synced_at = Instant::now();
    loop {
        let first = tokio::select! {
            biased;
            to_log = queue.recv() => to_log,
            () = tokio::time::sleep_until(synced_at + SYNC_INTERVAL), if unsynced > 0 => None,
            () = spool.stop.cancelled() => None,
        };
        match first {
            Some(first) => {
                unsynced += take(&spool, first, &mut queue).await;
                if synced_at.elapsed() < SYNC_INTERVAL {
                    continue;
                }
            }
            None if unsynced == 0 => return,
            None => {}
        }
        sync(&spool, &mut unsynced).await;
        synced_at = Instant::now();
    }
}

/// Appends a batch and some of those that wait behind it: how many they were.
async fn take(spool: &Spool, first: ToLog, queue: &mut mpsc::Receiver<ToLog>) -> usize {
    let mut batches = vec![first];
    let mut bytes: usize = batches.iter().map(|batch| batch.handed.bytes).sum();
    while bytes < CHUNK_BYTES
        && let Ok(more) = queue.try_recv()
    {
        bytes += more.handed.bytes;
        batches.push(more);
    }
    if room(spool).await.is_none() {
        // The slot stops. It is not confirmed past these, and the next process gets them again.
        return 0;
    }
    if let Some(chunk) = encode(spool, &batches) {
        if append(spool, Part::Stream, chunk).await.is_none() {
            return 0;
        }
        // Nobody else appends to this part.
        let end = spool.log.end(Part::Stream);
        for (_, sent) in batches.iter().flat_map(|batch| &batch.sinks) {
            sent.write(end);
        }
        let logged: usize = batches.iter().map(|batch| batch.owed.len()).sum();
        spool.status.logged.add(logged as u64);
        spool.status.log_bytes.set(spool.log.bytes());
    }
    // The slot may wait for a place in the queue.
    spool.settled.notify_one();
    spool.appended.notify_waiters();
    batches.len()
}

/// Waits while the log has reached its limit. None if the spool is stopped.
async fn room(spool: &Spool) -> Option<()> {
    loop {
        let mut trimmed = std::pin::pin!(spool.trimmed.notified());
        trimmed.as_mut().enable();
        if !spool.is_over() {
            return Some(());
        }
        spool.over.notify_one();
        tokio::select! {
            biased;
            () = spool.stop.cancelled() => return None,
            () = trimmed => {}
        }
    }
}

/// One chunk of batches that follow each other.
fn encode(spool: &Spool, batches: &[ToLog]) -> Option<Written> {
    let mut sinks: Vec<Arc<str>> = Vec::new();
    let mut owners: Vec<Vec<usize>> = Vec::new();
    for batch in batches {
        let owner = |(sink, _): &(Arc<str>, Arc<Sent>)| {
            sinks.iter().position(|known| known == sink).unwrap_or_else(|| {
                sinks.push(Arc::clone(sink));
                sinks.len() - 1
            })
        };
        owners.push(batch.sinks.iter().map(owner).collect());
    }
    let mut writer = Writer::new(sinks);
    for (batch, owners) in batches.iter().zip(&owners) {
        for owed in batch.owed.chunk_by(|(one, _), (other, _)| one == other) {
            let Some(change) = owed.first().and_then(|(pick, _)| batch.handed.changes.get(*pick))
            else {
                continue;
            };
            let owed = owed.iter().filter_map(|(_, sink)| owners.get(*sink).copied());
            writer.push(change, owed, |relation| spool.relations.hash(relation));
        }
    }
    writer.finish()
}

/// Appends a chunk, trying until the disk takes it. None if the spool is stopped before.
async fn append(spool: &Spool, part: Part, chunk: Written) -> Option<Address> {
    loop {
        if let Some(address) = try_append(spool, part, chunk.clone()).await {
            return Some(address);
        }
        retry(spool).await?;
    }
}

/// Appends a chunk, if the disk takes it; else that is told.
pub(super) async fn try_append(spool: &Spool, part: Part, chunk: Written) -> Option<Address> {
    match spool.log.append(part, chunk).await {
        Ok(address) => {
            works_again(spool);
            Some(address)
        }
        Err(error) => {
            tell(spool, &error);
            None
        }
    }
}

/// Waits until the disk may be asked again. None if the spool is stopped.
pub(super) async fn retry(spool: &Spool) -> Option<()> {
    let deadline = Instant::now() + RETRY;
    tokio::select! {
        biased;
        () = spool.stop.cancelled() => None,
        () = tokio::time::sleep_until(deadline) => Some(()),
    }
}

/// Brings all that was appended to the disk, trying until it is there.
async fn sync(spool: &Spool, unsynced: &mut usize) {
    let count = std::mem::take(unsynced);
    while try_sync(spool).await.is_none() {
        if retry(spool).await.is_none() {
            // The slot is not confirmed past it any more, and the next process gets it again.
            return;
        }
    }
    {
        let mut waiting = spool.unsynced();
        for _ in 0..count {
            waiting.waiting.pop_front();
        }
    }
    spool.settled.notify_one();
}

/// Brings all that was appended to the disk, if it takes it; else that is told.
pub(super) async fn try_sync(spool: &Spool) -> Option<()> {
    match spool.log.sync().await {
        Ok(synced) => {
            works_again(spool);
            spool.set_synced(synced);
            Some(())
        }
        Err(error) => {
            tell(spool, &error);
            None
        }
    }
}

fn tell(spool: &Spool, error: &StoreError) {
    let slot = &spool.status.name;
    let problem = format!(
        "{error}; nothing more is read for sinks that are behind until it can be written again"
    );
    if spool.status.warnings.raise(UNWRITABLE, slot, problem) {
        error!(slot.name = %slot, code = UNWRITABLE, %error, "the change log cannot be written; trying again");
    }
}

fn works_again(spool: &Spool) {
    let slot = &spool.status.name;
    if spool.status.warnings.clear(UNWRITABLE, slot) {
        info!(slot.name = %slot, "the change log is written again");
    }
}
