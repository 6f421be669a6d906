//! Other versions of functions on their way into use, sink by sink.
//!
//! *Shadow*: the version is shown what the one in use judges, and what it says is compared and
//! dropped. *Canary*: of a hundred groups of rows so many take it. *Promoted*: all do. A change of the
//! share is decided at once and in force from a position on, which is on record before the first row
//! takes it (`run.rs`): everything before goes the old way and everything behind the new one, also if
//! it comes again after a kill. The intake takes rows in in the order of the stream, so a group that
//! moves from one version to the other does so between two of its rows, and the sink, its lanes and
//! its requests under way notice nothing.
//!
//! The version in use stays in the sink's chain all the time; what is rolled out lies over it, until
//! the configuration itself names the new version.

mod arms;
mod compare;
mod control;
mod run;
mod shadow;

pub use arms::{Arm, Arms, Spread};
pub use compare::{Class, Comparison, Sample};
pub use control::{RolloutError, Start, Turn};
pub(crate) use run::{Judged, Rolled, Seat};

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::plugin::Plugin;
use model::rollout::{Rollout, RolloutState};
use model::sink::SinkKind;
use model::store::{Epoch, Progress};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::spec::{SinkSpec, SlotSpec};
use crate::status::Counter;
use crate::supervise::Supervisor;
use arms::Window;
use shadow::Shadow;

/// All rollouts of an engine; clones share them.
#[derive(Clone)]
pub struct Rollouts(Arc<Inner>);

struct Inner {
    store: Arc<dyn model::store::Rollouts>,
    progress: Arc<dyn Progress>,
    epoch: Epoch,
    clock_us: fn() -> i64,
    supervisor: Supervisor,
    entries: Mutex<Vec<Arc<Entry>>>,
    sinks: Mutex<Vec<Facts>>,
    /// How many rows may need: most sinks have none, at each run of rows.
    lying: AtomicUsize,
    /// Creating one looks at all.
    creating: tokio::sync::Mutex<()>,
    /// How often one was taken back by its rules.
    rolled_back: Counter,
    /// Those that were ended by their rules since the process began, in their order.
    by_rules: Mutex<Vec<Arc<str>>>,
}

/// A sink that runs, as far as rollouts are concerned.
struct Facts {
    id: Arc<str>,
    name: Arc<str>,
    kind: SinkKind,
    /// It cannot be built, so what it runs is not known.
    is_unfit: bool,
    /// Name and digest of each plugin in its chains.
    functions: Vec<(Arc<str>, Arc<str>)>,
}

impl Facts {
    fn of(sink: &SinkSpec) -> Self {
        let chains = [&sink.filters, &sink.routers, &sink.transforms];
        let function = |plugin: &Arc<dyn Plugin>| (plugin.name().into(), plugin.digest().into());
        Self {
            id: Arc::clone(&sink.id),
            name: Arc::clone(&sink.name),
            kind: sink.sink.kind(),
            is_unfit: sink.fault.is_some(),
            functions: chains.into_iter().flatten().map(function).collect(),
        }
    }

    fn digest(&self, function: &str) -> Option<&Arc<str>> {
        let found = self.functions.iter().find(|(name, _)| **name == *function);
        found.map(|(_, digest)| digest)
    }
}

/// One rollout, while the engine runs.
pub(crate) struct Entry {
    record: Mutex<Arc<Rollout>>,
    /// Held while the record is changed and saved.
    changing: tokio::sync::Mutex<()>,
    /// The new version; None if it cannot be had.
    plugin: Mutex<Option<Arc<dyn Plugin>>>,
    window: Mutex<Window>,
    shadow: Shadow,
    /// Ends the shadow.
    stop: CancellationToken,
    /// When it may be asked again whether no row needs the new version.
    next_look: Mutex<Instant>,
    /// A failure of the store was told.
    told: std::sync::atomic::AtomicBool,
}

/// What is shown of a rollout.
#[derive(Clone, Debug)]
pub struct Report {
    /// What is kept of it.
    pub record: Arc<Rollout>,
    /// What both versions did since this process began or, of a shadow, were shown.
    pub arms: Arms,
    /// How the outputs of a shadow compare.
    pub comparison: Comparison,
    /// Rows that the shadow was not shown, because it was busy.
    pub skipped: u64,
    /// What the new version used.
    pub used: Option<model::plugin::Cost>,
}

impl Entry {
    fn new(record: Rollout, plugin: Option<Arc<dyn Plugin>>) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            record: Mutex::new(Arc::new(record)),
            changing: tokio::sync::Mutex::default(),
            plugin: Mutex::new(plugin),
            window: Mutex::new(Window::new(now)),
            shadow: Shadow::default(),
            stop: CancellationToken::new(),
            next_look: Mutex::new(now),
            told: false.into(),
        })
    }

    fn record(&self) -> Arc<Rollout> {
        Arc::clone(&lock(&self.record))
    }

    fn plugin(&self) -> Option<Arc<dyn Plugin>> {
        lock(&self.plugin).clone()
    }

    /// Whether rows may need it. What the configuration has taken up, or put away, still lies over the
    /// sink that ran before, until that has gone: over the next one it does not, by its digest.
    fn lies(&self) -> bool {
        let record = self.record();
        let is_left = matches!(record.state, RolloutState::Completed | RolloutState::Superseded);
        record.is_attached() || is_left && lock(&self.plugin).is_some()
    }

    fn report(&self) -> Report {
        let (comparison, skipped) = self.shadow.seen();
        Report {
            record: self.record(),
            arms: lock(&self.window).all.clone(),
            comparison,
            skipped,
            used: self.plugin().and_then(|plugin| plugin.cost()),
        }
    }
}

impl Rollouts {
    pub(crate) fn new(
        stores: &crate::run::Stores,
        clock_us: fn() -> i64,
        supervisor: Supervisor,
    ) -> Self {
        Self(Arc::new(Inner {
            store: Arc::clone(&stores.rollouts),
            progress: Arc::clone(&stores.progress),
            epoch: stores.epoch,
            clock_us,
            supervisor,
            entries: Mutex::default(),
            sinks: Mutex::default(),
            lying: AtomicUsize::new(0),
            creating: tokio::sync::Mutex::default(),
            rolled_back: Counter::default(),
            by_rules: Mutex::default(),
        }))
    }

    /// How often a rollout was taken back by its rules since the process began.
    #[must_use]
    pub fn rolled_back(&self) -> u64 {
        self.0.rolled_back.get()
    }

    /// What their rules ended since the process began, behind so many of them.
    #[must_use]
    pub fn ended_by_rules(&self, seen: usize) -> Vec<Report> {
        let ids = lock(&self.0.by_rules);
        ids.iter().skip(seen).filter_map(|id| self.get(id)).collect()
    }

    /// All of them, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Report> {
        self.entries().iter().map(|entry| entry.report()).collect()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Report> {
        self.find(id).map(|entry| entry.report())
    }

    fn find(&self, id: &str) -> Option<Arc<Entry>> {
        self.entries().iter().find(|entry| *entry.record().id == *id).map(Arc::clone)
    }

    /// Rows of this sink may need these.
    fn lying(&self, sink: &str) -> Vec<Arc<Entry>> {
        if self.0.lying.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let entries = self.entries();
        let is_it = |entry: &&Arc<Entry>| entry.lies() && *lock(&entry.record).sink == *sink;
        entries.iter().filter(is_it).map(Arc::clone).collect()
    }

    fn recount(&self) {
        let lying = self.entries().iter().filter(|entry| entry.lies()).count();
        self.0.lying.store(lying, Ordering::Release);
    }

    /// Which rollouts still lie over these slots, but for sinks that cannot be built: they need their
    /// versions, with the configurations of these slots.
    #[must_use]
    pub fn lie_over(&self, slots: &[SlotSpec]) -> Vec<Arc<Rollout>> {
        let sinks: Vec<Facts> = facts(slots);
        let records = self.entries().iter().map(|entry| entry.record()).collect::<Vec<_>>();
        let runs = |it: &Rollout| {
            let found = sinks.iter().find(|sink| sink.name == it.sink);
            found.is_some_and(|sink| !sink.is_unfit)
        };
        let open = records
            .into_iter()
            .filter(|it| it.is_attached() && runs(it) && over(it, &sinks).is_none());
        open.collect()
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Arc<Entry>>> {
        lock(&self.0.entries)
    }
}

fn facts(slots: &[SlotSpec]) -> Vec<Facts> {
    slots.iter().flat_map(|slot| slot.sinks.iter().map(Facts::of)).collect()
}

/// What a rollout has become among these sinks, and why; None if it goes on.
fn over(record: &Rollout, sinks: &[Facts]) -> Option<(RolloutState, String)> {
    let (sink, function) = (&record.sink, &record.function);
    let superseded = |why: String| Some((RolloutState::Superseded, why));
    let Some(found) = sinks.iter().find(|found| found.name == *sink) else {
        return superseded(format!("sink `{sink}` does not run any more"));
    };
    match found.digest(function) {
        // What is missing may come back, and finds the rollout as it was.
        _ if found.is_unfit => None,
        None => superseded(format!("sink `{sink}` does not use function `{function}` any more")),
        Some(digest) if *digest == record.base => None,
        Some(digest) if *digest == record.digest => {
            Some((RolloutState::Completed, "the configuration names it".to_owned()))
        }
        Some(digest) => superseded(format!("the configuration names another version, {digest}")),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
