//! The port to what is known of rollouts.

use super::{Epoch, StoreError};
use crate::BoxFuture;
use crate::rollout::Rollout;

/// Rollouts, whatever became of them.
pub trait Rollouts: Send + Sync {
    /// All of them, the oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    fn all(&self) -> BoxFuture<'_, Result<Vec<Rollout>, StoreError>>;

    /// Keeps what is known of one: it is on disk when this returns.
    ///
    /// # Errors
    /// Nothing was kept.
    fn save(&self, epoch: Epoch, rollout: Rollout) -> BoxFuture<'_, Result<(), StoreError>>;
}
