//! Records how far each sink of a slot came, so that a restart repeats little and a graceful one
//! nothing; and what is to be confirmed, before the server is told.
//!
//! Off the data path: while the store is away, delivery goes on and only repeats more after a kill.
//! Nothing is confirmed then, and the server keeps its log.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::acks::Settled;
use model::lsn::Lsn;
use model::store::{Confirmed, Epoch, Progress, StoreError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::ledger::Ledger;
use crate::recorded::Recorded;
use crate::spool::Spool;

/// How often progress is recorded: what a kill repeats is what was delivered within it.
const INTERVAL: Duration = Duration::from_millis(50);

/// How often a position to be confirmed is recorded, which makes the disk sync. The source sends no
/// more than one in this time either.
const CONFIRM_INTERVAL: Duration = Duration::from_millis(100);

/// Open positions recorded per sink while running (16 bytes each): a record stays small however
/// long a queue is. The last record of a graceful stop has no such bound.
const OPEN_MAX: usize = 4_096;

/// The ledgers of a slot's sinks by name, as they come and go.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledgers(Arc<Mutex<HashMap<Arc<str>, Arc<Ledger>>>>);

impl Ledgers {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Ledger>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ledger of this sink from now on.
    pub(crate) fn set(&self, sink: &Arc<str>, ledger: &Arc<Ledger>) {
        self.lock().insert(Arc::clone(sink), Arc::clone(ledger));
    }

    /// What becomes of this sink is recorded no more.
    pub(crate) fn remove(&self, sink: &str) {
        self.lock().remove(sink);
    }

    fn all(&self) -> Vec<(Arc<str>, Arc<Ledger>)> {
        let known = self.lock();
        known.iter().map(|(name, ledger)| (Arc::clone(name), Arc::clone(ledger))).collect()
    }
}

/// Everything the recording of one slot works with.
pub(crate) struct Recorder {
    pub(crate) store: Arc<dyn Progress>,
    pub(crate) epoch: Epoch,
    pub(crate) origin: Arc<str>,
    pub(crate) sinks: Ledgers,
    /// What the slot wants to confirm, and may.
    pub(crate) confirmed: Arc<Recorded>,
    pub(crate) spool: Arc<Spool>,
    /// When that was last recorded.
    confirmed_at: Option<Instant>,
    recorded: HashMap<Arc<str>, Settled>,
    failing: bool,
}

impl Recorder {
    pub(crate) fn new(
        store: Arc<dyn Progress>,
        epoch: Epoch,
        origin: Arc<str>,
        sinks: Ledgers,
        confirmed: Arc<Recorded>,
        spool: Arc<Spool>,
    ) -> Self {
        let recorded = HashMap::new();
        let (confirmed_at, failing) = (None, false);
        Self { store, epoch, origin, sinks, confirmed, spool, confirmed_at, recorded, failing }
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
                () = cancelled.cancelled() => {
                    self.confirmed_at = None;
                    return self.record(usize::MAX).await;
                }
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

    /// Records the sinks whose ledger changed since the last record, and what is to be confirmed.
    async fn record(&mut self, open_max: usize) -> Result<(), StoreError> {
        let wanted = self.confirmed.wanted();
        // Asked after what is wanted: as far as that needs the log, it is there.
        let log = self.spool.synced();
        let confirmed = self.to_confirm(wanted);
        let mut changed: Vec<(Arc<str>, Settled)> = Vec::new();
        for (name, ledger) in self.sinks.all() {
            let settled = ledger.lock().settled(open_max);
            if self.recorded.get(&name) != Some(&settled) {
                changed.push((name, settled));
            }
        }
        if changed.is_empty() && confirmed.is_none() {
            return Ok(());
        }
        let rows = changed.iter().map(|(name, settled)| (name.to_string(), settled.clone()));
        let to_record = confirmed.map(|lsn| Confirmed { lsn, log });
        self.store.record(self.epoch, &self.origin, rows.collect(), to_record).await?;
        if let Some(confirmed) = confirmed {
            self.confirmed.set(confirmed);
            self.confirmed_at = Some(Instant::now());
        }
        self.recorded.extend(changed);
        Ok(())
    }

    /// The position to record now, if it is time. One that an earlier process has recorded already
    /// needs no record.
    fn to_confirm(&self, wanted: Lsn) -> Option<Lsn> {
        if wanted <= self.confirmed.get() {
            return None;
        }
        if wanted <= self.confirmed.highest() {
            self.confirmed.set(wanted);
            return None;
        }
        let due = self.confirmed_at.is_none_or(|at| at.elapsed() >= CONFIRM_INTERVAL);
        due.then_some(wanted)
    }
}
