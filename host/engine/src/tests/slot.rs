//! The slot's position against what is on record of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::lsn::Lsn;
use tokio::time::Instant;

use crate::fake::log::{Log, Row};
use crate::fake::sink::Recording;
use crate::fake::store::Store;
use crate::fake::{engine, run_until, sink_spec};

const MIB: usize = 1 << 20;

/// The fake log's first server.
const ORIGIN: &str = "fake/0/slot";

fn commit(log: &Log, values: std::ops::Range<u64>) {
    for n in values {
        log.commit(vec![Row::update(n, n)]);
    }
}

/// The slot is dropped and created again by hand while the engine is away: it looks like the old
/// one, but for where it stands.
#[tokio::test(start_paused = true)]
async fn b187_b192_a_slot_that_was_made_anew_by_hand_is_not_taken_for_the_old_one() {
    let log = Log::new();
    commit(&log, 0..5);
    let sink = Recording::willing();
    let store: Arc<Store> = Arc::default();
    let (first, _, _) = engine(&log, vec![sink_spec("a", &sink)], &store, MIB);
    run_until(first, || log.settled()).await;
    let confirmed = log.confirmed();
    commit(&log, 5..8);
    log.move_slot();
    commit(&log, 8..9);
    for _ in 0..2 {
        let (next, status, _) = engine(&log, vec![sink_spec("a", &sink)], &store, MIB);
        run_until(next, || status.slots.list()[0].problem.get().is_some()).await;
        let problem = status.slots.list()[0].problem.get().unwrap();
        assert!(problem.contains(&format!("beyond {confirmed}")), "{problem}");
        assert!(!status.slots.list()[0].connected.load(Ordering::Relaxed), "it is not read");
        assert_eq!(sink.len(), 5);
        assert_eq!(store.recorded(ORIGIN), Some(confirmed), "and not by the next start either");
    }
    // What is known of the slot is forgotten once an operator accepts the loss.
    let (anew, _, _) = engine(&log, vec![sink_spec("a", &sink)], &Arc::default(), MIB);
    run_until(anew, || sink.len() == 6).await;
}

/// The same under a running engine. What it has already been sent it goes on to deliver.
#[tokio::test(start_paused = true)]
async fn b192_a_slot_that_somebody_else_reads_is_told_and_what_was_read_is_delivered() {
    let log = Log::new();
    commit(&log, 0..20);
    let sink = Recording::new(model::batch::Grouping::Apart, 1, |_| crate::fake::sink::Answer {
        after: Duration::from_secs(1),
        ..Default::default()
    });
    let (engine, status, _) = engine(&log, vec![sink_spec("a", &sink)], &Arc::default(), MIB);
    let mut moved = false;
    run_until(engine, || {
        if sink.len() >= 3 && !std::mem::replace(&mut moved, true) {
            commit(&log, 20..30);
            log.move_slot();
        }
        sink.len() == 20 && status.slots.list()[0].problem.get().is_some()
    })
    .await;
    let problem = status.slots.list()[0].problem.get().unwrap();
    assert!(problem.contains("somebody else reads it"), "{problem}");
    assert_eq!(status.slots.list()[0].connects.get(), 2);
}

/// Our own confirmation that did not arrive, or that the server forgot in a crash: it is behind
/// what is recorded, which is as it may be.
#[tokio::test(start_paused = true)]
async fn b192_a_server_that_forgot_a_confirmation_is_read_on_and_nothing_is_repeated() {
    let log = Log::new();
    commit(&log, 0..10);
    let sink = Recording::willing();
    let store: Arc<Store> = Arc::default();
    let (first, _, _) = engine(&log, vec![sink_spec("a", &sink)], &store, MIB);
    run_until(first, || log.settled()).await;
    log.forget_confirmations(Log::commit_lsn(4));
    commit(&log, 10..12);
    let (second, status, _) = engine(&log, vec![sink_spec("a", &sink)], &store, MIB);
    run_until(second, || log.settled()).await;
    assert_eq!((sink.len(), status.slots.list()[0].problem.get()), (12, None));
}

/// The store is away: nothing is confirmed that is not on record, and delivery goes on.
#[tokio::test(start_paused = true)]
async fn b194_b199_nothing_is_confirmed_before_it_is_on_record() {
    let log = Log::new();
    let sink = Recording::willing();
    let store: Arc<Store> = Arc::default();
    let (engine, _, _) = engine(&log, vec![sink_spec("a", &sink)], &store, MIB);
    let mut away_at = None;
    run_until(engine, || {
        match away_at {
            // It is streaming: the first position is on record.
            None if store.recorded(ORIGIN).is_some() => {
                store.set_away(true);
                away_at = Some(Instant::now());
                commit(&log, 0..50);
            }
            Some(at) if at.elapsed() < Duration::from_secs(600) => {
                assert_eq!(log.confirmed(), Lsn::ZERO);
            }
            Some(_) => {
                assert_eq!(sink.len(), 50, "delivery went on");
                store.set_away(false);
            }
            None => {}
        }
        sink.len() == 50 && log.settled()
    })
    .await;
    assert!(store.recorded(ORIGIN) >= Some(log.confirmed()));
}

/// A standby is behind for a while after its own restart. It is not a server that was set back.
#[tokio::test(start_paused = true)]
async fn b033_a_standby_that_catches_up_is_read_on() {
    let log = Log::new();
    commit(&log, 0..10);
    let sink = Recording::willing();
    let store: Arc<Store> = Arc::default();
    let (first, ..) = engine(&log, vec![sink_spec("a", &sink)], &store, MIB);
    run_until(first, || log.settled()).await;
    let to_replay = log.restart_standby(5);
    let (second, status, _) = engine(&log, vec![sink_spec("a", &sink)], &store, MIB);
    let mut to_replay = to_replay.into_iter();
    let mut done = false;
    run_until(second, || {
        if status.slots.list()[0].connects.get() == 1 {
            match to_replay.next() {
                Some(rows) => log.commit(rows),
                None if !std::mem::replace(&mut done, true) => commit(&log, 10..11),
                None => {}
            }
        }
        sink.len() == 11 && log.settled()
    })
    .await;
    assert_eq!(status.slots.list()[0].problem.get(), None);
}
