//! Sinks that are behind: what they owe goes to the change log, and comes from there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use model::batch::Grouping;
use model::lsn::Lsn;
use model::message::Message;
use tokio::time::Instant;

use crate::budget::Budget;
use crate::fake::log::{Log, Row};
use crate::fake::sink::{Answer, Recording, refusal};
use crate::fake::store::Store;
use crate::fake::{engine, engine_with, run_until, settings, sink_spec};
use crate::run::Settings;
use crate::spec::{OnFull, SinkSpec};
use crate::status::{Fault, SinkStatus, Status};

const ORIGIN: &str = "fake/0/slot";

/// A sink that refuses everything while the switch is set.
fn switched(dead: &Arc<AtomicBool>) -> Arc<Recording> {
    let dead = Arc::clone(dead);
    Recording::new(Grouping::Apart, 10, move |_| {
        let error = if dead.load(Ordering::Relaxed) { refusal() } else { None };
        Answer { error, ..Answer::default() }
    })
}

fn keys(sink: &Recording) -> Vec<u64> {
    let key = |message: &Arc<Message>| {
        let value: serde_json::Value = serde_json::from_str(&message.payload).unwrap();
        value["record"]["id"].as_u64().unwrap()
    };
    sink.received().iter().map(key).collect()
}

/// Rows that fail are overtaken by others: only each by itself has an order.
fn sorted(sink: &Recording) -> Vec<u64> {
    let mut keys = keys(sink);
    keys.sort_unstable();
    keys
}

fn all(keys: std::ops::Range<u64>) -> Vec<u64> {
    keys.collect()
}

fn same(sink: &Recording, expected: std::ops::Range<u64>) -> bool {
    sorted(sink) == all(expected)
}

fn commit(log: &Log, keys: std::ops::Range<u64>) {
    for key in keys {
        log.commit(vec![Row::update(key, "x".repeat(200))]);
    }
}

fn sink(status: &Status, name: &str) -> Arc<SinkStatus> {
    let slots = status.slots.list();
    slots[0].sinks.list().into_iter().find(|sink| &*sink.name == name).unwrap()
}

fn warned(status: &Status, code: &str) -> Option<String> {
    let slot = &status.slots.list()[0];
    let of_sinks = slot.sinks.list().into_iter().flat_map(|sink| sink.warnings.list());
    let all = slot.warnings.list().into_iter().chain(of_sinks);
    all.filter(|(raised, _)| *raised == code).map(|(_, problem)| problem).next()
}

/// One of six is dead for an hour: the others notice nothing, the slot advances, memory is bounded;
/// and once it is back it is sent all of it, once and in order.
#[tokio::test(start_paused = true)]
async fn b200_b202_a_dead_sink_holds_neither_the_slot_nor_its_neighbours() {
    let log = Log::new();
    let dead = Arc::new(AtomicBool::new(true));
    let sick = switched(&dead);
    let others: Vec<_> = (0..5).map(|_| Recording::willing()).collect();
    let mut specs = vec![sink_spec("sick", &sick)];
    specs.extend(others.iter().enumerate().map(|(n, sink)| sink_spec(&format!("s{n}"), sink)));
    let bytes_max = 100_000;
    let (engine, status, _) = engine(&log, specs, &Arc::default(), bytes_max);
    let start = Instant::now();
    let (mut committed, mut highest, mut slowest) = (0, 0, Duration::ZERO);
    let (mut committed_at, mut awaited) = (start, false);
    run_until(engine, || {
        highest = highest.max(status.budget.used());
        let all_have = others.iter().all(|sink| sink.len() as u64 == committed);
        if all_have && std::mem::take(&mut awaited) {
            slowest = slowest.max(committed_at.elapsed());
        }
        // Every half minute, for most of an hour.
        if committed < 6_000 && committed_at.elapsed() >= Duration::from_secs(30) || committed == 0
        {
            assert!(all_have, "the others have what came before");
            commit(&log, committed..committed + 60);
            (committed, committed_at, awaited) = (committed + 60, Instant::now(), true);
        }
        if start.elapsed() > Duration::from_secs(3_200) {
            dead.store(false, Ordering::Relaxed);
        }
        if committed_at.elapsed() > Duration::from_secs(20) && dead.load(Ordering::Relaxed) {
            assert_eq!(log.confirmed(), log.end(), "what the dead one owes is on the disk");
        }
        let is_trimmed = status.slots.list()[0].log_bytes.get() == 0;
        committed == 6_000 && log.settled() && is_trimmed
    })
    .await;
    assert!(highest <= bytes_max * 5 / 4, "{highest} bytes held");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert!(same(&sick, 0..6_000));
    for sink in &others {
        assert!(same(sink, 0..6_000));
    }
    let sick = sink(&status, "sick");
    assert_eq!((sick.spooling.get(), sick.caught_up.get(), sick.pending.get()), (0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn b202_a_paused_sink_spills_and_goes_on_in_order() {
    let log = Log::new();
    commit(&log, 0..2_000);
    let (paused, store) = (Recording::willing(), Arc::<Store>::default());
    let spec = |is_paused| SinkSpec { paused: is_paused, ..sink_spec("a", &paused) };
    let (first, status, _) = engine(&log, vec![spec(true)], &store, 50_000);
    let highest = AtomicUsize::new(0);
    run_until(first, || {
        highest.fetch_max(status.budget.used(), Ordering::Relaxed);
        log.confirmed() == log.end()
    })
    .await;
    assert!(highest.into_inner() <= 100_000);
    assert_eq!(paused.len(), 0);
    // A restart finds all of it in the log; more comes on the way.
    commit(&log, 2_000..2_100);
    let (second, status, _) = engine(&log, vec![spec(false)], &store, 50_000);
    let mut more = 2_100..2_200;
    run_until(second, || {
        if let Some(next) = more.next() {
            commit(&log, next..next + 1);
        }
        log.settled() && more.is_empty()
    })
    .await;
    assert!(keys(&paused) == all(0..2_200), "in order");
    assert_eq!(sink(&status, "a").spooling.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn b196_a_full_disk_pauses_the_reading_and_says_so_until_there_is_room() {
    let log = Log::new();
    let dead = Arc::new(AtomicBool::new(true));
    let (sick, store) = (switched(&dead), Arc::<Store>::default());
    store.disk.set_full(true);
    commit(&log, 0..2_000);
    let (engine, status, _) = engine(&log, vec![sink_spec("a", &sick)], &store, 50_000);
    let mut told = None;
    run_until(engine, || {
        assert!(status.budget.used() <= 100_000, "{}", status.budget.used());
        if told.is_none() {
            assert_eq!(log.confirmed(), Lsn::ZERO);
            told = warned(&status, "change_log_unwritable")
                .filter(|_| status.slots.list()[0].paused.get() == 1);
        } else if store.disk.commits_of(ORIGIN, "a").is_empty() {
            store.disk.set_full(false);
            dead.store(false, Ordering::Relaxed);
        }
        let is_over = warned(&status, "change_log_unwritable").is_none();
        told.is_some() && is_over && log.settled()
    })
    .await;
    assert!(told.unwrap().contains("nothing more is read for sinks that are behind"));
    assert!(same(&sick, 0..2_000));
}

/// Nobody makes room but the engine: what the sink comes to is trimmed, and that is enough.
#[tokio::test(start_paused = true)]
async fn b196_a_disk_that_the_log_has_filled_has_room_again_once_the_sink_goes_on() {
    let log = Log::new();
    let dead = Arc::new(AtomicBool::new(true));
    let (sick, store) = (switched(&dead), Arc::<Store>::default());
    store.disk.set_room(4_000);
    commit(&log, 0..2_000);
    let (engine, status, _) = engine(&log, vec![sink_spec("a", &sick)], &store, 50_000);
    let full_since = std::cell::Cell::new(None);
    run_until(engine, || {
        if full_since.get().is_none() && warned(&status, "change_log_unwritable").is_some() {
            full_since.set(Some(Instant::now()));
        }
        // Long enough for messages to be kept, which the disk does not take either.
        if full_since.get().is_some_and(|at| at.elapsed() > Duration::from_secs(30)) {
            dead.store(false, Ordering::Relaxed);
        }
        log.settled()
    })
    .await;
    assert!(full_since.get().is_some() && same(&sick, 0..2_000));
}

fn small_log() -> Settings {
    Settings { change_log_bytes_max: 100_000, ..settings() }
}

#[tokio::test(start_paused = true)]
async fn b203_at_the_limit_of_the_log_the_reading_pauses_and_the_sink_is_named() {
    let log = Log::new();
    let dead = Arc::new(AtomicBool::new(true));
    let (sick, alive) = (switched(&dead), Recording::willing());
    let specs = vec![sink_spec("sick", &sick), sink_spec("alive", &alive)];
    commit(&log, 0..3_000);
    let store = Arc::<Store>::default();
    let (engine, status, _) = engine_with(&log, specs, &store, 50_000, small_log());
    let mut told = None;
    run_until(engine, || {
        let slot = &status.slots.list()[0];
        assert!(slot.log_bytes.get() < 200_000, "{}", slot.log_bytes.get());
        if let Some(problem) = warned(&status, "change_log_full").filter(|_| told.is_none()) {
            assert!(alive.len() < 3_000);
            told = Some(problem);
            dead.store(false, Ordering::Relaxed);
        }
        told.is_some() && log.settled()
    })
    .await;
    let told = told.unwrap();
    assert!(
        told.contains("and sick still has to read") && told.contains("discard_on_full"),
        "{told}"
    );
    assert_eq!(warned(&status, "change_log_full"), None);
    assert!(same(&sick, 0..3_000) && same(&alive, 0..3_000));
}

#[tokio::test(start_paused = true)]
async fn b204_at_the_limit_of_the_log_the_oldest_is_thrown_away_and_counted_if_asked_for() {
    let log = Log::new();
    let dead = Arc::new(AtomicBool::new(true));
    let (sick, alive) = (switched(&dead), Recording::willing());
    let loses = SinkSpec { on_full: OnFull::Discard, ..sink_spec("sick", &sick) };
    let specs = vec![loses, sink_spec("alive", &alive)];
    let store = Arc::<Store>::default();
    let (engine, status, _) = engine_with(&log, specs, &store, 50_000, small_log());
    let mut committed = 0;
    run_until(engine, || {
        if committed < 3_000 && alive.len() as u64 == committed {
            commit(&log, committed..committed + 20);
            committed += 20;
        }
        assert_eq!(warned(&status, "change_log_full"), None);
        let slot = &status.slots.list()[0];
        assert!(slot.log_bytes.get() < 250_000, "{}", slot.log_bytes.get());
        if committed == 3_000 && log.confirmed() == log.end() {
            dead.store(false, Ordering::Relaxed);
        }
        committed == 3_000 && log.settled()
    })
    .await;
    let discarded = sink(&status, "sick").discarded.get();
    assert!(discarded > 1_000, "{discarded}");
    let received = sorted(&sick);
    assert_eq!(received.len() as u64 + discarded, 3_000, "each is delivered or counted");
    assert!(received.ends_with(&[2_998, 2_999]), "the newest are kept");
    assert!(warned(&status, "change_log_discarded").unwrap().contains(&discarded.to_string()));
    assert!(same(&alive, 0..3_000));
}

/// Nobody reads for it: what it would rather lose must hold up nobody all the same.
#[tokio::test(start_paused = true)]
async fn b201_b204_at_the_limit_a_sink_that_cannot_start_loses_the_oldest_and_holds_up_nobody() {
    let log = Log::new();
    let (unfit, alive) = (Recording::willing(), Recording::willing());
    let fault = Fault { code: "c", message: "m".to_owned(), help: "h".to_owned() };
    let loses = |fault| SinkSpec { on_full: OnFull::Discard, fault, ..sink_spec("unfit", &unfit) };
    let store = Arc::<Store>::default();
    let specs = vec![loses(Some(fault)), sink_spec("alive", &alive)];
    let (first, status, _) = engine_with(&log, specs, &store, 50_000, small_log());
    let mut committed = 0;
    run_until(first, || {
        if committed < 3_000 && alive.len() as u64 == committed {
            commit(&log, committed..committed + 20);
            committed += 20;
        }
        assert_eq!(warned(&status, "change_log_full"), None);
        committed == 3_000 && log.confirmed() == log.end()
    })
    .await;
    assert!(same(&alive, 0..3_000) && unfit.len() == 0);
    let discarded = sink(&status, "unfit").discarded.get();
    assert!(discarded > 1_000, "{discarded}");
    assert!(warned(&status, "change_log_discarded").unwrap().contains(&discarded.to_string()));
    let specs = vec![loses(None), sink_spec("alive", &alive)];
    let (second, _, _) = engine_with(&log, specs, &store, 50_000, small_log());
    run_until(second, || log.settled()).await;
    let received = sorted(&unfit);
    assert_eq!(received.len() as u64 + discarded, 3_000, "each is delivered or counted");
    assert!(received.ends_with(&[2_998, 2_999]), "the newest are kept");
}

/// What was kept for one before a restart, and that it cannot take, must not keep the log of what its
/// neighbour had kept meanwhile.
async fn the_kept_of_one_fills_no_log(
    bytes_max: usize,
    step: u64,
    second_spec: impl Fn(SinkSpec) -> SinkSpec,
) {
    let log = Log::new();
    let limits = Settings { change_log_bytes_max: 200_000, ..settings() };
    let (dead, flaky) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let (sick, alive) = (switched(&dead), switched(&flaky));
    let store = Arc::<Store>::default();
    let loses = || SinkSpec { on_full: OnFull::Discard, ..sink_spec("sick", &sick) };
    let specs = |sick| vec![sick, sink_spec("alive", &alive)];
    commit(&log, 0..300);
    let (first, _, _) = engine_with(&log, specs(loses()), &store, 8_000_000, limits);
    run_until(first, || log.confirmed() == log.end()).await;
    assert_eq!((sick.len(), alive.len()), (0, 300));
    let sick_spec = second_spec(loses());
    let (second, status, _) = engine_with(&log, specs(sick_spec), &store, bytes_max, limits);
    let mut committed = 300;
    let mut turned = Instant::now();
    run_until(second, || {
        let slot = &status.slots.list()[0];
        assert!(slot.log_bytes.get() < 350_000, "{}", slot.log_bytes.get());
        assert_eq!(warned(&status, "change_log_full"), None);
        // Its neighbour refuses for as long as it takes until that is kept, and goes on.
        if flaky.load(Ordering::Relaxed) {
            let is_kept = log.confirmed() == log.end();
            flaky.store(!is_kept, Ordering::Relaxed);
            turned = Instant::now();
        } else if alive.len() as u64 == committed && committed < 3_100 {
            flaky.store(true, Ordering::Relaxed);
            commit(&log, committed..committed + step);
            committed += step;
        }
        assert!(turned.elapsed() < Duration::from_secs(300), "{committed} {}", alive.len());
        committed == 3_100 && alive.len() == 3_100 && log.confirmed() == log.end()
    })
    .await;
    assert!(same(&alive, 0..3_100));
    assert_eq!(sick.len(), 0);
    let discarded = sink(&status, "sick").discarded.get();
    dead.store(false, Ordering::Relaxed);
    let (third, _, _) = engine_with(&log, specs(loses()), &store, 200_000, limits);
    run_until(third, || log.settled()).await;
    let received = sorted(&sick);
    assert_eq!(received.len() as u64 + discarded, 3_100, "each is delivered or counted");
    assert!(received.starts_with(&all(0..300)), "what was kept was kept");
    assert!(same(&alive, 0..3_100));
}

#[tokio::test(start_paused = true)]
async fn b201_what_is_kept_of_a_sink_that_cannot_start_fills_no_log() {
    let fault = Fault { code: "c", message: "m".to_owned(), help: "h".to_owned() };
    the_kept_of_one_fills_no_log(200_000, 50, |spec| SinkSpec {
        fault: Some(fault.clone()),
        ..spec
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn b202_what_is_kept_of_a_paused_sink_fills_no_log() {
    // Not all of what was kept fits into a share of it.
    the_kept_of_one_fills_no_log(20_000, 10, |spec| SinkSpec { paused: true, ..spec }).await;
}

/// Until it can be read what was kept for whom, nothing of it is trimmed.
#[tokio::test(start_paused = true)]
async fn b203_a_full_log_that_cannot_be_read_names_who_has_to_read_it() {
    let log = Log::new();
    let dead = Arc::new(AtomicBool::new(true));
    let (sick, alive, store) = (switched(&dead), Recording::willing(), Arc::<Store>::default());
    let specs = || vec![sink_spec("sick", &sick), sink_spec("alive", &alive)];
    commit(&log, 0..1_000);
    let (first, _, _) = engine(&log, specs(), &store, 50_000);
    run_until(first, || log.confirmed() == log.end()).await;
    store.disk.set_unreadable(true);
    let (second, status, _) = engine_with(&log, specs(), &store, 50_000, small_log());
    let mut told = None;
    run_until(second, || {
        if told.is_none() {
            told = warned(&status, "change_log_full");
        } else {
            store.disk.set_unreadable(false);
            dead.store(false, Ordering::Relaxed);
        }
        told.is_some() && log.settled() && warned(&status, "change_log_full").is_none()
    })
    .await;
    assert!(told.unwrap().contains("alive, sick still has to read"));
    assert!(same(&sick, 0..1_000) && same(&alive, 0..1_000));
}

/// What was read back is charged for, and a sink of which nothing is left in memory goes on even while
/// the others hold all of it.
#[tokio::test(start_paused = true)]
async fn b205_a_restart_with_a_large_log_stays_within_the_budget() {
    let log = Log::new();
    let store = Arc::<Store>::default();
    let dead = Arc::new(AtomicBool::new(true));
    let sinks: Vec<_> = (0..4).map(|_| switched(&dead)).collect();
    let specs = || {
        let named = sinks.iter().enumerate();
        named.map(|(n, sink)| sink_spec(&format!("s{n}"), sink)).collect::<Vec<_>>()
    };
    commit(&log, 0..3_000);
    let (first, _, _) = engine(&log, specs(), &store, 200_000);
    run_until(first, || log.confirmed() == log.end()).await;
    let (second, status, _) = engine(&log, specs(), &store, 300_000);
    let mut highest = 0;
    let start = Instant::now();
    run_until(second, || {
        highest = highest.max(status.budget.used());
        if start.elapsed() > Duration::from_secs(60) {
            dead.store(false, Ordering::Relaxed);
        }
        log.settled()
    })
    .await;
    assert!(highest <= 300_000, "{highest}");
    for sink in &sinks {
        assert!(same(sink, 0..3_000));
    }
}

#[test]
fn a_share_is_of_what_is_left_for_all() {
    let budget = Budget::new(1_000);
    let shares: Vec<_> = (0..3).map(|_| budget.share()).collect();
    assert!(shares.iter().map(|share| share.bytes_max()).sum::<usize>() <= 750);
}

/// Whether a sink got all of the earlier streams before anything later: each stream by its first key.
fn in_turn(sink: &Recording, firsts: &[u64]) -> bool {
    let received = keys(sink);
    firsts.iter().all(|first| {
        let last_before = received.iter().rposition(|key| key < first);
        last_before < received.iter().position(|key| key >= first)
    })
}

/// A sink is behind when a standby takes over that has the slot further on than the sink is.
#[tokio::test(start_paused = true)]
async fn b186_what_was_logged_before_a_failover_is_delivered_first_and_nobody_else_waits_for_it() {
    let log = Log::new();
    let dead = Arc::new(AtomicBool::new(true));
    let (sick, alive, store) = (switched(&dead), Recording::willing(), Arc::<Store>::default());
    let specs = || vec![sink_spec("sick", &sick), sink_spec("alive", &alive)];
    commit(&log, 0..2_000);
    let (first, _, _) = engine(&log, specs(), &store, 50_000);
    run_until(first, || log.confirmed() == log.end()).await;
    assert_eq!(sick.len(), 0);
    // All of it is confirmed, so the new server sends nothing of it again.
    log.fail_over(2_000);
    commit(&log, 2_000..2_100);
    let (second, status, _) = engine(&log, specs(), &store, 50_000);
    let mut told = None;
    run_until(second, || {
        // Neither the neighbour nor the slot waits.
        if alive.len() == 2_100 && log.confirmed() == log.end() && told.is_none() {
            assert_eq!(sick.len(), 0);
            assert_eq!(status.slots.list()[0].problem.get(), None);
            told = warned(&status, "earlier_stream");
            dead.store(false, Ordering::Relaxed);
        }
        log.settled() && !store.disk.has(ORIGIN) && warned(&status, "earlier_stream").is_none()
    })
    .await;
    let told = told.unwrap();
    assert!(told.contains("sick still owe some") && !told.contains("alive"), "{told}");
    assert!(same(&sick, 0..2_100) && same(&alive, 0..2_100), "{}", sick.len());
    assert!(in_turn(&sick, &[2_000]));
}

/// It stays dead through two failovers, and the process is killed again and again.
#[test]
fn b182_b186_the_logs_of_several_servers_are_delivered_in_turn_through_kills() {
    let log = Log::new();
    let dead = Arc::new(AtomicBool::new(true));
    let (sick, alive, store) = (switched(&dead), Recording::willing(), Arc::<Store>::default());
    let live_until = |done: &dyn Fn() -> bool, is_killed: bool| {
        // Dropping the runtime ends every task where it waits.
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let specs = vec![sink_spec("sick", &sick), sink_spec("alive", &alive)];
            let (run, _, _) = engine(&log, specs, &store, 50_000);
            let killed = async {
                let deadline = Instant::now() + Duration::from_secs(3_600);
                while !(is_killed && done()) {
                    assert!(Instant::now() < deadline, "it did not happen within an hour");
                    tokio::time::sleep_until(Instant::now() + Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                () = killed => {}
                () = run_until(run, || !is_killed && done()) => {}
            }
        });
    };
    for round in 1..=3_u64 {
        commit(&log, (round - 1) * 500..round * 500);
        let done = || alive.len() as u64 >= round * 500 && log.confirmed() == log.end();
        live_until(&done, round == 2);
        if round < 3 {
            log.fail_over((round * 500) as usize);
        }
    }
    assert_eq!(sick.len(), 0);
    dead.store(false, Ordering::Relaxed);
    for count in [100, 600, 1_100] {
        live_until(&|| sick.len() > count, true);
    }
    live_until(&|| log.settled(), false);
    let mut unique = sorted(&sick);
    unique.dedup();
    assert_eq!(unique, all(0..1_500));
    // A kill repeats some, so each server's by what came of it first.
    let received = keys(&sick);
    let first = |from: u64| received.iter().position(|key| *key >= from).unwrap();
    for (from, to) in [(500, 0..500), (1_000, 0..1_000)] {
        let before: std::collections::BTreeSet<_> =
            received[..first(from)].iter().copied().collect();
        assert!(to.into_iter().all(|key| before.contains(&key)), "{from} came before its turn");
    }
}
