//! Seeded runs of backfills: random writes beside them, pages that show less than the stream has
//! brought, marks that are lost, failing sinks, kills. In the end what a sink was told, in order, is
//! the table.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::batch::Grouping;
use model::message::Message;
use model::sink::SinkKind;
use model::store::BackfillState;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::simulation::flaky;
use crate::backfill::{Initial, InitialTables};
use crate::fake::log::{Log, Row};
use crate::fake::sink::Recording;
use crate::fake::store::Store;
use crate::fake::tables::{Readable, Reading};
use crate::fake::{engine_of, settings, sink_spec, slot_spec};

/// Enough to meet each pair of faults, few enough for each run of the suite.
const SEEDS: u64 = 40;

/// The last one is left to finish.
const LIVES: usize = 4;

/// Keys of the table: few, so that writes and pages meet, or enough that pages go in parts.
const KEYS: [u64; 2] = [90, 600];

#[test]
fn b156_b160_b169_b176_b179_b182_what_a_sink_was_told_is_the_table_in_the_end() {
    let mut evicted = 0;
    for seed in 0..SEEDS {
        let result = std::panic::catch_unwind(|| run(seed));
        assert!(result.is_ok(), "seed {seed}");
        evicted += result.unwrap_or(0);
    }
    assert!(evicted > SEEDS, "pages and writes have met: {evicted}");
}

/// How many rows were evicted.
fn run(seed: u64) -> u64 {
    let mut dice = fastrand::Rng::with_seed(seed);
    let log = Log::new();
    let store: Arc<Store> = Arc::default();
    let keys = KEYS[dice.usize(0..KEYS.len())];
    let rows = dice.u64(0..keys);
    log.preload((0..rows).map(|key| (key, format!("old {key}"))));
    let grouping = if dice.bool() { Grouping::Together } else { Grouping::Apart };
    let sinks = [
        flaky(SinkKind::Log, grouping, dice.fork()),
        flaky(SinkKind::Log, Grouping::Apart, dice.fork()),
    ];
    let script = Mutex::new(dice.fork());
    let lag = dice.usize(0..20);
    let tables = Readable::new(&log, move |_| {
        let mut dice = script.lock().unwrap();
        Reading {
            takes: Duration::from_millis(dice.u64(0..300)),
            behind: if dice.bool() { dice.usize(0..=lag) } else { 0 },
            hides: if dice.bool() { dice.usize(0..10) } else { 0 },
            fails: dice.u8(0..10) == 0,
            loses_mark: dice.u8(0..10) == 0,
        }
    });
    for life in 1..=LIVES {
        live(&log, &store, &mut dice, &sinks, &tables, keys, life == LIVES);
    }
    let table = log.see(0, |_| false).rows;
    for sink in &sinks {
        assert_eq!(replayed(&sink.received()), table);
    }
    let all = store.backfills();
    assert!(all.iter().all(|one| one.state == BackfillState::Completed), "{all:?}");
    all.iter().map(|one| one.counts.evicted).sum()
}

fn live(
    log: &Log,
    store: &Arc<Store>,
    dice: &mut fastrand::Rng,
    sinks: &[Arc<Recording>],
    tables: &Readable,
    keys: u64,
    is_last: bool,
) {
    let spec = |name: &str, sink| {
        let mut spec = sink_spec(name, sink);
        spec.selection.actions.truncate = true;
        spec.initial = Initial { tables: InitialTables::All, ..Initial::default() };
        spec
    };
    let mut slot = slot_spec(log, vec![spec("a", &sinks[0]), spec("b", &sinks[1])]);
    slot.backfill = Some(tables.source());
    let (engine, _, supervisor) = engine_of(log, slot, store, 1 << dice.usize(12..20), settings());
    if dice.u8(0..3) == 0 {
        log.break_after(dice.usize(0..60));
    }
    let writes_until = Duration::from_millis(dice.u64(1..2_500));
    let gentle = dice.bool();
    // A runtime of its own: dropping it ends every task where it waits, as a kill would.
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let began = Instant::now();
        let work = async {
            while began.elapsed() < writes_until {
                let pause = Duration::from_millis(dice.u64(0..80));
                tokio::time::sleep_until(Instant::now() + pause).await;
                log.commit((0..dice.usize(1..4)).map(|_| write(dice, log, keys)).collect());
                assert!(!supervisor.fatal().is_cancelled());
            }
            let is_done = || {
                let all = store.backfills();
                let over = all.iter().all(|one| one.state == BackfillState::Completed);
                all.len() == 2 && over && log.settled()
            };
            while is_last && !is_done() {
                tokio::time::sleep_until(Instant::now() + Duration::from_millis(50)).await;
                let hours = began.elapsed().as_secs() / 3_600;
                assert!(hours < 24, "it comes to an end: {:?}", store.backfills());
            }
            stop.cancel();
        };
        let run = engine.run(stop.clone());
        if gentle || is_last {
            tokio::join!(run, work);
        } else {
            tokio::select! {
                () = run => {}
                () = work => {}
            }
        }
    });
}

fn write(dice: &mut fastrand::Rng, log: &Log, keys: u64) -> Row {
    let rows = log.see(0, |_| false).rows;
    let present = |dice: &mut fastrand::Rng| {
        let at = dice.usize(0..rows.len().max(1));
        rows.keys().nth(at).copied()
    };
    let value = format!("new {}", dice.u32(..));
    let key = dice.u64(0..keys);
    match (dice.u8(0..40), present(dice)) {
        (0, _) => Row::truncate(),
        (1..8, Some(key)) => Row::delete(key),
        (8..14, Some(from)) if !rows.contains_key(&key) => Row::moved(from, key, value),
        (14..26, Some(key)) => Row::update(key, value),
        _ if !rows.contains_key(&key) => Row::insert(key, value),
        _ => Row::update(key, value),
    }
}

/// The table that one has who does what the messages say, one after the other.
fn replayed(messages: &[Arc<Message>]) -> BTreeMap<u64, String> {
    let mut rows = BTreeMap::new();
    for message in messages {
        let json: serde_json::Value = serde_json::from_str(&message.payload).unwrap();
        let key = json["record"]["id"].as_u64();
        match (json["action"].as_str().unwrap(), key) {
            ("truncate", _) => rows.clear(),
            ("delete", Some(key)) => {
                rows.remove(&key);
            }
            (_, Some(key)) => {
                if let Some(old) = json["changes"]["id"].as_u64() {
                    rows.remove(&old);
                }
                rows.insert(key, json["record"]["value"].as_str().unwrap().to_owned());
            }
            other => panic!("{other:?}"),
        }
    }
    rows
}
