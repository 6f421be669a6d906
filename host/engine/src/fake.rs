//! A scripted world around the engine for its tests: a log with changes, sinks that fail as told,
//! plugins that are functions, and a store in memory that survives a "process".

pub(crate) mod change_log;
pub(crate) mod enrich;
pub(crate) mod kill;
pub(crate) mod log;
pub(crate) mod lookup;
pub(crate) mod plugin;
pub(crate) mod scratch;
pub(crate) mod sink;
pub(crate) mod store;
pub(crate) mod tables;

use std::sync::Arc;
use std::time::Duration;

use model::backoff::Backoff;
use model::envelope::Envelope;
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::grouping::Grouping;
use crate::run::{Engine, Settings, Stores};
use crate::select::Selection;
use crate::spec::{SinkSpec, SlotSpec};
use crate::status::Status;
use crate::supervise::Supervisor;

/// The time of day. The fake log's commits are of time 0.
pub(crate) const NOW_US: i64 = 4_321;

/// A sink's spec with nothing special about it.
pub(crate) fn sink_spec(name: &str, sink: &Arc<sink::Recording>) -> SinkSpec {
    SinkSpec {
        id: name.into(),
        name: name.into(),
        revision: 0,
        config: "config".into(),
        fault: None,
        selection: Selection::default(),
        lookup: None,
        enrichments: Vec::new(),
        filters: Vec::new(),
        routers: Vec::new(),
        transforms: Vec::new(),
        path: None,
        envelope: Envelope::new(
            &model::envelope::Consumer { annotations: "{}", ..Default::default() },
            &model::envelope::Database { annotations: "{}", ..Default::default() },
        ),
        sink: Arc::<sink::Recording>::clone(sink),
        grouping: Grouping::default(),
        initial: crate::backfill::Initial::default(),
        paused: false,
        backoff: Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(600) },
        on_full: crate::spec::OnFull::Pause,
        attempts_max: None,
        rate_limit: None,
        letter_limit: None,
    }
}

/// With what an engine runs here.
pub(crate) fn settings() -> Settings {
    Settings {
        drain_deadline: Duration::from_secs(25),
        change_log_bytes_max: 1 << 30,
        clock_us: || NOW_US,
    }
}

/// The slot of this log with these sinks.
pub(crate) fn slot_spec(log: &log::Log, sinks: Vec<SinkSpec>) -> SlotSpec {
    SlotSpec {
        name: "slot".into(),
        database: "database".into(),
        revision: 0,
        on_mismatch: crate::spec::OnMismatch::Fail,
        connect: Arc::new(log.clone()),
        backfill: None,
        sinks,
    }
}

/// An engine over this log, these sinks and this store, and what it shows.
pub(crate) fn engine(
    log: &log::Log,
    sinks: Vec<SinkSpec>,
    store: &Arc<store::Store>,
    budget_bytes: usize,
) -> (Engine, Arc<Status>, Supervisor) {
    engine_with(log, sinks, store, budget_bytes, settings())
}

/// As [`engine`], with these settings.
pub(crate) fn engine_with(
    log: &log::Log,
    sinks: Vec<SinkSpec>,
    store: &Arc<store::Store>,
    budget_bytes: usize,
    settings: Settings,
) -> (Engine, Arc<Status>, Supervisor) {
    engine_of(log, slot_spec(log, sinks), store, budget_bytes, settings)
}

/// As [`engine_with`], of any slot.
pub(crate) fn engine_of(
    log: &log::Log,
    slot: SlotSpec,
    store: &Arc<store::Store>,
    budget_bytes: usize,
    settings: Settings,
) -> (Engine, Arc<Status>, Supervisor) {
    let stores = Stores {
        progress: Arc::<store::Store>::clone(store),
        letters: Arc::<store::Store>::clone(store),
        owners: Arc::<store::Store>::clone(store),
        logs: Arc::<change_log::Disk>::clone(&store.disk),
        backfills: Arc::<store::Store>::clone(store),
        rollouts: Arc::<store::Store>::clone(store),
        scratch: store.scratch(),
        epoch: store.next_epoch(),
    };
    let supervisor = Supervisor::default();
    let budget = Budget::new(budget_bytes);
    let engine = Engine::new(vec![slot], budget, stores, settings, supervisor.clone());
    let status = engine.status();
    log.is_read_by(&status);
    (engine, status, supervisor)
}

/// Runs an engine until `done` holds, then stops it in order. Time is paused, so an hour of the
/// engine's is nothing; it is also the bound.
pub(crate) async fn run_until(engine: Engine, mut done: impl FnMut() -> bool) {
    let stop = CancellationToken::new();
    let watch = async {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(3_600);
        while !done() {
            let now = tokio::time::Instant::now();
            assert!(now < deadline, "it did not happen within an hour of the engine's time");
            tokio::time::sleep_until(now + Duration::from_millis(5)).await;
        }
        stop.cancel();
    };
    tokio::join!(engine.run(stop.clone()), watch);
}
