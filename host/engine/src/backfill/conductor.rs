//! Runs the backfills of one stream: starts those that are to run, and those that new sinks and new
//! tables ask for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use model::backfill::{Catalog, Tables};
use model::store::BackfillState;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::control::{Backfills, Entry};
use super::initial::Initials;
use super::job::{self, Place};
use super::{PAGES_AT_ONCE, Registry, TABLES_AT_ONCE};
use crate::budget::Budget;
use crate::status::{Note, SlotStatus};
use crate::supervise::{Supervisor, TaskKind};

/// How often it is looked for tables that are new.
const LOOK: Duration = Duration::from_secs(10);

/// How whole tables of a database are read.
#[derive(Clone)]
pub struct Source {
    /// Page by page.
    pub tables: Arc<dyn Tables>,
    /// Which there are.
    pub catalog: Arc<dyn Catalog>,
}

/// Everything the backfills of one stream work with.
pub(crate) struct Conductor {
    pub(crate) backfills: Backfills,
    pub(crate) database: Arc<str>,
    pub(crate) source: Source,
    pub(crate) registry: Arc<Registry>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) status: Arc<SlotStatus>,
    pub(crate) supervisor: Supervisor,
}

type Ended = BoxFuture<'static, (Arc<str>, Option<()>)>;

impl Conductor {
    /// Works until cancelled, which is when what the sinks had under way has ended.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let place = Place {
            backfills: self.backfills.clone(),
            tables: Arc::clone(&self.source.tables),
            registry: Arc::clone(&self.registry),
            budget: Arc::clone(&self.budget),
            status: Arc::clone(&self.status),
            reading: Arc::new(Semaphore::new(PAGES_AT_ONCE)),
            stop: stop.clone(),
        };
        let mut initials = Initials::new(
            self.backfills.clone(),
            Arc::clone(&self.database),
            Arc::clone(&self.source.catalog),
            Arc::clone(&self.registry),
        );
        let mut running: HashMap<Arc<str>, Arc<Note>> = HashMap::new();
        let mut ends: FuturesUnordered<Ended> = FuturesUnordered::new();
        loop {
            let mut changed = std::pin::pin!(self.backfills.changed());
            changed.as_mut().enable();
            let mut sinks = std::pin::pin!(self.registry.sinks_changed());
            sinks.as_mut().enable();
            let mut next = Instant::now() + LOOK;
            match self.backfills.load().await {
                Ok(()) => {
                    if let Some(sooner) = initials.look().await {
                        next = next.min(sooner);
                    }
                    self.start(&place, &mut running, &mut ends);
                }
                Err(error) => tracing::error!(%error, "what is known of backfills cannot be read"),
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = changed => {}
                () = sinks => {}
                Some((id, end)) = ends.next(), if !ends.is_empty() => {
                    let panic = running.remove(&id);
                    if end.is_none() {
                        self.broke(&place, &id, panic).await;
                    }
                }
                () = tokio::time::sleep_until(next) => {}
            }
        }
        while ends.next().await.is_some() {}
    }

    /// Starts what is to run and does not, the oldest first.
    fn start(
        &self,
        place: &Place,
        running: &mut HashMap<Arc<str>, Arc<Note>>,
        ends: &mut FuturesUnordered<Ended>,
    ) {
        for entry in self.backfills.entries() {
            if running.len() >= TABLES_AT_ONCE {
                return;
            }
            let (id, sink) = {
                let record = entry.record();
                if record.state != BackfillState::Active || record.database != self.database {
                    continue;
                }
                (Arc::clone(&record.id), Arc::clone(&record.sink))
            };
            // What cannot go on takes no other's place.
            if running.contains_key(&id) || self.registry.view(&sink).is_none() {
                continue;
            }
            running.insert(Arc::clone(&id), self.spawn(place, &entry, &id, ends));
        }
    }

    fn spawn(
        &self,
        place: &Place,
        entry: &Arc<Entry>,
        id: &Arc<str>,
        ends: &mut FuturesUnordered<Ended>,
    ) -> Arc<Note> {
        let panic: Arc<Note> = Arc::default();
        let told = Arc::clone(&panic);
        let run = job::run(place.clone(), Arc::clone(entry));
        let task = self.supervisor.spawn_watched(TaskKind::Backfill, id, run, move |text| {
            told.set(text.to_owned());
        });
        let id = Arc::clone(id);
        ends.push(Box::pin(async move { (id, task.await.ok().flatten()) }));
        panic
    }

    /// The task of a backfill panicked. It would do so again.
    async fn broke(&self, place: &Place, id: &str, panic: Option<Arc<Note>>) {
        let entries = self.backfills.entries();
        let Some(entry) = entries.iter().find(|entry| *entry.record().id == *id) else { return };
        let text = panic.and_then(|note| note.get()).unwrap_or_default();
        let problem = format!("backfill_fault: a fault of the engine: {text}");
        job::end(place, entry, BackfillState::Failed, Some(problem)).await;
    }
}
