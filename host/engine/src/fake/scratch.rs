//! Room on a disk in memory. It takes a while, in which other tasks have their turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use model::BoxFuture;
use model::store::{Scrap, Scratch, StoreError};
use tokio::time::Instant;

#[derive(Debug, Default)]
pub(crate) struct Paper {
    bytes: AtomicU64,
    gets: AtomicU64,
    /// Nothing can be written.
    full: AtomicBool,
    /// What is read is not what was written; once.
    torn: AtomicBool,
}

#[derive(Debug)]
struct Written {
    paper: Arc<Paper>,
    bytes: Vec<u8>,
}

/// The port, with the paper of a store.
pub(crate) struct Desk(pub(crate) Arc<Paper>);

impl Paper {
    pub(crate) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    pub(crate) fn tear(&self) {
        self.torn.store(true, Ordering::Relaxed);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How often something was read back.
    pub(crate) fn gets(&self) -> u64 {
        self.gets.load(Ordering::Relaxed)
    }
}

async fn takes_a_while() {
    tokio::time::sleep_until(Instant::now() + Duration::from_millis(2)).await;
}

impl Scratch for Desk {
    fn put(&self, bytes: Vec<u8>) -> BoxFuture<'_, Result<Arc<dyn Scrap>, StoreError>> {
        Box::pin(async move {
            takes_a_while().await;
            if self.0.full.load(Ordering::Relaxed) {
                return Err(StoreError::Full("full".into()));
            }
            self.0.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            let scrap: Arc<dyn Scrap> = Arc::new(Written { paper: Arc::clone(&self.0), bytes });
            Ok(scrap)
        })
    }

    fn bytes(&self) -> u64 {
        self.0.bytes()
    }
}

impl Scrap for Written {
    fn get(&self, from: u64, bytes: usize) -> BoxFuture<'_, Result<Vec<u8>, StoreError>> {
        Box::pin(async move {
            takes_a_while().await;
            self.paper.gets.fetch_add(1, Ordering::Relaxed);
            let from = usize::try_from(from).unwrap();
            let mut bytes = self.bytes[from..from + bytes].to_vec();
            if self.paper.torn.swap(false, Ordering::Relaxed) {
                bytes.truncate(bytes.len() / 2);
            }
            Ok(bytes)
        })
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        self.paper.bytes.fetch_sub(self.bytes.len() as u64, Ordering::Relaxed);
    }
}
