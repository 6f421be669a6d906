//! Seeded runs: random changes, faults, kills and restarts, judged by invariants.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::batch::Grouping;
use model::change::Change;
use model::groups::GroupKey;
use model::message::Message;
use model::plugin::Outcome;
use model::position::Position;
use model::sink::{Retry, SinkError, SinkKind};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fake::log::{Log, Row};
use crate::fake::plugin::{function, set, shown, text};
use crate::fake::sink::{Answer, Recording, refusal};
use crate::fake::store::Store;
use crate::fake::{engine, sink_spec};
use crate::spec::SinkSpec;

/// Enough to meet every fault in several combinations, few enough for each run of the suite.
const SEEDS: u64 = 500;

/// Kills per run; the last life is left to finish.
const LIVES: usize = 6;

#[test]
fn b183_random_kills_lose_nothing_and_keep_order() {
    seeds(0..SEEDS / 2);
}

/// The other half: tests run beside each other.
#[test]
fn b183_more_random_kills_lose_nothing_and_keep_order() {
    seeds(SEEDS / 2..SEEDS);
}

fn seeds(seeds: std::ops::Range<u64>) {
    let mut spilled = 0;
    for seed in seeds {
        let result = std::panic::catch_unwind(|| run(seed));
        spilled += result.unwrap_or_else(|_| panic!("seed {seed}"));
    }
    assert!(spilled > 1_000, "what waits behind a failed message went to the disk: {spilled}");
}

/// How often something came back that waited on the disk behind a failed message.
fn run(seed: u64) -> u64 {
    let mut dice = fastrand::Rng::with_seed(seed);
    let log = Log::new();
    let store: Arc<Store> = Arc::default();
    let mut changes = 0;
    for n in 0..dice.usize(20..120) {
        let rows = 1 + usize::from(dice.bool()) * dice.usize(0..4);
        changes += rows;
        log.commit((0..rows).map(|_| Row::update(dice.u64(0..8), n)).collect());
    }
    let grouping = if dice.bool() { Grouping::Together } else { Grouping::Apart };
    let log_sink = |grouping, dice| flaky(SinkKind::Log, grouping, dice);
    let sinks = [
        log_sink(grouping, dice.fork()),
        log_sink(Grouping::Apart, dice.fork()),
        log_sink(grouping, dice.fork()).routed(),
    ];
    let specs = || vec![sink_spec("a", &sinks[0]), sink_spec("b", &sinks[1]), routed(&sinks[2])];
    live(&log, &store, &mut dice, &sinks, specs);
    for sink in &sinks {
        check_received(&sink.received(), changes);
    }
    for message in sinks[2].received() {
        let route = message.route.as_ref().unwrap().text("topic").unwrap().unwrap();
        assert!(message.payload.contains(&format!("\"went\":\"{route}\"")), "{message:?}");
    }
    store.paper.gets()
}

/// Several lives of an engine, each killed but the last, which is left to settle everything.
pub(super) fn live(
    log: &Log,
    store: &Arc<Store>,
    dice: &mut fastrand::Rng,
    sinks: &[Arc<Recording>],
    specs: impl Fn() -> Vec<SinkSpec>,
) {
    for life in 1..=LIVES {
        if dice.u8(0..3) == 0 {
            log.break_after(dice.usize(0..30));
        }
        let killed_after = Duration::from_millis(dice.u64(1..4_000));
        let last = life == LIVES;
        let (engine, _, supervisor) = engine(log, specs(), store, budget(dice));
        // A runtime of its own: dropping it ends every task where it waits, as a kill would.
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let stop = CancellationToken::new();
            let deadline =
                Instant::now() + if last { Duration::from_secs(86_400) } else { killed_after };
            let run = engine.run(stop.clone());
            let watch = async {
                let mut seen = log.confirmed();
                while Instant::now() < deadline && !log.settled() {
                    tokio::time::sleep_until(Instant::now() + Duration::from_millis(17)).await;
                    assert!(!supervisor.fatal().is_cancelled());
                    if std::mem::replace(&mut seen, log.confirmed()) != seen {
                        check_confirmed(log, store, sinks);
                        let recorded = store.recorded("fake/0/slot");
                        assert!(recorded >= Some(seen), "recorded before it is confirmed");
                    }
                }
            };
            tokio::select! {
                () = run => {}
                () = watch => {}
            }
        });
    }
    assert!(log.settled(), "everything is settled in the end");
}

/// From one that holds nearly nothing, so that most goes through the change log, to one that holds
/// everything.
pub(super) fn budget(dice: &mut fastrand::Rng) -> usize {
    1 << dice.usize(9..17)
}

/// Each row goes to one of three places by its value, so that the changes of one key go to several;
/// two transforms look at each.
fn routed(sink: &Arc<Recording>) -> SinkSpec {
    let topic = |change: &Change| {
        let value: u64 = shown(change, "value").unwrap().parse().unwrap();
        ["x", "y", "z"][(value % 3) as usize]
    };
    let mut spec = sink_spec("c", sink);
    spec.routers = vec![function(move |change| Ok(set([("topic", text(topic(change)))])))];
    spec.transforms = vec![
        function(move |change| Ok(set([("went", text(topic(change)))]))),
        function(|change| {
            assert!(shown(change, "went").is_some());
            Ok(Outcome::Keep)
        }),
    ];
    spec
}

/// A sink whose requests take a while, fail, fail in part, and lose answers.
pub(super) fn flaky(kind: SinkKind, grouping: Grouping, dice: fastrand::Rng) -> Arc<Recording> {
    let dice = Mutex::new(dice);
    Recording::of_kind(kind, grouping, 5, move |batch| {
        let mut dice = dice.lock().unwrap();
        let after = Duration::from_millis(dice.u64(0..200));
        let (error, lost) = match dice.u8(0..10) {
            0 => (failure(&mut dice, batch.messages().len()), false),
            1 => (failure(&mut dice, batch.messages().len()), true),
            _ => (None, false),
        };
        let mut rejected = Vec::new();
        if grouping == Grouping::Apart && dice.u8(0..4) == 0 {
            rejected.push((dice.usize(0..batch.messages().len()), Retry::Later { after: None }));
        }
        Answer { after, error, lost, rejected, panics: false }
    })
}

/// Of the destination, or of what was sent; one message alone is never refused for good.
fn failure(dice: &mut fastrand::Rng, messages: usize) -> Option<SinkError> {
    match dice.u8(0..4) {
        0 => Some(SinkError::unreachable("500")),
        1 => Some(SinkError::misconfigured("401")),
        2 if messages > 1 => Some(SinkError::too_large("413")),
        _ => refusal(),
    }
}

/// Invariant 1: what is below the confirmed position is delivered, or on the disk in the change log.
/// The sinks have the names `a`, `b` and so on.
pub(super) fn check_confirmed(log: &Log, store: &Store, sinks: &[Arc<Recording>]) {
    let confirmed = log.confirmed();
    let settled = (0..).map(Log::commit_lsn).take_while(|lsn| *lsn < confirmed);
    for (sink, name) in sinks.iter().zip(["a", "b", "c"]) {
        let received = sink.received();
        let mut safe = store.disk.commits_of("fake/0/slot", name);
        safe.extend(received.iter().map(|message| message.position.commit_lsn));
        for lsn in settled.clone() {
            assert!(safe.contains(&lsn), "{lsn} is confirmed and neither delivered nor logged");
        }
    }
}

/// Nothing lost; in each group new messages arrive in order, and a repeat is followed by all that
/// came after it, so that the last word is the newest.
pub(super) fn check_received(received: &[Arc<Message>], changes: usize) {
    let mut by_group: HashMap<GroupKey, Vec<Position>> = HashMap::new();
    for message in received {
        for key in message.groups.keys() {
            by_group.entry(key).or_default().push(message.position);
        }
    }
    let mut distinct = 0;
    for (group, positions) in by_group {
        let mut sorted = positions.clone();
        sorted.sort();
        sorted.dedup();
        distinct += sorted.len();
        let mut seen = HashSet::new();
        let firsts: Vec<_> = positions.iter().copied().filter(|at| seen.insert(*at)).collect();
        assert_eq!(firsts, sorted, "{group:?}: first arrivals are in order");
        assert_eq!(positions.last(), sorted.last(), "{group:?}: the last word is the newest");
    }
    assert_eq!(distinct, changes, "nothing is lost");
}
