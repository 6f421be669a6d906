//! The open store: directory, lock, epoch, and the thread that owns the connection.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use model::store::{Epoch, StoreError};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use crate::change_log::names;
use crate::schema;
use crate::scratch;

/// The file in the data directory.
pub(crate) const FILE: &str = "sequin.db";
/// Held while the store is open.
const LOCK: &str = "lock";
/// Work that waits for the disk. Callers await each answer, so there are never more than a few.
const QUEUE_MAX: usize = 64;
/// A reader of the file (`sequin letters`) may hold it for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// State in one SQLite file of a data directory. Closed when dropped.
pub struct Embedded {
    jobs: Option<mpsc::SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    epoch: Epoch,
    identity: Identity,
    directory: PathBuf,
    scratch: scratch::Files,
    logs: Arc<names::Open>,
    _lock: File,
}

/// What tells this store, and this opening of it, from others.
struct Identity {
    /// The data directory's own.
    instance: String,
    /// The process': two copies of one directory have the same id and the same epoch.
    run: u64,
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made or written.
    #[error(
        "the data directory {path} cannot be used (SEQUIN_DATA_DIR; we have to be able to write there)"
    )]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process has it open.
    #[error(
        "the data directory {path} is in use by another process: two engines must not share one"
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The file is damaged or of a newer version.
    #[error("the state in {path} cannot be opened")]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
}

/// How sure a write must be when its answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// On disk: survives a power cut.
    Synced,
    /// With the operating system: survives the end of the process. After a power cut an older
    /// state may be back, which must be harmless.
    Written,
}

impl Embedded {
    /// Opens or creates the store in `directory`, and takes the next epoch.
    ///
    /// # Errors
    /// The directory cannot be used, another process has it, or the file is not ours.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        let lock = lock(directory)?;
        let path = directory.join(FILE);
        let database = |source| OpenError::Database { path: path.clone(), source };
        let mut connection = Connection::open(&path).map_err(database)?;
        let (epoch, identity) = prepare(&mut connection).map_err(database)?;
        let (jobs, queue) = mpsc::sync_channel::<Job>(QUEUE_MAX);
        let work = move || {
            while let Ok(job) = queue.recv() {
                job(&mut connection);
            }
        };
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(work);
        let thread =
            thread.map_err(|source| OpenError::Directory { path: directory.to_owned(), source })?;
        let (jobs, thread) = (Some(jobs), Some(thread));
        let (scratch, directory) = (scratch::Files::new(directory), directory.to_owned());
        let logs = Arc::default();
        Ok(Self { jobs, thread, epoch, identity, directory, scratch, logs, _lock: lock })
    }

    /// The epoch of this process.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Where it is.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Room on its disk.
    pub(crate) fn scratch(&self) -> &scratch::Files {
        &self.scratch
    }

    /// Its change logs that are open.
    pub(crate) fn open_logs(&self) -> Arc<names::Open> {
        Arc::clone(&self.logs)
    }

    /// The data directory's own id.
    pub(crate) fn instance(&self) -> &str {
        &self.identity.instance
    }

    /// A number of this process alone.
    pub(crate) fn run(&self) -> u64 {
        self.identity.run
    }

    /// Runs `work` on the store's thread.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let gone = || StoreError::Unavailable("the store's thread is gone".to_owned());
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // A caller that was cancelled does not wait any more.
            drop(answer.send(work(connection)));
        });
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        match jobs.try_send(job) {
            Ok(()) => {}
            Err(mpsc::TrySendError::Full(_)) => {
                return Err(StoreError::Unavailable("the disk is too slow: too much waits".into()));
            }
            Err(mpsc::TrySendError::Disconnected(_)) => return Err(gone()),
        }
        answered.await.map_err(|_| gone())?
    }

    /// Runs `work` in one transaction that writes, if `epoch` is still in force.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        epoch: Epoch,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.call(move |connection| {
            let level = match durability {
                Durability::Synced => "FULL",
                Durability::Written => "NORMAL",
            };
            connection.pragma_update(None, "synchronous", level).map_err(unavailable)?;
            let transaction = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(unavailable)?;
            let current: i64 = transaction
                .query_row("SELECT epoch FROM meta", (), |row| row.get(0))
                .map_err(unavailable)?;
            let current = current.cast_unsigned();
            if epoch.0 < current {
                return Err(StoreError::Fenced { ours: epoch.0, current });
            }
            let done = work(&transaction).map_err(unavailable)?;
            transaction.commit().map_err(unavailable)?;
            Ok(done)
        })
        .await
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the store's thread was told by the calls that it broke.
            drop(thread.join());
        }
    }
}

/// SQLite's errors as the port knows them.
pub(crate) fn unavailable(error: rusqlite::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

fn lock(directory: &Path) -> Result<File, OpenError> {
    let unusable = |source| OpenError::Directory { path: directory.to_owned(), source };
    std::fs::create_dir_all(directory).map_err(unusable)?;
    let lock = directory.join(LOCK);
    let lock = File::options().create(true).truncate(false).write(true).open(lock);
    let lock = lock.map_err(unusable)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: directory.to_owned() }),
        Err(TryLockError::Error(source)) => Err(unusable(source)),
    }
}

/// Settings, schema, the next epoch, and who we are.
fn prepare(connection: &mut Connection) -> Result<(Epoch, Identity), rusqlite::Error> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    schema::migrate(connection)?;
    let next = "UPDATE meta SET epoch = epoch + 1 RETURNING epoch";
    let epoch: i64 = connection.query_row(next, (), |row| row.get(0))?;
    let own = "SELECT id, random() FROM instance";
    let identity = connection.query_row(own, (), |row| {
        let run: i64 = row.get(1)?;
        Ok(Identity { instance: row.get(0)?, run: run.cast_unsigned() })
    })?;
    Ok((Epoch(epoch.cast_unsigned()), identity))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_refused_and_the_next_gets_a_higher_epoch() {
        let directory = tempfile::tempdir().unwrap();
        let first = Embedded::open(directory.path()).unwrap();
        let second = Embedded::open(directory.path());
        assert!(matches!(second, Err(OpenError::Locked { .. })));
        let epoch = first.epoch();
        drop(first);
        assert!(Embedded::open(directory.path()).unwrap().epoch() > epoch);
    }

    #[test]
    fn a_state_of_a_newer_version_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        drop(Embedded::open(directory.path()).unwrap());
        let connection = Connection::open(directory.path().join(FILE)).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        drop(connection);
        let Err(error) = Embedded::open(directory.path()) else { panic!("it was opened") };
        let cause = std::error::Error::source(&error).unwrap();
        assert!(cause.to_string().contains("newer version"), "{error}: {cause}");
    }
}
