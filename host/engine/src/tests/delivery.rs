use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use model::batch::Grouping;
use model::message::Message;
use model::page::Value;
use model::plugin::{Fault, Outcome, PluginError};
use model::sink::Retry;
use tokio::time::Instant;

use crate::fake::log::{Log, Row};
use crate::fake::plugin::{function, slow_function};
use crate::fake::sink::{Answer, Recording, refusal};
use crate::fake::store::Store;
use crate::fake::{NOW_US, engine, run_until, sink_spec};
use crate::status::Histogram;

const MIB: usize = 1 << 20;

fn value(message: &Message) -> u64 {
    let payload: serde_json::Value = serde_json::from_str(&message.payload).unwrap();
    payload["record"]["value"].as_str().unwrap().parse().unwrap()
}

fn values(sink: &Recording) -> Vec<u64> {
    sink.received().iter().map(|message| value(message)).collect()
}

#[tokio::test(start_paused = true)]
async fn b088_ten_thousand_updates_of_one_row_arrive_in_commit_order() {
    let log = Log::new();
    for chunk in 0..100 {
        log.commit((0..100).map(|n| Row::update(1, chunk * 100 + n)).collect());
    }
    // Every third request fails, and takes its time.
    let mut requests = 0;
    let sink = Recording::new(Grouping::Together, 50, move |_| {
        requests += 1;
        let error = if requests % 3 == 0 { refusal() } else { None };
        Answer { after: Duration::from_millis(3), error, ..Answer::default() }
    });
    let (engine, _, _) = engine(&log, vec![sink_spec("a", &sink)], &Arc::default(), MIB);
    run_until(engine, || sink.len() == 10_000).await;
    assert_eq!(values(&sink), (0..10_000).collect::<Vec<u64>>());
    assert_eq!(log.confirmed(), log.end());
}

/// The first message of one group fails for a minute: nothing of its group passes it, everything
/// else flows, and once it succeeds its group follows.
#[tokio::test(start_paused = true)]
async fn b090_a_blocked_group_holds_back_nobody_else() {
    let log = Log::new();
    for n in 0..200 {
        log.commit(vec![Row::update(n % 10, n)]);
    }
    let healed = Instant::now() + Duration::from_secs(60);
    let sink = Recording::new(Grouping::Apart, 10, move |batch| {
        let sick = |message: &Arc<Message>| value(message) % 10 == 3;
        let rejected = batch.messages().iter().enumerate().filter(|(_, message)| sick(message));
        let rejected = rejected.map(|(index, _)| (index, Retry::Later { after: None }));
        let rejected = if Instant::now() < healed { rejected.collect() } else { Vec::new() };
        Answer { rejected, ..Answer::default() }
    });
    let (engine, status, _) = engine(&log, vec![sink_spec("a", &sink)], &Arc::default(), MIB);
    let mut others_done_at = None;
    let start = Instant::now();
    run_until(engine, || {
        if sink.len() == 180 && others_done_at.is_none() {
            others_done_at = Some(Instant::now());
        }
        let seconds = others_done_at.map_or(0, |at| at.elapsed().as_secs());
        if sink.len() == 180 && (1..9).contains(&seconds) {
            assert_eq!(log.confirmed(), model::lsn::Lsn(350));
        }
        // A message that is tried for long must not make the source keep its log.
        if sink.len() == 180 && seconds > 11 {
            assert_eq!(log.confirmed(), log.end());
        }
        sink.len() == 200
    })
    .await;
    assert!(others_done_at.unwrap() - start < Duration::from_secs(1), "they flow at full rate");
    let mut by_group: HashMap<u64, Vec<u64>> = HashMap::new();
    for n in values(&sink) {
        by_group.entry(n % 10).or_default().push(n);
    }
    for (group, values) in by_group {
        let expected: Vec<u64> = (0..20).map(|n| n * 10 + group).collect();
        assert_eq!(values, expected);
    }
    let sick = status.slots.list()[0].sinks.list()[0].failed.get();
    assert!((4..=10).contains(&sick), "{sick} attempts in a minute of exponential back-off");
}

#[tokio::test(start_paused = true)]
async fn b103_an_incomplete_batch_goes_when_its_time_is_up() {
    let log = Log::new();
    log.commit((0..3).map(|n| Row::update(n, n)).collect());
    let sink = Recording::new(Grouping::Apart, 10, |_| Answer::default());
    let (engine, _, _) = engine(&log, vec![sink_spec("a", &sink)], &Arc::default(), MIB);
    run_until(engine, || sink.len() == 3).await;
    assert_eq!(sink.requests(), [3], "one request, not three and not never");
}

#[tokio::test(start_paused = true)]
async fn a_failing_sink_does_not_hold_back_its_neighbour_while_the_budget_lasts() {
    let log = Log::new();
    for n in 0..1_000 {
        log.commit(vec![Row::update(n, n)]);
    }
    let dead =
        Recording::new(Grouping::Apart, 10, |_| Answer { error: refusal(), ..Answer::default() });
    let alive = Recording::willing();
    let specs = vec![sink_spec("dead", &dead), sink_spec("alive", &alive)];
    let (engine, status, _) = engine(&log, specs, &Arc::default(), MIB);
    run_until(engine, || alive.len() == 1_000).await;
    assert_eq!(dead.len(), 0);
    assert_eq!(status.slots.list()[0].sinks.list()[0].caught_up.get(), 0, "it owes everything");
    assert_eq!(status.slots.list()[0].sinks.list()[1].delivered.get(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn reading_pauses_when_the_budget_is_full_and_goes_on_when_there_is_room() {
    let log = Log::new();
    for n in 0..2_000 {
        log.commit(vec![Row::update(n, n)]);
    }
    let closed = Arc::new(AtomicBool::new(true));
    let gate = Arc::clone(&closed);
    let sink = Recording::new(Grouping::Apart, 10, move |_| {
        let error = if gate.load(Ordering::Relaxed) { refusal() } else { None };
        Answer { error, ..Answer::default() }
    });
    let bytes_max = 50_000;
    let (engine, status, _) = engine(&log, vec![sink_spec("a", &sink)], &Arc::default(), bytes_max);
    let highest = AtomicUsize::new(0);
    run_until(engine, || {
        highest.fetch_max(status.budget.used(), Ordering::Relaxed);
        if status.slots.list()[0].paused.get() == 1 {
            closed.store(false, Ordering::Relaxed);
        }
        sink.len() == 2_000
    })
    .await;
    let highest = highest.into_inner();
    assert!((bytes_max / 2..bytes_max * 2).contains(&highest), "{highest}");
    assert_eq!(status.budget.used(), 0, "everything was released");
}

#[tokio::test(start_paused = true)]
async fn a_row_that_fails_in_a_plugin_is_put_aside_and_the_others_are_delivered() {
    let log = Log::new();
    log.commit((0..100).map(|n| Row::update(n, n)).collect());
    let sink = Recording::willing();
    let mut spec = sink_spec("a", &sink);
    spec.filters = vec![function(|change| match change.row().unwrap().value(1) {
        Value::Text("41") => Err(PluginError { fault: Fault::Trap, message: "unreachable".into() }),
        Value::Text("42") => Ok(Outcome::Drop),
        _ => Ok(Outcome::Keep),
    })];
    let store: Arc<Store> = Arc::default();
    let (engine, status, _) = engine(&log, vec![spec], &store, MIB);
    run_until(engine, || log.settled()).await;
    assert_eq!(sink.len(), 98);
    let letters = store.letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].reason, "plugin_trap");
    assert_eq!(letters[0].plugin.as_deref(), Some("sha256:f"));
    assert!(letters[0].input.contains("\"value\":\"41\""), "{}", letters[0].input);
    assert_eq!(status.slots.list()[0].sinks.list()[0].filtered.get(), 1);
}

/// A message that is put aside is settled only once it is kept.
#[tokio::test(start_paused = true)]
async fn nothing_is_confirmed_while_a_dead_letter_cannot_be_kept() {
    let log = Log::new();
    log.commit(vec![Row::update(1, 1)]);
    let sink = Recording::new(Grouping::Apart, 1, |_| Answer {
        rejected: vec![(0, Retry::Never)],
        ..Answer::default()
    });
    let store: Arc<Store> = Arc::default();
    store.set_away(true);
    let (engine, _, _) = engine(&log, vec![sink_spec("a", &sink)], &store, MIB);
    let mut seconds = 0;
    let until = Instant::now() + Duration::from_secs(30);
    run_until(engine, || {
        if Instant::now() < until {
            seconds += 1;
            assert_eq!(log.confirmed(), model::lsn::Lsn::ZERO);
        } else {
            store.set_away(false);
        }
        !store.letters().is_empty() && log.settled()
    })
    .await;
    assert!(seconds > 0);
    assert_eq!(store.letters()[0].reason, "delivery");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_sink_stops_that_sink_alone() {
    let log = Log::new();
    log.commit((0..10).map(|n| Row::update(n, n)).collect());
    let faulty =
        Recording::new(Grouping::Apart, 1, |_| Answer { panics: true, ..Answer::default() });
    let alive = Recording::willing();
    let specs = vec![sink_spec("faulty", &faulty), sink_spec("alive", &alive)];
    let store: Arc<Store> = Arc::default();
    let (engine, status, supervisor) = engine(&log, specs, &store, MIB);
    run_until(engine, || {
        if alive.len() == 10 {
            log.commit((10..20).map(|n| Row::update(n, n)).collect());
        }
        alive.len() == 20
    })
    .await;
    assert!(!supervisor.fatal().is_cancelled());
    let stopped = status.slots.list()[0].sinks.list()[0].stopped.get().unwrap();
    assert!(stopped.contains("as planned"), "{stopped}");
    let owed = store.disk.commits_of("fake/0/slot", "faulty");
    let confirmed = log.confirmed();
    assert!(confirmed == model::lsn::Lsn::ZERO || owed.contains(&Log::commit_lsn(0)), "{owed:?}");
}

/// B184 in the small: a stop in the middle, with requests under way, repeats nothing.
#[tokio::test(start_paused = true)]
async fn b184_a_graceful_stop_repeats_nothing() {
    let log = Log::new();
    for n in 0..500 {
        log.commit(vec![Row::update(n % 50, n), Row::update(1_000 + n, n)]);
    }
    let store: Arc<Store> = Arc::default();
    let mut requests = 0;
    let sink = Recording::new(Grouping::Apart, 10, move |_| {
        requests += 1;
        let error = if requests % 4 == 0 { refusal() } else { None };
        Answer { after: Duration::from_millis(20), error, ..Answer::default() }
    });
    for part in 1..=5 {
        let (engine, _, _) = engine(&log, vec![sink_spec("a", &sink)], &store, MIB);
        run_until(engine, || sink.len() >= part * 200).await;
    }
    let mut keys: Vec<_> =
        sink.received().iter().map(|message| message.idempotency_key.clone()).collect();
    assert_eq!(keys.len(), 1_000);
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 1_000, "every message once");
}

#[tokio::test(start_paused = true)]
async fn a_broken_stream_is_opened_again_and_repeats_nothing() {
    let log = Log::new();
    for n in 0..100 {
        log.commit(vec![Row::update(n, n)]);
    }
    log.break_after(40);
    // Slow enough that much is unconfirmed when the stream breaks.
    let sink = Recording::new(Grouping::Apart, 1, |_| Answer {
        after: Duration::from_millis(500),
        ..Answer::default()
    });
    let (engine, status, _) = engine(&log, vec![sink_spec("a", &sink)], &Arc::default(), MIB);
    run_until(engine, || log.settled()).await;
    assert_eq!(sink.len(), 100);
    assert_eq!(status.slots.list()[0].connects.get(), 2);
}

/// A sink that says its requests fail as a whole, and then judges messages apart after all: what
/// got through behind a failed message of its group is sent again behind it.
#[tokio::test(start_paused = true)]
async fn a_message_that_got_through_behind_a_failed_one_is_sent_again_behind_it() {
    let log = Log::new();
    log.commit((0..3).map(|n| Row::update(1, n)).collect());
    let mut requests = 0;
    let sink = Recording::new(Grouping::Together, 10, move |_| {
        requests += 1;
        let rejected = if requests == 1 { vec![(1, Retry::Later { after: None })] } else { vec![] };
        Answer { rejected, ..Answer::default() }
    });
    let (engine, _, _) = engine(&log, vec![sink_spec("a", &sink)], &Arc::default(), MIB);
    run_until(engine, || log.settled()).await;
    assert_eq!(values(&sink), [0, 2, 1, 2]);
}

/// What is put aside holds back nobody: what got through behind it is not sent again, and is settled
/// with it, never before.
#[tokio::test(start_paused = true)]
async fn b122_what_got_through_behind_a_message_that_is_put_aside_is_not_sent_again() {
    let log = Log::new();
    log.commit((0..3).map(|n| Row::update(1, n)).collect());
    let sink = Recording::new(Grouping::Together, 10, move |batch| {
        let poison = batch.messages().iter().position(|message| value(message) == 0);
        let rejected = poison.map(|index| (index, Retry::Never)).into_iter().collect();
        Answer { rejected, ..Answer::default() }
    });
    let store: Arc<Store> = Arc::default();
    let (engine, status, _) = engine(&log, vec![sink_spec("a", &sink)], &store, MIB);
    let pending = || status.slots.list()[0].sinks.list()[0].pending.get();
    let mut waited = None;
    run_until(engine, || {
        if sink.len() == 2 && waited.is_none() {
            waited = Some(pending());
            store.set_away(false);
        } else if waited.is_none() {
            store.set_away(pending() > 0);
        }
        waited.is_some() && log.settled()
    })
    .await;
    assert_eq!(waited, Some(3), "none is settled while the letter is not on disk");
    assert_eq!((values(&sink), store.letters().len()), (vec![1, 2], 1));
    assert_eq!(sink.requests(), [3]);
}

/// A standby that lacks the newest transactions takes over: the positions of its new transactions
/// were used before, and mean other changes now.
#[tokio::test(start_paused = true)]
async fn changes_of_a_promoted_standby_are_not_taken_for_settled_ones() {
    let log = Log::new();
    for n in 0..10 {
        log.commit(vec![Row::update(n, n)]);
    }
    let sink = Recording::willing();
    let store: Arc<Store> = Arc::default();
    let (first, status, _) = engine(&log, vec![sink_spec("a", &sink)], &store, MIB);
    let mut promoted = false;
    run_until(first, || {
        if sink.len() >= 10 && !std::mem::replace(&mut promoted, true) {
            log.fail_over(5);
            for n in 100..103 {
                log.commit(vec![Row::update(n, n)]);
            }
        }
        values(&sink).iter().filter(|value| **value >= 100).count() == 3
    })
    .await;
    assert_eq!(log.confirmed(), log.end());
    assert_eq!(status.slots.list()[0].problem.get(), None);

    // The same over a restart, after the new server has passed the old one's positions.
    log.fail_over(6);
    for n in 200..220 {
        log.commit(vec![Row::update(n, n)]);
    }
    let (second, _, _) = engine(&log, vec![sink_spec("a", &sink)], &store, MIB);
    run_until(second, || log.settled()).await;
    let arrived: Vec<_> = values(&sink).into_iter().filter(|value| *value >= 200).collect();
    assert_eq!(arrived, (200..220).collect::<Vec<_>>());
}

/// A server that was set back on the same timeline is not read, and says so until it is stopped.
#[tokio::test(start_paused = true)]
async fn a_server_behind_our_progress_is_refused_and_stays_visible() {
    let log = Log::new();
    for n in 0..10 {
        log.commit(vec![Row::update(n, n)]);
    }
    let sink = Recording::willing();
    let store: Arc<Store> = Arc::default();
    let (first, _, _) = engine(&log, vec![sink_spec("a", &sink)], &store, MIB);
    run_until(first, || log.settled()).await;
    log.set_back(5);
    let (second, status, _) = engine(&log, vec![sink_spec("a", &sink)], &store, MIB);
    run_until(second, || status.slots.list()[0].problem.get().is_some()).await;
    let problem = status.slots.list()[0].problem.get().unwrap();
    assert!(problem.contains("older backup"), "{problem}");
    assert!(!status.slots.list()[0].connected.load(Ordering::Relaxed), "it is not read");
    assert_eq!(sink.len(), 10);
}

/// The neighbour's queue is full and the slot waits for a place in it when the neighbour panics.
#[tokio::test(start_paused = true)]
async fn a_panic_behind_a_full_queue_does_not_stop_the_slot() {
    let log = Log::new();
    for n in 0..200 {
        log.commit(vec![Row::update(n, n)]);
    }
    let mut requests = 0;
    let faulty = Recording::new(Grouping::Apart, 1, move |_| {
        requests += 1;
        Answer { after: Duration::from_secs(1), panics: requests > 3, ..Answer::default() }
    });
    let alive = Recording::willing();
    let mut spec = sink_spec("faulty", &faulty);
    spec.filters = vec![slow_function(Duration::from_millis(700))];
    let specs = vec![spec, sink_spec("alive", &alive)];
    let (engine, status, _) = engine(&log, specs, &Arc::default(), MIB);
    let mut stopped = None;
    run_until(engine, || {
        stopped = stopped.take().or_else(|| status.slots.list()[0].sinks.list()[0].stopped.get());
        alive.len() == 200 && stopped.is_some()
    })
    .await;
}

/// Somebody drops the slot: it is not created again behind everybody's back, neither by the running
/// process nor by the next one.
#[tokio::test(start_paused = true)]
async fn b187_a_slot_that_was_dropped_is_not_recreated_silently() {
    let log = Log::new();
    log.commit(vec![Row::update(1, 1)]);
    let sink = Recording::willing();
    let store: Arc<Store> = Arc::default();
    let (first, status, _) = engine(&log, vec![sink_spec("a", &sink)], &store, MIB);
    let mut dropped = false;
    run_until(first, || {
        if sink.len() == 1 && !std::mem::replace(&mut dropped, true) {
            log.drop_slot();
        }
        status.slots.list()[0].problem.get().is_some()
    })
    .await;
    let (second, status, _) = engine(&log, vec![sink_spec("a", &sink)], &store, MIB);
    run_until(second, || status.slots.list()[0].problem.get().is_some()).await;
    let problem = status.slots.list()[0].problem.get().unwrap();
    assert!(problem.contains("the slot is gone"), "{problem}");
    assert_eq!(status.slots.list()[0].connects.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn b034_a_stream_that_breaks_at_one_row_is_opened_seldom_and_says_why() {
    let log = Log::new();
    for n in 0..10 {
        log.commit(vec![Row::update(n, n)]);
    }
    log.break_at(Some(5));
    let sink = Recording::willing();
    let (engine, status, _) = engine(&log, vec![sink_spec("a", &sink)], &Arc::default(), MIB);
    let slot = &status.slots.list()[0];
    let start = Instant::now();
    let (mut looks, mut told) = (0, 0);
    run_until(engine, || {
        if start.elapsed() < Duration::from_secs(600) {
            looks += 1;
            told += usize::from(slot.problem.get().is_some_and(|text| text.contains("cannot be")));
        } else if slot.connects.get() > 0 && sink.len() == 5 {
            // Six doublings to 15 s take about 16 s, and then it is 15 s each time.
            assert!((30..60).contains(&slot.connects.get()), "{} times", slot.connects.get());
            assert_eq!(log.confirmed(), model::lsn::Lsn(550), "all that came before");
            log.break_at(None);
        }
        sink.len() == 10
    })
    .await;
    assert!(told * 100 > looks * 95, "{told} of {looks} looks saw the problem");
    assert_eq!(values(&sink), (0..10).collect::<Vec<u64>>(), "nothing twice, nothing lost");
    assert_eq!(slot.problem.get(), None);
}

/// What metrics say of time: one observation a batch, and none of a repeat's way through the engine.
#[tokio::test(start_paused = true)]
async fn latencies_are_observed_once_a_batch() {
    let log = Log::new();
    log.commit((0..10).map(|n| Row::update(n, n)).collect());
    let mut requests = 0;
    let sent = Recording::new(Grouping::Together, 10, move |_| {
        requests += 1;
        let error = if requests == 1 { refusal() } else { None };
        Answer { after: Duration::from_millis(200), error, ..Answer::default() }
    });
    let (engine, status, _) = engine(&log, vec![sink_spec("a", &sent)], &Arc::default(), MIB);
    run_until(engine, || log.settled()).await;
    let slot = &status.slots.list()[0];
    assert_eq!(slot.ingestion_us.get(), u64::try_from(NOW_US).unwrap());
    let sink = &slot.sinks.list()[0];
    let counts = |histogram: &Histogram| (histogram.count(), histogram.sum_us() / 100_000);
    assert_eq!(counts(&sink.requests_failed), (1, 2));
    // The messages come again in halves.
    let requests = sent.requests().len() as u64 - 1;
    assert_eq!(counts(&sink.requests_delivered), (requests, 2 * requests));
    assert_eq!(counts(&sink.internal), (1, 0), "the linger time of 5 ms, and no retry");
}
