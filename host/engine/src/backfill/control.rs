//! What backfills there are, what becomes of them, and who may say so.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::backfill::Wanted;
use model::store::{
    Backfill, BackfillCounts, BackfillLimits, BackfillRange, BackfillState, Epoch, StoreError,
};
use tokio::sync::{Notify, OnceCell};
use tokio::time::Instant;

use crate::moved::Names;
use crate::select::{Choice, Selection};
use crate::status::Note;

/// All backfills of an engine; clones share them.
#[derive(Clone)]
pub struct Backfills(Arc<Inner>);

struct Inner {
    store: Arc<dyn model::store::Backfills>,
    epoch: Epoch,
    clock_us: fn() -> i64,
    entries: Mutex<Vec<Arc<Entry>>>,
    loaded: OnceCell<()>,
    sinks: Mutex<Vec<Facts>>,
    /// Creating one looks at all.
    creating: tokio::sync::Mutex<()>,
    changed: Notify,
}

/// A sink that runs, as far as backfills of it are concerned.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) id: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) database: Arc<str>,
    pub(crate) selection: Selection,
}

/// One backfill, while the engine runs.
pub(super) struct Entry {
    record: Mutex<Backfill>,
    saving: tokio::sync::Mutex<()>,
    /// The record says more than the store.
    noted: AtomicBool,
    /// What the store has, and since when: nothing is shown that a kill takes back.
    kept: Mutex<(BackfillCounts, Option<Instant>)>,
    /// Why it does not go on at the moment.
    pub(super) waiting: Note,
    rate: Mutex<Rate>,
    /// Its state is another.
    pub(super) changed: Notify,
}

/// Rows that were settled of late.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    since: Option<Instant>,
    rows: u64,
    before: Option<f64>,
}

/// Over how long rows a second are counted.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// A backfill as it is shown.
#[derive(Clone, Debug)]
pub struct Shown {
    /// What is known of it for good.
    pub backfill: Backfill,
    /// The id of its sink, if that runs.
    pub sink_id: Option<Arc<str>>,
    /// Why it does not go on at the moment.
    pub waiting: Option<String>,
    /// Rows a second, of late.
    pub rows_per_second: Option<f64>,
    /// How long it may still take, by the estimate of its rows.
    pub remaining: Option<Duration>,
}

/// A backfill that somebody asks for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The id or the name of a sink.
    pub sink: String,
    /// The table and what of it. With no name of a table it is the only one of the sink.
    pub wanted: Wanted,
    /// How.
    pub limits: BackfillLimits,
}

/// Why nothing came of a request.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is no such sink, or no such backfill of it.
    #[error("there is no {0}")]
    Missing(String),
    /// It cannot be done as things are; the code is stable.
    #[error("{message}")]
    Conflict {
        /// Stable name of the reason.
        code: &'static str,
        /// What is wrong and what to do.
        message: String,
    },
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn conflict(code: &'static str, message: String) -> Refused {
    Refused::Conflict { code, message }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Backfills {
    pub(crate) fn new(
        store: Arc<dyn model::store::Backfills>,
        epoch: Epoch,
        clock_us: fn() -> i64,
    ) -> Self {
        Self(Arc::new(Inner {
            store,
            epoch,
            clock_us,
            entries: Mutex::default(),
            loaded: OnceCell::new(),
            sinks: Mutex::default(),
            creating: tokio::sync::Mutex::default(),
            changed: Notify::new(),
        }))
    }

    /// Reads what the store has, once.
    pub(crate) async fn load(&self) -> Result<(), StoreError> {
        let load = || async {
            let all = self.0.store.all().await?;
            *locked(&self.0.entries) = all.into_iter().map(Entry::new).collect();
            Ok(())
        };
        self.0.loaded.get_or_try_init(load).await.map(drop)
    }

    /// These sinks are to run, and no others.
    pub(crate) fn set_sinks(&self, sinks: Vec<Facts>) {
        *locked(&self.0.sinks) = sinks;
        self.0.changed.notify_waiters();
    }

    pub(super) fn sinks(&self) -> Vec<Facts> {
        locked(&self.0.sinks).clone()
    }

    /// While this is held, none is created.
    pub(crate) async fn alone(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.creating.lock().await
    }

    /// Sinks and databases have other names, in the store too. Those it is about do not run.
    pub(crate) fn rename(&self, names: &Names) {
        for entry in self.entries() {
            let mut record = entry.record();
            let sink = names.sink(&record.sink).map(|sink| Arc::clone(&sink.to));
            record.sink = sink.unwrap_or_else(|| Arc::clone(&record.sink));
            let database = names.database(&record.database).cloned();
            record.database = database.unwrap_or_else(|| Arc::clone(&record.database));
        }
    }

    pub(super) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.0.changed.notified()
    }

    pub(super) fn entries(&self) -> Vec<Arc<Entry>> {
        locked(&self.0.entries).clone()
    }

    pub(super) fn store(&self) -> &dyn model::store::Backfills {
        self.0.store.as_ref()
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.0.epoch
    }

    fn sink(&self, id_or_name: &str) -> Result<Facts, Refused> {
        let sinks = locked(&self.0.sinks);
        let by_id = sinks.iter().find(|sink| *sink.id == *id_or_name);
        let found = by_id.or_else(|| sinks.iter().find(|sink| *sink.name == *id_or_name));
        found.cloned().ok_or_else(|| Refused::Missing(format!("running sink `{id_or_name:.200}`")))
    }

    /// The backfills of a sink by its id or name, the newest first.
    ///
    /// # Errors
    /// There is no such sink; the store does not answer.
    pub async fn list(&self, sink: &str) -> Result<Vec<Shown>, Refused> {
        self.load().await?;
        let sink = self.sink(sink)?;
        let mut all = self.entries();
        all.reverse();
        all.retain(|entry| entry.record().sink == sink.name);
        Ok(all.iter().map(|entry| entry.shown(Some(Arc::clone(&sink.id)))).collect())
    }

    /// One of a sink's backfills.
    ///
    /// # Errors
    /// There is none; the store does not answer.
    pub async fn get(&self, sink: &str, id: &str) -> Result<Shown, Refused> {
        let (sink, entry) = self.find(sink, id).await?;
        Ok(entry.shown(Some(sink.id)))
    }

    async fn find(&self, sink: &str, id: &str) -> Result<(Facts, Arc<Entry>), Refused> {
        self.load().await?;
        let sink = self.sink(sink)?;
        let entries = self.entries();
        let is_it = |entry: &&Arc<Entry>| {
            let record = entry.record();
            *record.id == *id && record.sink == sink.name
        };
        let entry = entries.iter().find(is_it).map(Arc::clone);
        let missing = || Refused::Missing(format!("backfill `{id:.200}` of sink `{}`", sink.name));
        let entry = entry.ok_or_else(missing)?;
        Ok((sink, entry))
    }

    /// Begins a backfill. It is kept when this returns.
    ///
    /// # Errors
    /// There is no such sink; it has one of this table that runs; the sink does not take the table.
    pub async fn create(&self, request: Request) -> Result<Shown, Refused> {
        self.load().await?;
        let _alone = self.0.creating.lock().await;
        let sink = self.sink(&request.sink)?;
        let mut wanted = request.wanted;
        if wanted.table.is_empty() {
            (wanted.schema, wanted.table) = only_table(&sink)?;
        }
        check_table(&sink, &wanted)?;
        self.check_alone(&sink.name, &wanted, None)?;
        let record = self.record(&sink, wanted, request.limits);
        self.0.store.save(self.0.epoch, record.clone()).await?;
        let entry = self.add(record);
        Ok(entry.shown(Some(sink.id)))
    }

    /// A new one, as it is kept.
    pub(super) fn record(&self, sink: &Facts, wanted: Wanted, limits: BackfillLimits) -> Backfill {
        let now = (self.0.clock_us)();
        Backfill {
            id: uuid().into(),
            sink: Arc::clone(&sink.name),
            database: Arc::clone(&sink.database),
            wanted,
            limits,
            state: BackfillState::Active,
            error: None,
            order: None,
            rows_estimate: None,
            ranges: Vec::new(),
            counts: Default::default(),
            created_us: now,
            updated_us: now,
            ended_us: None,
        }
    }

    /// It is in the store.
    pub(super) fn add(&self, record: Backfill) -> Arc<Entry> {
        let entry = Entry::new(record);
        locked(&self.0.entries).push(Arc::clone(&entry));
        self.0.changed.notify_waiters();
        entry
    }

    /// 175: one of a sink and table at a time.
    fn check_alone(
        &self,
        sink: &str,
        wanted: &Wanted,
        but: Option<&Arc<Entry>>,
    ) -> Result<(), Refused> {
        let entries = self.entries();
        let runs = |entry: &&Arc<Entry>| {
            let record = entry.record();
            but.is_none_or(|but| !Arc::ptr_eq(but, entry))
                && record.state == BackfillState::Active
                && *record.sink == *sink
                && record.wanted.schema == wanted.schema
                && record.wanted.table == wanted.table
        };
        let Some(other) = entries.iter().find(runs) else { return Ok(()) };
        let id = Arc::clone(&other.record().id);
        let Wanted { schema, table, .. } = wanted;
        Err(conflict(
            "backfill_exists",
            format!(
                "sink `{sink}` has an active backfill of {schema}.{table} already ({id}): wait for \
                 it, or cancel it"
            ),
        ))
    }

    /// Pauses a backfill, lets it go on, or cancels it.
    ///
    /// # Errors
    /// There is none; it cannot become that from what it is; the store does not answer.
    pub async fn set_state(
        &self,
        sink: &str,
        id: &str,
        state: BackfillState,
    ) -> Result<Shown, Refused> {
        let (sink, entry) = self.find(sink, id).await?;
        if matches!(state, BackfillState::Completed | BackfillState::Failed) {
            let message = format!("a backfill is not told to be {}: it is, or not", state.as_str());
            return Err(conflict("backfill_state", message));
        }
        let _alone = self.0.creating.lock().await;
        if state == BackfillState::Active {
            let wanted = entry.record().wanted.clone();
            self.check_alone(&sink.name, &wanted, Some(&entry))?;
        }
        self.become_state(&entry, state, None).await?;
        Ok(entry.shown(Some(sink.id)))
    }

    /// Changes the state of one, if it may become that.
    pub(super) async fn become_state(
        &self,
        entry: &Arc<Entry>,
        state: BackfillState,
        error: Option<String>,
    ) -> Result<(), Refused> {
        let _saving = entry.saving.lock().await;
        let mut next = entry.record().clone();
        if !next.state.may_become(state) {
            let (from, to) = (next.state.as_str(), state.as_str());
            let message = format!("a backfill that is {from} cannot become {to}");
            return Err(conflict("backfill_state", message));
        }
        let now = (self.0.clock_us)();
        next.state = state;
        next.error = error;
        next.updated_us = now;
        next.ended_us = state.is_over().then_some(now);
        self.0.store.save(self.0.epoch, next.clone()).await?;
        *locked(&entry.kept) = (next.counts, Some(Instant::now()));
        {
            let mut record = entry.record();
            record.state = next.state;
            record.error = next.error;
            record.updated_us = next.updated_us;
            record.ended_us = next.ended_us;
        }
        entry.waiting.set(None);
        entry.changed.notify_waiters();
        self.0.changed.notify_waiters();
        Ok(())
    }

    /// Changes what is known of one, and keeps it.
    pub(super) async fn update(
        &self,
        entry: &Entry,
        update: impl FnOnce(&mut Backfill),
    ) -> Result<(), StoreError> {
        let _saving = entry.saving.lock().await;
        let next = {
            let mut record = entry.record();
            update(&mut record);
            record.updated_us = (self.0.clock_us)();
            entry.noted.store(false, Ordering::Relaxed);
            record.clone()
        };
        let counts = next.counts;
        let saved = self.0.store.save(self.0.epoch, next).await;
        match &saved {
            Ok(()) => *locked(&entry.kept) = (counts, Some(Instant::now())),
            Err(_) => entry.note(|_| ()),
        }
        saved
    }
}

/// The table of a sink that has but one.
fn only_table(sink: &Facts) -> Result<(Arc<str>, Arc<str>), Refused> {
    use crate::select::{Names, Table};
    match &sink.selection.tables.tables {
        Names::Only(tables) => match tables.as_slice() {
            [Table::Named { schema, table }] => Ok((schema.as_str().into(), table.as_str().into())),
            _ => Err(several(sink)),
        },
        Names::All | Names::Except(_) => Err(several(sink)),
    }
}

fn several(sink: &Facts) -> Refused {
    let message = format!(
        "sink `{}` may have several tables: say which one with `table`, as `schema.table`",
        sink.name
    );
    conflict("backfill_table_required", message)
}

/// As far as it can be told by the name. What is chosen by oid is looked at once it is known.
fn check_table(sink: &Facts, wanted: &Wanted) -> Result<(), Refused> {
    use crate::select::{Names, Table};
    let by_oid = match &sink.selection.tables.tables {
        Names::Only(tables) => tables.iter().any(|table| matches!(table, Table::Oid(_))),
        Names::All | Names::Except(_) => false,
    };
    let relation = super::relation_of(0, &wanted.schema, &wanted.table);
    match sink.selection.choice(&relation) {
        Choice::Wanted | Choice::Inherited(_) => Ok(()),
        Choice::NotIncluded if by_oid => Ok(()),
        Choice::NotIncluded | Choice::Excluded => {
            let (Wanted { schema, table, .. }, name) = (wanted, &sink.name);
            let message = format!(
                "sink `{name}` does not take {schema}.{table}: add it to the sink's `source` first"
            );
            Err(conflict("backfill_table_not_chosen", message))
        }
    }
}

/// A random UUID (version 4).
pub(crate) fn uuid() -> String {
    let bits = fastrand::Rng::new().u128(..);
    let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

impl Entry {
    fn new(record: Backfill) -> Arc<Self> {
        Arc::new(Self {
            kept: Mutex::new((record.counts, None)),
            record: Mutex::new(record),
            saving: tokio::sync::Mutex::default(),
            noted: AtomicBool::default(),
            waiting: Note::default(),
            rate: Mutex::default(),
            changed: Notify::new(),
        })
    }

    pub(super) fn record(&self) -> MutexGuard<'_, Backfill> {
        locked(&self.record)
    }

    /// Changes what is known of it; [`Backfills::update`] keeps it.
    pub(super) fn note(&self, update: impl FnOnce(&mut Backfill)) {
        update(&mut self.record());
        self.noted.store(true, Ordering::Relaxed);
    }

    /// Whether something is noted that is not kept.
    pub(super) fn is_noted(&self) -> bool {
        self.noted.load(Ordering::Relaxed)
    }

    /// When something was kept the last time in this run.
    pub(super) fn kept_at(&self) -> Option<Instant> {
        locked(&self.kept).1
    }

    pub(super) fn range(&self, index: usize) -> Option<BackfillRange> {
        self.record().ranges.get(index).cloned()
    }

    pub(super) fn state(&self) -> BackfillState {
        self.record().state
    }

    /// Rows were settled.
    pub(super) fn count(&self, rows: u64) {
        let now = Instant::now();
        let mut rate = locked(&self.rate);
        let since = *rate.since.get_or_insert(now);
        rate.rows += rows;
        let took = now.duration_since(since);
        if took >= RATE_WINDOW {
            let before = Some(rate.rows as f64 / took.as_secs_f64());
            *rate = Rate { since: Some(now), rows: 0, before };
        }
    }

    fn rows_per_second(&self) -> Option<f64> {
        let rate = *locked(&self.rate);
        rate.before.or_else(|| {
            let took = rate.since?.elapsed().as_secs_f64();
            (took > 0.1).then(|| rate.rows as f64 / took)
        })
    }

    fn shown(&self, sink_id: Option<Arc<str>>) -> Shown {
        let mut backfill = self.record().clone();
        backfill.counts = locked(&self.kept).0;
        let is_active = backfill.state == BackfillState::Active;
        let rows_per_second = is_active.then(|| self.rows_per_second()).flatten();
        let left = backfill.rows_estimate.map(|rows| rows.saturating_sub(backfill.counts.read));
        let remaining = left
            .zip(rows_per_second)
            .and_then(|(left, rate)| Duration::try_from_secs_f64(left as f64 / rate).ok());
        Shown { backfill, sink_id, waiting: self.waiting.get(), rows_per_second, remaining }
    }
}

/// Cancels the backfills of sinks that are gone, and forgets those sinks: trying until the store
/// takes it.
pub(crate) async fn cancel_without_sink(backfills: Backfills) {
    let mut attempts = 0;
    loop {
        match cancel(&backfills).await {
            Ok(()) => return,
            Err(error @ StoreError::Fenced { .. }) => {
                tracing::error!(%error, "backfills of sinks that are gone are not cancelled");
                return;
            }
            Err(error) => {
                attempts += 1;
                if attempts == 1 {
                    tracing::error!(%error, "backfills of sinks that are gone cannot be cancelled; trying again");
                }
                tokio::time::sleep_until(Instant::now() + Duration::from_secs(1)).await;
            }
        }
    }
}

async fn cancel(backfills: &Backfills) -> Result<(), StoreError> {
    backfills.load().await?;
    let names: Vec<Arc<str>> = backfills.sinks().into_iter().map(|sink| sink.name).collect();
    for entry in backfills.entries() {
        let is_orphan = {
            let record = entry.record();
            !record.state.is_over() && !names.contains(&record.sink)
        };
        if is_orphan {
            let why = "its sink was removed, or disabled".to_owned();
            let cancelled = backfills.become_state(&entry, BackfillState::Cancelled, Some(why));
            // Or it was over this very moment.
            if let Err(Refused::Store(error)) = cancelled.await {
                return Err(error);
            }
        }
    }
    backfills.store().keep_sinks(backfills.epoch(), names).await
}
