//! Records how far each sink of a slot came, so that a restart repeats little and a graceful one
//! nothing.
//!
//! Off the data path: while the store is away, delivery goes on and only repeats more after a kill.

use std::sync::Arc;
use std::time::Duration;

use model::acks::Settled;
use model::store::{Epoch, Progress, StoreError};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::ledger::Ledger;

/// How often progress is recorded: what a kill repeats is what was delivered within it.
const INTERVAL: Duration = Duration::from_millis(50);

/// Open positions recorded per sink while running (16 bytes each): a record stays small however
/// long a queue is. The last record of a graceful stop has no such bound.
const OPEN_MAX: usize = 4_096;

/// Everything the recording of one slot works with.
pub(crate) struct Recorder {
    pub(crate) store: Arc<dyn Progress>,
    pub(crate) epoch: Epoch,
    pub(crate) origin: Arc<str>,
    pub(crate) sinks: Vec<(Arc<str>, Arc<Ledger>)>,
    recorded: Vec<Settled>,
    failing: bool,
}

impl Recorder {
    pub(crate) fn new(
        store: Arc<dyn Progress>,
        epoch: Epoch,
        origin: Arc<str>,
        sinks: Vec<(Arc<str>, Arc<Ledger>)>,
    ) -> Self {
        let recorded = vec![Settled::default(); sinks.len()];
        Self { store, epoch, origin, sinks, recorded, failing: false }
    }

    /// Records until cancelled, and then a last time, completely: cancel it once nothing settles
    /// any more. Returns early, with the error, if another process took over.
    ///
    /// # Errors
    /// This process is fenced, or the last record failed.
    pub(crate) async fn run(mut self, cancelled: CancellationToken) -> Result<(), StoreError> {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = cancelled.cancelled() => return self.record(usize::MAX).await,
                _ = ticks.tick() => match self.record(OPEN_MAX).await {
                    Ok(()) => {
                        if std::mem::replace(&mut self.failing, false) {
                            warn!(origin = %self.origin, "progress is recorded again");
                        }
                    }
                    Err(error @ StoreError::Fenced { .. }) => return Err(error),
                    Err(error) => {
                        if !std::mem::replace(&mut self.failing, true) {
                            error!(origin = %self.origin, %error, "progress cannot be recorded");
                        }
                    }
                },
            }
        }
    }

    /// Records the sinks whose ledger changed since the last record.
    async fn record(&mut self, open_max: usize) -> Result<(), StoreError> {
        let mut changed: Vec<(usize, String, Settled)> = Vec::new();
        for (index, (name, ledger)) in self.sinks.iter().enumerate() {
            let settled = ledger.lock().settled(open_max);
            if self.recorded.get(index) != Some(&settled) {
                changed.push((index, name.to_string(), settled));
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        let rows = changed.iter().map(|(_, name, settled)| (name.clone(), settled.clone()));
        self.store.record(self.epoch, &self.origin, rows.collect()).await?;
        for (index, _, settled) in changed {
            if let Some(slot) = self.recorded.get_mut(index) {
                *slot = settled;
            }
        }
        Ok(())
    }
}
