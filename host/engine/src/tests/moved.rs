//! Sinks that get another name while the engine runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use model::batch::Grouping;
use model::rollout::{Rollout, RolloutState, Rules};
use model::store::Rollouts as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fake::log::{Log, Row};
use crate::fake::sink::{Answer, Recording};
use crate::fake::store::Store;
use crate::fake::{engine, sink_spec, slot_spec};
use crate::moved::{MovedSink, Moving, Names, NotMoved};
use crate::run::Handle;
use crate::spec::SinkSpec;
use crate::status::{Fault, Status};

struct World {
    log: Log,
    handle: Handle,
    status: Arc<Status>,
    store: Arc<Store>,
}

/// Waits within an hour of the engine's time.
async fn until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(3_600);
    while !done() {
        assert!(Instant::now() < deadline, "it did not happen within an hour of the engine's time");
        tokio::time::sleep_until(Instant::now() + Duration::from_millis(5)).await;
    }
}

impl World {
    /// `old` gets the name `new`; `recorded` is what the store comes to.
    async fn rename(
        &self,
        sinks: [&Arc<Recording>; 2],
        recorded: Result<(), String>,
    ) -> Result<(), NotMoved> {
        let (store, log) = (Arc::clone(&self.store), self.log.clone());
        let record = async move {
            assert!(!log.is_read(), "nobody writes under the old name any more");
            if recorded.is_ok() {
                store.rename("old", "new");
            }
            recorded
        };
        let moved = MovedSink { from: "old".into(), to: "new".into(), id: "new".into() };
        let moving = Moving {
            stop: vec!["database".into()],
            names: Names { sinks: vec![moved], ..Names::default() },
            record: Box::new(|| Box::pin(record)),
        };
        let sinks = vec![sink_spec("new", sinks[0]), sink_spec("stays", sinks[1])];
        self.handle.apply_moved(vec![slot_spec(&self.log, sinks)], moving).await.unwrap()
    }

    fn commit(&self, keys: std::ops::Range<u64>) {
        for key in keys {
            self.log.commit(vec![Row::update(key, key)]);
        }
    }

    fn names(&self) -> Vec<String> {
        let sinks = self.status.slots.list()[0].sinks.list();
        sinks.iter().map(|sink| sink.name.to_string()).collect()
    }
}

/// Runs `old` and `stays` on a log while `story` goes on, then stops in order.
async fn run(sinks: [&Arc<Recording>; 2], story: impl AsyncFnOnce(&World)) {
    let specs = vec![sink_spec("old", sinks[0]), sink_spec("stays", sinks[1])];
    run_with(Arc::default(), specs, story).await;
}

/// The same with what there is already.
async fn run_with(store: Arc<Store>, specs: Vec<SinkSpec>, story: impl AsyncFnOnce(&World)) {
    let log = Log::new();
    let (engine, status, _) = engine(&log, specs, &store, 1 << 20);
    engine.handle().rollouts().restore(engine.slots()).await.unwrap();
    let world = World { log, handle: engine.handle(), status, store };
    let stop = CancellationToken::new();
    let told = async {
        until(|| world.status.slots.list()[0].connects.get() == 1).await;
        story(&world).await;
        stop.cancel();
    };
    tokio::join!(engine.run(stop.clone()), told);
}

fn keys(sink: &Recording) -> Vec<u64> {
    let first = Log::commit_lsn(0).0;
    let key = |message: &Arc<model::message::Message>| message.position.commit_lsn.0 / first - 1;
    sink.received().iter().map(key).collect()
}

/// Down as long as it is set.
fn failing(down: &Arc<AtomicBool>) -> Arc<Recording> {
    let down = Arc::clone(down);
    Recording::new(Grouping::Apart, 10, move |_| Answer {
        error: down.load(Ordering::Relaxed).then(|| crate::fake::sink::refusal().unwrap()),
        ..Answer::default()
    })
}

#[tokio::test(start_paused = true)]
async fn what_a_sink_owed_comes_once_and_in_order_under_its_new_name() {
    let down = Arc::new(AtomicBool::new(false));
    let sinks = [&failing(&down), &Recording::willing()];
    run(sinks, async |world| {
        world.commit(0..10);
        until(|| world.log.settled()).await;
        down.store(true, Ordering::Relaxed);
        world.commit(10..60);
        until(|| sinks[1].len() == 60).await;
        world.rename(sinks, Ok(())).await.unwrap();
        assert_eq!(world.names(), ["new", "stays"]);
        down.store(false, Ordering::Relaxed);
        world.commit(60..70);
        until(|| world.log.settled()).await;
    })
    .await;
    let all: Vec<u64> = (0..70).collect();
    assert_eq!(keys(sinks[0]), all);
    assert_eq!(keys(sinks[1]), all);
}

#[tokio::test(start_paused = true)]
async fn what_ran_goes_on_where_the_names_are_not_recorded() {
    let sinks = [&Recording::willing(), &Recording::willing()];
    run(sinks, async |world| {
        world.commit(0..10);
        until(|| world.log.settled()).await;
        let refused = world.rename(sinks, Err("full".to_owned())).await;
        assert_eq!(refused, Err(NotMoved::NotRecorded("full".to_owned())));
        assert_eq!(world.names(), ["old", "stays"]);
        world.commit(10..20);
        until(|| world.log.settled()).await;
    })
    .await;
    let all: Vec<u64> = (0..20).collect();
    assert_eq!(keys(sinks[0]), all);
    assert_eq!(keys(sinks[1]), all);
}

#[tokio::test(start_paused = true)]
async fn a_rollout_under_way_is_waited_for_and_nothing_stops() {
    let store: Arc<Store> = Arc::default();
    let rollout = Rollout {
        id: "r".into(),
        sink_id: "old".into(),
        sink: "old".into(),
        function: "f".into(),
        component: "f@2".into(),
        digest: "sha256:2".into(),
        base: "sha256:1".into(),
        state: RolloutState::RolledBack,
        why: None,
        percent: 0,
        steps: Vec::new(),
        rules: Rules::default(),
        drained: false,
        resumed: 0,
        created_us: 7,
        updated_us: 7,
    };
    store.save(store.next_epoch(), rollout).await.unwrap();
    let sinks = [&Recording::willing(), &Recording::willing()];
    // What it runs is not known, so the rollout goes on.
    let fault = Fault { code: "plugin_unusable", message: String::new(), help: String::new() };
    let old = SinkSpec { fault: Some(fault), ..sink_spec("old", sinks[0]) };
    run_with(store, vec![old, sink_spec("stays", sinks[1])], async |world| {
        let refused = world.rename(sinks, Ok(())).await;
        assert!(matches!(refused, Err(NotMoved::Busy(_))), "{refused:?}");
        assert_eq!(world.status.slots.list()[0].connects.get(), 1, "the stream is the same");
        assert_eq!(world.names(), ["old", "stays"]);
    })
    .await;
}
