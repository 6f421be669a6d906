//! Groups of one sink that are blocked: what waits behind their heads goes to the disk, and the other
//! groups do not notice.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::batch::Grouping;
use model::message::Message;
use model::sink::Retry;
use tokio::time::Instant;

use crate::fake::log::{Log, Row};
use crate::fake::sink::{Answer, Recording};
use crate::fake::store::Store;
use crate::fake::{engine, engine_with, run_until, settings, sink_spec};
use crate::run::Settings;
use crate::status::{SinkStatus, Status};

const BYTES_MAX: usize = 60_000;

fn of(message: &Message) -> (u64, u64) {
    let payload: serde_json::Value = serde_json::from_str(&message.payload).unwrap();
    let id = payload["record"]["id"].as_u64().unwrap();
    (id, payload["record"]["value"].as_str().unwrap().parse().unwrap())
}

/// It takes no message of these rows while the switch is set.
fn sick(keys: &'static [u64], is_sick: &Arc<AtomicBool>) -> Arc<Recording> {
    let is_sick = Arc::clone(is_sick);
    Recording::new(Grouping::Apart, 10, move |batch| {
        let all = batch.messages().iter().enumerate();
        let rejected = all.filter(|(_, message)| keys.contains(&of(message).0));
        let rejected = rejected.map(|(index, _)| (index, Retry::Later { after: None }));
        let is_sick = is_sick.load(Ordering::Relaxed);
        Answer { rejected: rejected.filter(|_| is_sick).collect(), ..Answer::default() }
    })
}

fn status_of(status: &Status) -> Arc<SinkStatus> {
    Arc::clone(&status.slots.list()[0].sinks.list()[0])
}

/// Each row once more, and every second one of row 3.
fn commit(log: &Log, numbers: std::ops::Range<u64>) {
    for n in numbers {
        let key = if n % 2 == 0 { 3 } else { 1_000 + n };
        log.commit(vec![Row::update(key, format!("{n:0100}"))]);
    }
}

/// By value, those of row 3 and the others.
fn parted(sink: &Recording) -> (Vec<u64>, Vec<u64>) {
    sink.received().iter().map(|message| of(message).1).partition(|n| n % 2 == 0)
}

/// Its head fails for an hour, and much comes behind it: that goes to the disk, and other groups flow.
#[tokio::test(start_paused = true)]
async fn b092_b093_what_waits_behind_a_blocked_head_spills_and_keeps_its_order_through_a_restart() {
    let log = Log::new();
    let healed = Instant::now() + Duration::from_secs(3_000);
    let sink = Recording::new(Grouping::Apart, 10, move |batch| {
        let sick = |message: &Arc<Message>| message.payload.contains("\"id\":3,");
        let rejected = batch.messages().iter().enumerate().filter(|(_, message)| sick(message));
        let rejected = rejected.map(|(index, _)| (index, Retry::Later { after: None }));
        let rejected = if Instant::now() < healed { rejected.collect() } else { Vec::new() };
        Answer { rejected, ..Answer::default() }
    });
    let store = Arc::<Store>::default();
    commit(&log, 0..3_000);
    let (first, status, _) = engine(&log, vec![sink_spec("a", &sink)], &store, BYTES_MAX);
    run_until(first, || {
        // The pages that were read while there was room come on top.
        assert!(status.budget.used() <= BYTES_MAX * 5 / 4, "{}", status.budget.used());
        sink.len() == 1_500 && log.confirmed() == log.end()
    })
    .await;
    let (second, _, _) = engine(&log, vec![sink_spec("a", &sink)], &store, BYTES_MAX);
    run_until(second, || log.settled()).await;
    let (even, odd) = parted(&sink);
    assert!(even == (0..3_000).step_by(2).collect::<Vec<_>>());
    assert!(odd == (1..3_000).step_by(2).collect::<Vec<_>>(), "nothing is sent twice");
}

/// For most of an hour changes come of a blocked row and of others: each of the others is there at
/// once, and the operator sees what waits.
#[tokio::test(start_paused = true)]
async fn b093_other_groups_are_as_fast_as_ever_while_one_is_blocked() {
    // What comes is ten times as much.
    let (log, bytes_max) = (Log::new(), 4 * BYTES_MAX);
    let committed: Arc<Mutex<HashMap<u64, Instant>>> = Arc::default();
    let slowest: Arc<Mutex<Duration>> = Arc::default();
    let is_sick = Arc::new(AtomicBool::new(true));
    let (times, late, sick) = (Arc::clone(&committed), Arc::clone(&slowest), Arc::clone(&is_sick));
    let sink = Recording::new(Grouping::Together, 10, move |batch| {
        let (times, mut late) = (times.lock().unwrap(), late.lock().unwrap());
        let sick = sick.load(Ordering::Relaxed);
        let mut rejected = Vec::new();
        for (index, message) in batch.messages().iter().enumerate() {
            let (key, value) = of(message);
            if key == 3 && sick {
                rejected.push((index, Retry::Later { after: None }));
            } else if key != 3 {
                *late = late.max(times[&value].elapsed());
            }
        }
        Answer { rejected, ..Answer::default() }
    });
    let store = Arc::<Store>::default();
    let (engine, status, _) = engine(&log, vec![sink_spec("a", &sink)], &store, bytes_max);
    let (start, mut numbers) = (Instant::now(), 0);
    run_until(engine, || {
        let elapsed = start.elapsed();
        assert!(status.budget.used() <= bytes_max * 5 / 4, "{}", status.budget.used());
        if elapsed < Duration::from_secs(2_000) && elapsed.as_secs() * 2 >= numbers {
            let now = Instant::now();
            committed.lock().unwrap().extend((numbers..numbers + 2).map(|n| (n, now)));
            commit(&log, numbers..numbers + 2);
            numbers += 2;
        } else if elapsed > Duration::from_secs(2_001) && is_sick.load(Ordering::Relaxed) {
            let sink = status_of(&status);
            let (pending, spilled) = (sink.pending.get(), sink.spilled.get());
            assert_eq!(pending, numbers / 2, "all of row 3 waits");
            assert!(spilled > pending * 9 / 10, "{spilled} of {pending}");
            assert!(
                sink.pending_bytes.get() < bytes_max as u64 / 2,
                "{} in memory",
                sink.pending_bytes.get()
            );
            assert!(store.paper.bytes() > spilled * 100);
            is_sick.store(false, Ordering::Relaxed);
        }
        log.settled() && elapsed > Duration::from_secs(2_001)
    })
    .await;
    let slowest = *slowest.lock().unwrap();
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    let (even, odd) = parted(&sink);
    assert!(even == (0..numbers).step_by(2).collect::<Vec<_>>());
    assert!(odd == (1..numbers).step_by(2).collect::<Vec<_>>());
    assert_eq!((status_of(&status).spilled.get(), store.paper.bytes()), (0, 0));
}

/// A disk that takes nothing is told, and costs nothing but room; so does a limit.
#[tokio::test(start_paused = true)]
async fn b093_a_full_disk_keeps_in_memory_what_waits_and_loses_nothing() {
    for is_limited in [false, true] {
        let (log, store) = (Log::new(), Arc::<Store>::default());
        let is_sick = Arc::new(AtomicBool::new(true));
        let sink = sick(&[3], &is_sick);
        commit(&log, 0..600);
        let settings = if is_limited {
            Settings { change_log_bytes_max: 1_000, ..settings() }
        } else {
            store.paper.set_full(true);
            settings()
        };
        let specs = vec![sink_spec("a", &sink)];
        let (engine, status, _) = engine_with(&log, specs, &store, BYTES_MAX, settings);
        let warning = || {
            let warnings = status_of(&status).warnings.list();
            warnings.into_iter().find(|(code, _)| *code == "spill_unwritable")
        };
        let mut told = None;
        run_until(engine, || {
            if let Some((_, problem)) = warning()
                && told.is_none()
            {
                assert_eq!(status_of(&status).spills.get(), 0);
                store.paper.set_full(false);
                told = Some(problem);
            }
            if is_limited || status_of(&status).spills.get() > 0 {
                assert!(is_limited || warning().is_none(), "it is over");
                is_sick.store(told.is_none(), Ordering::Relaxed);
            }
            log.settled()
        })
        .await;
        let told = told.unwrap();
        let why = if is_limited { "SEQUIN_CHANGE_LOG_MB" } else { "full" };
        assert!(told.contains(why), "{told}");
        let (even, odd) = parted(&sink);
        assert!(even == (0..600).step_by(2).collect::<Vec<_>>());
        assert_eq!(odd.len(), 300);
    }
}

/// What cannot be read back comes from the change log: the sink is started anew.
#[tokio::test(start_paused = true)]
async fn b093_what_cannot_be_read_back_comes_from_the_change_log_in_order() {
    let (log, store) = (Log::new(), Arc::<Store>::default());
    let is_sick = Arc::new(AtomicBool::new(true));
    let sink = sick(&[3], &is_sick);
    commit(&log, 0..600);
    let (engine, status, _) = engine(&log, vec![sink_spec("a", &sink)], &store, BYTES_MAX);
    let mut stopped = None;
    run_until(engine, || {
        if sink.len() == 300 && log.confirmed() == log.end() && is_sick.load(Ordering::Relaxed) {
            assert!(status_of(&status).spilled.get() > 100);
            store.paper.tear();
            is_sick.store(false, Ordering::Relaxed);
        }
        stopped = stopped.take().or_else(|| status_of(&status).stopped.get());
        log.settled()
    })
    .await;
    let stopped = stopped.unwrap();
    assert!(stopped.contains("cannot be read back"), "{stopped}");
    assert_eq!(status_of(&status).stopped.get(), None);
    let (even, odd) = parted(&sink);
    assert!(even == (0..600).step_by(2).collect::<Vec<_>>());
    assert_eq!(odd.len(), 300, "nothing is sent twice");
}

/// A page that came with a blocked row is let go of soon where one sink of several has little room: or
/// the pages would fill its share, and its other groups would wait for that.
#[tokio::test(start_paused = true)]
async fn b093_the_pages_of_what_waits_leave_memory_too() {
    let (log, store) = (Log::new(), Arc::<Store>::default());
    let is_sick = Arc::new(AtomicBool::new(true));
    let sink = sick(&[3], &is_sick);
    let mut specs = vec![sink_spec("a", &sink)];
    specs.extend(["b", "c", "d"].map(|name| sink_spec(name, &Recording::willing())));
    let (engine, status, _) = engine(&log, specs, &store, 4 * BYTES_MAX);
    let (start, mut committed) = (Instant::now(), 0);
    let others = || parted(&sink).1.len() as u64;
    run_until(engine, || {
        let elapsed = start.elapsed();
        if committed < 60 && elapsed >= Duration::from_secs(committed) {
            assert_eq!(others(), committed, "the one before is there within a second");
            let number = |n| format!("{n:01000}");
            let rows = (0..10).map(|n| Row::update(3, number(committed * 20 + n * 2)));
            let other = Row::update(1_000 + committed, number(committed * 20 + 1));
            log.commit(rows.chain([other]).collect());
            committed += 1;
        }
        if committed == 60 && others() == 60 {
            is_sick.store(false, Ordering::Relaxed);
        }
        assert!(status.budget.used() < 4 * BYTES_MAX);
        committed == 60 && log.settled()
    })
    .await;
    let (even, _) = parted(&sink);
    assert!(even.is_sorted() && even.len() == 600);
}

/// Many rows are taken again at once by a destination that is slow: what waits of them comes back as
/// there is room for it, and in order.
#[tokio::test(start_paused = true)]
async fn b093_what_comes_back_finds_room_or_waits() {
    let (log, store) = (Log::new(), Arc::<Store>::default());
    let is_sick = Arc::new(AtomicBool::new(true));
    let sick = Arc::clone(&is_sick);
    let sink = Recording::new(Grouping::Apart, 1, move |_| {
        let is_sick = sick.load(Ordering::Relaxed);
        let rejected = is_sick.then_some((0, Retry::Later { after: None }));
        let after = Duration::from_secs(u64::from(!is_sick));
        Answer { rejected: rejected.into_iter().collect(), after, ..Answer::default() }
    });
    for n in 0..3_000 {
        log.commit(vec![Row::update(n % 100, format!("{n:01000}"))]);
    }
    let (engine, status, _) = engine(&log, vec![sink_spec("a", &sink)], &store, 10 * BYTES_MAX);
    let mut highest = 0;
    run_until(engine, || {
        if log.confirmed() == log.end() && status_of(&status).spilled.get() > 1_000 {
            is_sick.store(false, Ordering::Relaxed);
        }
        if !is_sick.load(Ordering::Relaxed) {
            highest = highest.max(status.budget.used());
        }
        log.settled()
    })
    .await;
    // What was read for the sinks while there was room comes on top.
    assert!(highest <= 10 * BYTES_MAX * 5 / 4, "{highest}");
    assert_eq!(sink.len(), 3_000);
    let mut last: HashMap<u64, u64> = HashMap::new();
    for message in sink.received() {
        let (key, value) = of(&message);
        assert!(last.insert(key, value).is_none_or(|before| before < value), "{key}: {value}");
    }
}
