//! Sinks and slots that come, change and go while the engine runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use model::batch::Grouping;
use model::plugin::Outcome;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fake::log::{Log, Row};
use crate::fake::plugin::function;
use crate::fake::sink::{Answer, Recording};
use crate::fake::store::Store;
use crate::fake::{engine, sink_spec, slot_spec};
use crate::run::Handle;
use crate::spec::SinkSpec;
use crate::status::{Fault, SinkStatus, Status};

const MIB: usize = 1 << 20;

/// An engine with its world, while it runs.
struct World {
    log: Log,
    handle: Handle,
    status: Arc<Status>,
    store: Arc<Store>,
}

impl World {
    async fn apply(&self, sinks: Vec<SinkSpec>) {
        self.handle.apply(vec![slot_spec(&self.log, sinks)]).await.unwrap();
    }

    fn commit(&self, keys: std::ops::Range<u64>) {
        for key in keys {
            self.log.commit(vec![Row::update(key, key)]);
        }
    }

    fn sink(&self, name: &str) -> Arc<SinkStatus> {
        let sinks = self.status.slots.list()[0].sinks.list();
        sinks.into_iter().find(|sink| &*sink.name == name).unwrap()
    }

    fn connects(&self) -> u64 {
        self.status.slots.list()[0].connects.get()
    }

    async fn all_is_confirmed(&self) {
        until(|| self.log.settled()).await;
    }
}

/// Waits within an hour of the engine's time.
async fn until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(3_600);
    while !done() {
        assert!(Instant::now() < deadline, "it did not happen within an hour of the engine's time");
        tokio::time::sleep_until(Instant::now() + Duration::from_millis(5)).await;
    }
}

/// Runs an engine with these sinks while `story` goes on, then stops it in order.
async fn run(sinks: Vec<SinkSpec>, story: impl AsyncFnOnce(&World)) {
    run_on(&Log::new(), &Arc::default(), sinks, story).await;
}

/// The same, on what there is already.
async fn run_on(
    log: &Log,
    store: &Arc<Store>,
    sinks: Vec<SinkSpec>,
    story: impl AsyncFnOnce(&World),
) {
    let (engine, status, _) = engine(log, sinks, store, MIB);
    let (log, store) = (log.clone(), Arc::clone(store));
    let world = World { log, handle: engine.handle(), status, store };
    let stop = CancellationToken::new();
    let told = async {
        until(|| world.connects() == 1).await;
        story(&world).await;
        stop.cancel();
    };
    tokio::join!(engine.run(stop.clone()), told);
}

fn changed(name: &str, sink: &Arc<Recording>, revision: u64) -> SinkSpec {
    SinkSpec { revision, ..sink_spec(name, sink) }
}

/// Down as long as it is set.
fn switched(down: &Arc<AtomicBool>) -> Arc<Recording> {
    let down = Arc::clone(down);
    Recording::new(Grouping::Apart, 10, move |_| Answer {
        error: down.load(Ordering::Relaxed).then(|| crate::fake::sink::refusal().unwrap()),
        ..Answer::default()
    })
}

fn keys(sink: &Recording) -> Vec<u64> {
    let key = |message: &Arc<model::message::Message>| {
        message.position.commit_lsn.0 / Log::commit_lsn(0).0 - 1
    };
    sink.received().iter().map(key).collect()
}

#[tokio::test(start_paused = true)]
async fn b207_a_new_sink_starts_from_now_and_its_neighbour_does_not_notice() {
    let (old, new) = (Recording::willing(), Recording::willing());
    run(vec![sink_spec("old", &old)], async |world| {
        world.commit(0..10);
        world.all_is_confirmed().await;
        world.apply(vec![sink_spec("old", &old), sink_spec("new", &new)]).await;
        until(|| world.status.slots.list()[0].sinks.list().len() == 2).await;
        world.commit(10..20);
        world.all_is_confirmed().await;
        assert_eq!(world.connects(), 1, "the stream is the same");
        assert_eq!(world.sink("new").delivered.get(), 10);
    })
    .await;
    assert_eq!(keys(&old), (0..20).collect::<Vec<_>>());
    assert_eq!(keys(&new), (10..20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn b208_a_removed_sink_no_longer_holds_the_slot() {
    let down = Arc::new(AtomicBool::new(true));
    let (stays, goes) = (Recording::willing(), switched(&down));
    run(vec![sink_spec("stays", &stays), sink_spec("goes", &goes)], async |world| {
        world.commit(0..50);
        until(|| stays.len() == 50 && world.sink("goes").failed.get() > 0).await;
        assert!(!world.log.settled());
        world.apply(vec![sink_spec("stays", &stays)]).await;
        world.all_is_confirmed().await;
        assert_eq!(world.status.slots.list()[0].sinks.list().len(), 1, "nor is it shown");
        assert_eq!(world.connects(), 1);
        // It comes again, as a new one.
        down.store(false, Ordering::Relaxed);
        world.apply(vec![sink_spec("stays", &stays), sink_spec("goes", &goes)]).await;
        world.commit(50..60);
        world.all_is_confirmed().await;
    })
    .await;
    assert_eq!(stays.len(), 60);
    assert_eq!(keys(&goes), (50..60).collect::<Vec<_>>());
}

/// Its destination was wrong; what it owes goes to the right one, once, and nobody else is sent
/// anything again.
#[tokio::test(start_paused = true)]
async fn b209_a_changed_sink_delivers_what_it_owed() {
    let (wrong, right) = (switched(&Arc::new(AtomicBool::new(true))), Recording::willing());
    let neighbour = Recording::willing();
    let sinks = |first| vec![first, sink_spec("neighbour", &neighbour)];
    run(sinks(sink_spec("a", &wrong)), async |world| {
        world.commit(0..500);
        until(|| neighbour.len() == 500 && world.sink("a").failed.get() > 0).await;
        world.apply(sinks(changed("a", &right, 1))).await;
        world.commit(500..600);
        world.all_is_confirmed().await;
        assert_eq!(world.connects(), 1, "the stream goes on");
        let status = world.sink("a");
        assert!(status.failed.get() > 0, "its counters go on");
        assert_eq!(status.delivered.get(), 600);
    })
    .await;
    assert_eq!(keys(&right), (0..600).collect::<Vec<_>>());
    assert_eq!(keys(&neighbour), (0..600).collect::<Vec<_>>());
    assert_eq!(wrong.len(), 0);
}

/// What it owes is on its way to the disk for a while, in which the log is trimmed several times.
#[tokio::test(start_paused = true)]
async fn b209_what_a_changed_sink_owes_is_not_trimmed_before_it_is_known_where_it_stands() {
    let (wrong, right) = (switched(&Arc::new(AtomicBool::new(true))), Recording::willing());
    run(vec![sink_spec("a", &wrong)], async |world| {
        world.commit(0..50);
        until(|| world.sink("a").failed.get() > 0).await;
        world.store.disk.set_slow(Duration::from_secs(1));
        world.apply(vec![changed("a", &right, 1)]).await;
        world.all_is_confirmed().await;
    })
    .await;
    assert_eq!(keys(&right), (0..50).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn b209_a_changed_sink_that_owes_nothing_changes_on_the_same_stream() {
    let sink = Recording::willing();
    run(vec![sink_spec("a", &sink)], async |world| {
        world.commit(0..10);
        world.all_is_confirmed().await;
        let spec = changed("a", &sink, 1);
        world
            .apply(vec![SinkSpec { filters: vec![function(|_| Ok(Outcome::Drop))], ..spec }])
            .await;
        world.commit(10..20);
        world.all_is_confirmed().await;
        assert_eq!((world.connects(), world.sink("a").filtered.get()), (1, 10));
    })
    .await;
    assert_eq!(sink.len(), 10);
}

/// The stream is read again for another sink: the new one is not sent what was before it.
#[tokio::test(start_paused = true)]
async fn b207_a_new_sink_is_not_sent_what_another_is_sent_again() {
    let down = Arc::new(AtomicBool::new(true));
    let (owes, right, new) = (switched(&down), Recording::willing(), Recording::willing());
    run(vec![sink_spec("owes", &owes)], async |world| {
        world.commit(0..50);
        until(|| world.sink("owes").failed.get() > 0).await;
        world.apply(vec![sink_spec("owes", &owes), sink_spec("new", &new)]).await;
        until(|| world.status.slots.list()[0].sinks.list().len() == 2).await;
        world.apply(vec![changed("owes", &right, 1), sink_spec("new", &new)]).await;
        world.commit(50..60);
        world.all_is_confirmed().await;
    })
    .await;
    assert_eq!(keys(&right), (0..60).collect::<Vec<_>>());
    assert_eq!(keys(&new), (50..60).collect::<Vec<_>>());
}

/// What is under way is awaited: it is not sent again, and the new version begins behind it.
#[tokio::test(start_paused = true)]
async fn b209_requests_under_way_finish_under_the_old_version() {
    let slow = Recording::new(Grouping::Apart, 100, |_| Answer {
        after: Duration::from_secs(10),
        ..Answer::default()
    });
    let (next, neighbour) = (Recording::willing(), Recording::willing());
    let sinks = |first| vec![first, sink_spec("neighbour", &neighbour)];
    run(sinks(sink_spec("a", &slow)), async |world| {
        world.commit(0..5);
        until(|| world.sink("a").attempts.get() == 5).await;
        world.apply(sinks(changed("a", &next, 1))).await;
        let at = Instant::now();
        world.commit(5..10);
        until(|| neighbour.len() == 10).await;
        assert!(at.elapsed() < Duration::from_secs(1), "the neighbour does not wait");
        assert_eq!((slow.len(), next.len()), (0, 0));
        world.all_is_confirmed().await;
    })
    .await;
    assert_eq!(keys(&slow), (0..5).collect::<Vec<_>>());
    assert_eq!(keys(&next), (5..10).collect::<Vec<_>>());
}

/// What a removed sink has under way is awaited, and one of its name that comes meanwhile waits for
/// it: the newer message is never overtaken.
#[tokio::test(start_paused = true)]
async fn b208_requests_of_a_removed_sink_end_before_the_next_of_its_name_begins() {
    let slow = Recording::new(Grouping::Apart, 100, |_| Answer {
        after: Duration::from_secs(10),
        ..Answer::default()
    });
    let (next, neighbour) = (Recording::willing(), Recording::willing());
    let stays = || sink_spec("neighbour", &neighbour);
    run(vec![sink_spec("a", &slow), stays()], async |world| {
        world.commit(0..5);
        until(|| world.sink("a").attempts.get() == 5).await;
        let at = Instant::now();
        world.apply(vec![stays()]).await;
        world.all_is_confirmed().await;
        assert!(at.elapsed() < Duration::from_secs(1), "it holds nobody back");
        world.apply(vec![stays(), changed("a", &next, 1)]).await;
        until(|| world.status.slots.list()[0].sinks.list().len() == 2).await;
        world.commit(5..10);
        until(|| neighbour.len() == 10).await;
        assert_eq!((slow.len(), next.len()), (0, 0));
        until(|| next.len() > 0).await;
        assert_eq!(slow.len(), 5, "they ended first");
        world.all_is_confirmed().await;
    })
    .await;
    assert_eq!(keys(&next), (5..10).collect::<Vec<_>>());
    assert_eq!(keys(&neighbour), (0..10).collect::<Vec<_>>());
}

/// What was removed is stopped with the others: its requests are awaited then, too.
#[tokio::test(start_paused = true)]
async fn b184_b208_a_stop_awaits_the_requests_of_a_sink_that_was_removed() {
    let slow = Recording::new(Grouping::Apart, 100, |_| Answer {
        after: Duration::from_secs(10),
        ..Answer::default()
    });
    run(vec![sink_spec("a", &slow)], async |world| {
        world.commit(0..5);
        until(|| world.sink("a").attempts.get() == 5).await;
        world.apply(Vec::new()).await;
        world.all_is_confirmed().await;
        assert_eq!(slow.len(), 0);
    })
    .await;
    assert_eq!(slow.len(), 5);
}

/// The sink that was offered the most is gone when the server comes back from an older backup: what
/// the slot has read tells all the same, and nothing new is taken for settled.
#[tokio::test(start_paused = true)]
async fn b209_a_server_that_was_set_back_is_noticed_also_after_an_edit() {
    let sink = Recording::willing();
    run(vec![sink_spec("a", &sink)], async |world| {
        world.commit(0..10);
        world.all_is_confirmed().await;
        world.apply(vec![changed("a", &sink, 1)]).await;
        world.apply(vec![changed("a", &sink, 2)]).await;
        tokio::time::sleep_until(Instant::now() + Duration::from_secs(1)).await;
        world.log.set_back(5);
        world.log.break_after(0);
        world.log.commit(vec![Row::update(0, 0)]);
        until(|| world.connects() > 1).await;
        until(|| world.status.slots.list()[0].problem.get().is_some()).await;
        let problem = world.status.slots.list()[0].problem.get().unwrap();
        assert!(problem.contains("restored from an older backup"), "{problem}");
    })
    .await;
    assert_eq!(sink.len(), 10, "nothing is sent under positions that mean something else");
}

/// Nothing is opened anew, and what was collected goes out.
#[tokio::test(start_paused = true)]
async fn a_sink_is_paused_and_goes_on_where_it_was() {
    let sink = Recording::willing();
    let paused = |paused| vec![SinkSpec { paused, ..sink_spec("a", &sink) }];
    run(paused(false), async |world| {
        world.commit(0..10);
        world.all_is_confirmed().await;
        world.apply(paused(true)).await;
        assert_eq!(world.sink("a").paused.get(), 1);
        world.commit(10..20);
        until(|| world.sink("a").pending.get() == 10).await;
        tokio::time::sleep_until(Instant::now() + Duration::from_secs(600)).await;
        assert_eq!((sink.len(), world.sink("a").caught_up.get()), (10, 0));
        // What it owes is in the change log: it does not hold the slot.
        assert_eq!(world.log.confirmed(), world.log.end());
        world.apply(paused(false)).await;
        world.all_is_confirmed().await;
        assert_eq!((world.connects(), world.sink("a").paused.get()), (1, 0));
    })
    .await;
    assert_eq!(keys(&sink), (0..20).collect::<Vec<_>>());
}

/// A sink that stopped by a fault runs again once it is changed, and is sent all that it missed.
#[tokio::test(start_paused = true)]
async fn b209_a_change_mends_a_sink_that_stopped() {
    let faulty =
        Recording::new(Grouping::Apart, 10, |_| Answer { panics: true, ..Answer::default() });
    let right = Recording::willing();
    run(vec![sink_spec("a", &faulty)], async |world| {
        world.commit(0..10);
        until(|| world.sink("a").stopped.get().is_some()).await;
        world.commit(10..100);
        world.apply(vec![changed("a", &right, 1)]).await;
        world.all_is_confirmed().await;
        assert_eq!(world.sink("a").stopped.get(), None);
    })
    .await;
    assert_eq!(keys(&right), (0..100).collect::<Vec<_>>());
}

/// What it gets is kept in the change log: its neighbour and the slot go on, and once it can start it
/// has all of it, in order, also after a restart in between.
#[tokio::test(start_paused = true)]
async fn b201_a_sink_that_cannot_start_stands_alone_and_owes_all_of_it() {
    let (good, other) = (Recording::willing(), Recording::willing());
    let fault = Fault {
        code: "component_missing",
        message: "no such file".to_owned(),
        help: "put it there".to_owned(),
    };
    let unfit =
        |revision| SinkSpec { fault: Some(fault.clone()), ..changed("a", &other, revision) };
    let (log, store) = (Log::new(), Arc::<Store>::default());
    run_on(&log, &store, vec![unfit(0), sink_spec("b", &good)], async |world| {
        assert_eq!(world.sink("a").stopped.get().unwrap(), "no such file; put it there");
        assert_eq!(world.sink("a").fault.get().unwrap().code, "component_missing");
        world.commit(0..200);
        until(|| good.len() == 200).await;
        until(|| world.log.confirmed() == world.log.end()).await;
        // Still the same, or another fault: it is no start.
        world.apply(vec![unfit(1), sink_spec("b", &good)]).await;
        world.commit(200..300);
        until(|| good.len() == 300).await;
        until(|| world.log.confirmed() == world.log.end()).await;
    })
    .await;
    run_on(&log, &store, vec![unfit(0), sink_spec("b", &good)], async |world| {
        world.commit(300..310);
        until(|| world.log.confirmed() == world.log.end()).await;
        assert_eq!((other.len(), good.len()), (0, 310));
        world.apply(vec![changed("a", &other, 1), sink_spec("b", &good)]).await;
        world.commit(310..320);
        world.all_is_confirmed().await;
        until(|| world.sink("a").caught_up.get() == 1).await;
        assert_eq!((world.sink("a").stopped.get(), world.sink("a").fault.get()), (None, None));
        assert_eq!(world.connects(), 1, "the stream is the same");
    })
    .await;
    assert_eq!(keys(&other), (0..320).collect::<Vec<_>>());
    assert_eq!(keys(&good), (0..320).collect::<Vec<_>>());
}

/// The last word counts, whatever is asked for while a sink is on its way.
#[tokio::test(start_paused = true)]
async fn b209_edits_that_follow_each_other_quickly_end_with_the_last() {
    let slow = Recording::new(Grouping::Apart, 1, |_| Answer {
        after: Duration::from_secs(5),
        ..Answer::default()
    });
    let (skipped, last) = (Recording::willing(), Recording::willing());
    run(vec![sink_spec("a", &slow)], async |world| {
        world.commit(0..20);
        until(|| world.sink("a").attempts.get() > 0).await;
        world.apply(vec![changed("a", &skipped, 1)]).await;
        world.apply(Vec::new()).await;
        world.apply(vec![changed("a", &skipped, 2)]).await;
        world.apply(vec![changed("a", &last, 3)]).await;
        // It was gone for a moment: what it owed then is dropped.
        until(|| world.log.settled()).await;
        world.commit(20..30);
        world.all_is_confirmed().await;
    })
    .await;
    assert_eq!(skipped.len(), 0);
    assert_eq!(keys(&last)[keys(&last).len() - 10..], (20..30).collect::<Vec<_>>());
}

/// Another slot is another run; its neighbour's goes on.
#[tokio::test(start_paused = true)]
async fn a_changed_slot_starts_over_alone() {
    let (first, second) = (Recording::willing(), Recording::willing());
    let other = Log::new();
    run(vec![sink_spec("a", &first)], async |world| {
        let slots = |revision| {
            let mut more = slot_spec(&other, vec![sink_spec("b", &second)]);
            more.database = "more".into();
            more.revision = revision;
            vec![slot_spec(&world.log, vec![sink_spec("a", &first)]), more]
        };
        world.handle.apply(slots(0)).await.unwrap();
        other.commit(vec![Row::update(0, 0)]);
        until(|| second.len() == 1).await;
        world.handle.apply(slots(1)).await.unwrap();
        other.commit(vec![Row::update(1, 1)]);
        until(|| second.len() == 2).await;
        let connects = || {
            let slots = world.status.slots.list();
            slots.iter().map(|slot| slot.connects.get()).collect::<Vec<_>>()
        };
        assert_eq!(connects(), [1, 2]);
        world.apply(vec![sink_spec("a", &first)]).await;
        assert_eq!(connects(), [1], "what is removed is not shown");
        other.commit(vec![Row::update(2, 2)]);
        world.commit(0..1);
        world.all_is_confirmed().await;
        assert_eq!((first.len(), second.len()), (1, 2));
    })
    .await;
}
