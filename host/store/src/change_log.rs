//! Change logs as files of the data directory: for each stream a directory of segments.
//!
//! A segment is a file that is only appended to, and removed once nobody needs anything of it. One
//! thread of a log writes and one reads, so no runtime thread ever waits for the disk, and no reader
//! for a sync. What a kill leaves half-written at the end of the last segment is cut off by the next
//! process; that reaching below what was synced is damage, and is told.

mod disk;
pub(crate) mod names;
mod segment;
mod state;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::BoxFuture;
use model::chunk::{RelationHash, Written};
use model::lsn::Lsn;
use model::store::{Address, ChangeLog, ChangeLogs, Epoch, Logged, Part, StoreError, Synced};
use rusqlite::Transaction;
use sha2::{Digest as _, Sha256};

use crate::embedded::{Durability, Embedded};
use crate::thread::Thread;
use disk::{Disk, Files};
use names::Names;
use state::State;

/// The directory of all logs in a data directory.
const DIRECTORY: &str = "changes";
/// Says which stream's a directory is, for whoever looks at it.
const ORIGIN_FILE: &str = "origin";

/// A segment is closed once it is as large, in bytes: what is trimmed at once.
const SEGMENT_BYTES: u64 = 32 << 20;

struct OpenLog {
    state: Arc<State>,
    writer: Thread,
    reader: Thread,
    names: Names,
}

/// The directory of one stream's log.
fn directory(data: &Path, origin: &str) -> PathBuf {
    let digest = Sha256::digest(origin.as_bytes());
    let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    data.join(DIRECTORY).join(name)
}

/// Forgets the logs of all streams whose origin `is_gone` says yes to.
pub(crate) fn forget(data: &Path, is_gone: impl Fn(&str) -> bool) -> std::io::Result<()> {
    let logs = match std::fs::read_dir(data.join(DIRECTORY)) {
        Ok(logs) => logs,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for log in logs {
        let path = log?.path();
        if std::fs::read_to_string(path.join(ORIGIN_FILE)).is_ok_and(|origin| is_gone(&origin)) {
            std::fs::remove_dir_all(path)?;
        }
    }
    Ok(())
}

impl ChangeLogs for Embedded {
    fn open<'a>(
        &'a self,
        epoch: Epoch,
        origin: &'a str,
        refetched: Lsn,
        synced: Option<Synced>,
    ) -> BoxFuture<'a, Result<Arc<dyn ChangeLog>, StoreError>> {
        let directory = directory(self.directory(), origin);
        let origin = origin.to_owned();
        Box::pin(async move {
            let synced = synced.unwrap_or_default();
            let opening = Opening { epoch, refetched, synced, segment_bytes: SEGMENT_BYTES };
            let log = open(Arc::new(Files), directory, origin.clone(), opening).await?;
            let state = Arc::clone(&log.state);
            self.open_logs().note(&origin, Arc::downgrade(&state));
            let end = (state.end(Part::Stream), state.end(Part::Kept));
            let first = (state.first(Part::Stream), state.first(Part::Kept));
            // Before anything is appended under the names of today.
            let names =
                move |transaction: &Transaction<'_>| Names::of(transaction, &origin, end, first);
            let names = self.write(epoch, Durability::Synced, names).await?;
            let log: Arc<dyn ChangeLog> = Arc::new(OpenLog { names, ..log });
            Ok(log)
        })
    }

    fn exists<'a>(&'a self, origin: &'a str) -> BoxFuture<'a, Result<bool, StoreError>> {
        let directory = directory(self.directory(), origin);
        Box::pin(self.call(move |_| directory.try_exists().map_err(failed)))
    }

    fn forget<'a>(
        &'a self,
        epoch: Epoch,
        origin: &'a str,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let (data, origin) = (self.directory().to_owned(), origin.to_owned());
        Box::pin(async move {
            // Only whoever may still write here may remove what others could need.
            self.write(epoch, Durability::Synced, |_| Ok(())).await?;
            self.call(move |_| forget(&data, |known| known == origin).map_err(failed)).await
        })
    }
}

/// With what a log is opened.
#[derive(Clone, Copy)]
struct Opening {
    epoch: Epoch,
    refetched: Lsn,
    synced: Synced,
    segment_bytes: u64,
}

async fn open(
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    origin: String,
    opening: Opening,
) -> Result<OpenLog, StoreError> {
    let writer = Thread::new("log-write")?;
    let reader = Thread::new("log-read")?;
    let opened = move || {
        disk.make_directory(&directory).map_err(failed)?;
        disk.name(&directory.join(ORIGIN_FILE), &origin).map_err(failed)?;
        State::open(disk, directory, opening)
    };
    let state = Arc::new(writer.call(opened).await?);
    Ok(OpenLog { state, writer, reader, names: Names::default() })
}

/// What the disk says, as the port knows it.
fn failed(error: std::io::Error) -> StoreError {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            StoreError::Full(format!("no room for the change log: {error}"))
        }
        _ => StoreError::Unavailable(format!("the change log: {error}")),
    }
}

impl ChangeLog for OpenLog {
    fn append(&self, part: Part, chunk: Written) -> BoxFuture<'_, Result<Address, StoreError>> {
        let state = Arc::clone(&self.state);
        self.writer.call(move || state.append(part, &chunk))
    }

    fn sync(&self) -> BoxFuture<'_, Result<Synced, StoreError>> {
        let state = Arc::clone(&self.state);
        self.writer.call(move || state.sync())
    }

    fn read(&self, part: Part, from: Address) -> BoxFuture<'_, Result<Option<Logged>, StoreError>> {
        let state = Arc::clone(&self.state);
        let read = self.reader.call(move || state.read(part, from));
        Box::pin(async move { Ok(read.await?.map(|logged| self.names.put(part, logged))) })
    }

    fn relation(&self, hash: RelationHash) -> BoxFuture<'_, Result<Vec<u8>, StoreError>> {
        let state = Arc::clone(&self.state);
        self.reader.call(move || state.relation(hash))
    }

    fn trim(&self, part: Part, below: Address) -> BoxFuture<'_, Result<(), StoreError>> {
        let state = Arc::clone(&self.state);
        self.writer.call(move || state.trim(part, below))
    }

    fn bytes(&self) -> u64 {
        self.state.bytes()
    }

    fn end(&self, part: Part) -> Address {
        self.state.end(part)
    }

    fn first_end(&self, part: Part) -> Option<Address> {
        self.state.first_end(part)
    }
}

#[cfg(test)]
mod tests;
