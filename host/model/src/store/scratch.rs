//! The port to room on the disk for what does not fit into memory.

use std::fmt::Debug;
use std::sync::Arc;

use super::StoreError;
use crate::BoxFuture;

/// Keeps bytes for this process alone: no later one finds anything of them, so nothing may depend on
/// them that is not known elsewhere.
pub trait Scratch: Send + Sync {
    /// Writes them, without waiting until they would survive anything.
    ///
    /// # Errors
    /// The disk takes nothing, or has no room: nothing was written.
    fn put(&self, bytes: Vec<u8>) -> BoxFuture<'_, Result<Arc<dyn Scrap>, StoreError>>;

    /// What all of it takes on the disk, in bytes.
    fn bytes(&self) -> u64;
}

/// Bytes that were written. Their room is given back some time after this is dropped.
pub trait Scrap: Send + Sync + Debug {
    /// So many of them, from this one on.
    ///
    /// # Errors
    /// They cannot be read.
    fn get(&self, from: u64, bytes: usize) -> BoxFuture<'_, Result<Vec<u8>, StoreError>>;
}
