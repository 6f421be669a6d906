//! Room on the disk for what does not fit into memory: files of the data directory that have no name.
//!
//! A file loses its name as soon as it is open, so the system gives its room back once nobody has it
//! open any more: when nothing in it is needed, and when the process ends, however that ends. It shows
//! in no listing of the directory; `bytes` is for who asks where the room has gone.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use model::BoxFuture;
use model::store::{Scrap, Scratch, StoreError};

use crate::embedded::Embedded;
use crate::thread::Thread;

/// The name of a file before it loses it. One that a kill leaves in between is empty, and is replaced.
const FILE: &str = "spilled";

/// Once a file is as large the next one is begun, in bytes: what is given back at once.
const FILE_BYTES: u64 = 32 << 20;

/// Files without names.
pub(crate) struct Files {
    directory: PathBuf,
    file_bytes: u64,
    /// Begun with the first bytes.
    thread: Mutex<Option<Arc<Thread>>>,
    /// The file that is written to. Nobody but what stands in it keeps it.
    last: Arc<Mutex<Weak<Nameless>>>,
    bytes: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Nameless {
    file: File,
    bytes: AtomicU64,
    /// Of all files.
    all: Arc<AtomicU64>,
}

impl Drop for Nameless {
    fn drop(&mut self) {
        self.all.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

/// Bytes in one of them.
struct Written {
    file: Arc<Nameless>,
    at: u64,
    thread: Arc<Thread>,
}

impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Written").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Files {
    pub(crate) fn new(directory: &Path) -> Self {
        Self::with(directory, FILE_BYTES)
    }

    fn with(directory: &Path, file_bytes: u64) -> Self {
        let (thread, last, bytes) = (Mutex::default(), Arc::default(), Arc::default());
        Self { directory: directory.to_owned(), file_bytes, thread, last, bytes }
    }

    fn thread(&self) -> Result<Arc<Thread>, StoreError> {
        let mut known = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = &*known {
            return Ok(Arc::clone(thread));
        }
        let thread = Arc::new(Thread::new("spill")?);
        *known = Some(Arc::clone(&thread));
        Ok(thread)
    }

    async fn put(&self, bytes: Vec<u8>) -> Result<Arc<dyn Scrap>, StoreError> {
        let thread = self.thread()?;
        let (directory, file_bytes) = (self.directory.clone(), self.file_bytes);
        let (last, all) = (Arc::clone(&self.last), Arc::clone(&self.bytes));
        let write = move || {
            // Only this thread writes, so this is held by nobody else for long.
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            let room = |file: &Arc<Nameless>| file.bytes.load(Ordering::Relaxed) < file_bytes;
            let file = match last.upgrade().filter(room) {
                Some(file) => file,
                None => Arc::new(begin(&directory, all).map_err(failed)?),
            };
            let at = file.bytes.load(Ordering::Relaxed);
            // What was written of it in vain is written over.
            file.file.write_all_at(&bytes, at).map_err(failed)?;
            file.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            file.all.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            *last = Arc::downgrade(&file);
            Ok((file, at))
        };
        let (file, at) = thread.call(write).await?;
        Ok(Arc::new(Written { file, at, thread }))
    }
}

fn begin(directory: &Path, all: Arc<AtomicU64>) -> io::Result<Nameless> {
    let path = directory.join(FILE);
    let file = File::options().create(true).truncate(true).read(true).write(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(Nameless { file, bytes: AtomicU64::new(0), all })
}

fn failed(error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            StoreError::Full(format!("no room for what does not fit into memory: {error}"))
        }
        _ => StoreError::Unavailable(format!("what does not fit into memory: {error}")),
    }
}

impl Scratch for Embedded {
    fn put(&self, bytes: Vec<u8>) -> BoxFuture<'_, Result<Arc<dyn Scrap>, StoreError>> {
        Box::pin(self.scratch().put(bytes))
    }

    fn bytes(&self) -> u64 {
        self.scratch().bytes.load(Ordering::Relaxed)
    }
}

impl Scrap for Written {
    fn get(&self, from: u64, bytes: usize) -> BoxFuture<'_, Result<Vec<u8>, StoreError>> {
        let (file, at) = (Arc::clone(&self.file), self.at + from);
        self.thread.call(move || {
            let mut into = vec![0; bytes];
            file.file.read_exact_at(&mut into, at).map_err(failed)?;
            Ok(into)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(files: &Files) -> u64 {
        files.bytes.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn what_was_put_there_is_read_until_it_is_dropped_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::with(directory.path(), 100);
        let mut scraps = Vec::new();
        for n in 0..10_u8 {
            scraps.push(files.put(vec![n; 60]).await.unwrap());
        }
        assert_eq!(all(&files), 600);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "no name is left");
        for (n, scrap) in (0..).zip(&scraps) {
            assert_eq!(scrap.get(50, 10).await.unwrap(), [n; 10]);
        }
        assert!(scraps[9].get(0, 61).await.is_err(), "it ends there");
        // Two stand in each file: it goes with the second.
        scraps.drain(..3);
        assert_eq!(all(&files), 480);
        scraps.clear();
        assert_eq!(all(&files), 0);
        let again = files.put(vec![7; 5]).await.unwrap();
        assert_eq!((again.get(0, 5).await.unwrap(), all(&files)), (vec![7; 5], 5));
    }

    #[tokio::test]
    async fn a_disk_that_takes_nothing_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::with(&directory.path().join("gone"), 100);
        let error = files.put(vec![1]).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    }
}
