//! Order by columns instead of keys.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use model::batch;
use model::message::Message;
use model::page::Value;
use model::plugin::Outcome;
use model::position::Position;
use model::relation::Identity;
use model::sink::{Retry, SinkKind};

use crate::fake::log::{Log, Row};
use crate::fake::plugin::{document, function};
use crate::fake::sink::{Answer, Recording};
use crate::fake::store::Store;
use crate::fake::{engine, run_until, sink_spec};
use crate::grouping::{GroupColumns, Grouping, Scope};
use crate::select::Table;
use crate::spec::SinkSpec;
use crate::tests::simulation::{flaky, live};

const MIB: usize = 1 << 20;

/// Each run has six lives; enough to meet faults in several combinations.
const SEEDS: u64 = 25;

/// Per change, what names the groups whose order it must respect.
type Expected = HashMap<Position, Vec<String>>;

fn by(scope: Scope, columns: &[(&str, &str)]) -> Grouping {
    let table = |(table, column): &(&str, &str)| GroupColumns {
        table: Table::Named { schema: "public".into(), table: (*table).to_owned() },
        columns: vec![(*column).to_owned()],
    };
    Grouping::On { scope, tables: columns.iter().map(table).collect() }
}

/// [`check_last`], and in each group first arrivals are in order.
fn check(received: &[Arc<Message>], expected: &Expected) {
    for (group, positions) in check_last(received, expected) {
        let mut seen = HashSet::new();
        let firsts: Vec<_> = positions.into_iter().filter(|at| seen.insert(*at)).collect();
        assert!(firsts.is_sorted(), "{group}: first arrivals are in order: {firsts:?}");
    }
}

/// Everything arrived; in each group the last word is the newest. Returns what arrived by group.
fn check_last<'a>(
    received: &[Arc<Message>],
    expected: &'a Expected,
) -> HashMap<&'a str, Vec<Position>> {
    let mut by_group: HashMap<&str, Vec<Position>> = HashMap::new();
    for message in received {
        for group in &expected[&message.position] {
            by_group.entry(group).or_default().push(message.position);
        }
    }
    let arrived: HashSet<_> = received.iter().map(|message| message.position).collect();
    assert_eq!(arrived.len(), expected.len(), "nothing is lost");
    for (group, positions) in &by_group {
        assert_eq!(
            positions.last(),
            positions.iter().max(),
            "{group}: the last word is the newest"
        );
    }
    by_group
}

/// A log sink that refuses single messages although its requests are to fail as a whole.
fn partial(mut dice: fastrand::Rng) -> Arc<Recording> {
    Recording::new(batch::Grouping::Together, 5, move |batch| {
        let after = Duration::from_millis(dice.u64(0..200));
        let rejected = if dice.u8(0..3) == 0 {
            vec![(dice.usize(0..batch.messages().len()), Retry::Later { after: None })]
        } else {
            Vec::new()
        };
        Answer { after, rejected, ..Answer::default() }
    })
}

fn seeds(run: impl Fn(u64) + std::panic::RefUnwindSafe) {
    for seed in 0..SEEDS {
        let result = std::panic::catch_unwind(|| run(seed));
        assert!(result.is_ok(), "seed {seed}");
    }
}

/// Rows of random keys and regions; keys move from region to region, and the old row tells from
/// where. Under replica identity default nobody tells: then the row and the new region count.
#[test]
fn b094_b095_rows_of_one_value_keep_their_order_across_keys_and_kills() {
    seeds(|seed| {
        let mut dice = fastrand::Rng::with_seed(seed);
        let log = Log::new();
        let full = dice.bool();
        log.alter(|relation| {
            relation.identity = if full { Identity::Full } else { Identity::Default };
        });
        let mut regions: HashMap<u64, u64> = HashMap::new();
        let mut expected = Expected::new();
        for n in 0..dice.usize(20..80) {
            let mut rows = Vec::new();
            for ordinal in 0..dice.u64(1..4) {
                let (key, region) = (dice.u64(0..6), dice.u64(0..3));
                let old = regions.insert(key, region).unwrap_or(region);
                let mut groups = vec![format!("row {key}"), format!("region {region}")];
                let mut row = Row::update(key, region);
                if full {
                    row.before = Some((key, Some(old.to_string())));
                    groups.push(format!("region {old}"));
                    groups.dedup();
                }
                expected.insert(Position::new(Log::commit_lsn(n), ordinal), groups);
                rows.push(row);
            }
            log.commit(rows);
        }
        let sinks = [
            flaky(SinkKind::Log, batch::Grouping::Together, dice.fork()),
            flaky(SinkKind::Log, batch::Grouping::Apart, dice.fork()),
            partial(dice.fork()),
        ];
        let specs = || {
            let grouping = by(Scope::Table, &[("t", "value")]);
            let named = sinks.iter().zip(["a", "b", "c"]);
            named
                .map(|(sink, name)| SinkSpec {
                    grouping: grouping.clone(),
                    ..sink_spec(name, sink)
                })
                .collect()
        };
        live(&log, &Arc::default(), &mut dice, &sinks, specs);
        check(&sinks[0].received(), &expected);
        check(&sinks[1].received(), &expected);
        // What it takes of a request in which it refuses another message comes too early.
        check_last(&sinks[2].received(), &expected);
    });
}

/// A table of places and one of their texts, in one index: what is of one place keeps its order
/// across the tables, and so does each document, whatever documents are made of the rows.
#[test]
fn b094_an_index_keeps_the_order_of_groups_and_of_documents_across_tables() {
    seeds(|seed| {
        let mut dice = fastrand::Rng::with_seed(seed);
        let log = Log::new();
        let mut expected = [Expected::new(), Expected::new()];
        for n in 0..dice.usize(20..80) {
            let is_text = dice.bool();
            log.alter(|relation| {
                relation.oid = if is_text { 2 } else { 1 };
                relation.table = if is_text { "text" } else { "place" }.into();
            });
            let mut rows = Vec::new();
            for ordinal in 0..dice.u64(1..4) {
                let key = dice.u64(0..12);
                let place = if is_text { key % 4 } else { key };
                rows.push(Row::update(key, place));
                let position = Position::new(Log::commit_lsn(n), ordinal);
                expected[0].insert(position, vec![format!("place {place}")]);
                let document = format!("document {}", key % 3);
                expected[1].insert(position, vec![format!("place {place}"), document]);
            }
            log.commit(rows);
        }
        let sinks = [0, 1].map(|_| flaky(SinkKind::State, batch::Grouping::Apart, dice.fork()));
        let key = |row: &model::page::Row, column: usize| match row.value(column) {
            Value::Text(text) => text.parse::<u64>().unwrap(),
            Value::Null | Value::Unchanged => panic!("no number"),
        };
        let to_place = function(move |change| {
            let id = key(change.row().unwrap(), 1);
            Ok(Outcome::Replace(document(&format!("{{\"id\":\"{id}\"}}"))))
        });
        let to_third = function(move |change| {
            let id = key(change.row().unwrap(), 0) % 3;
            Ok(Outcome::Replace(document(&format!("{{\"id\":\"{id}\"}}"))))
        });
        let specs = || {
            let grouping = by(Scope::Sink, &[("text", "value"), ("place", "id")]);
            let named = sinks.iter().zip([("a", &to_place), ("b", &to_third)]);
            let spec = |(sink, (name, transform)): (&Arc<Recording>, (&str, &Arc<_>))| SinkSpec {
                grouping: grouping.clone(),
                transforms: vec![Arc::clone(transform)],
                ..sink_spec(name, sink)
            };
            named.map(spec).collect()
        };
        live(&log, &Arc::default(), &mut dice, &sinks, specs);
        for (sink, expected) in sinks.iter().zip(&expected) {
            check(&sink.received(), expected);
        }
    });
}

/// A key without a value has its own order only: it waits for no other one.
#[tokio::test(start_paused = true)]
async fn b096_rows_without_a_value_have_the_order_of_their_keys() {
    let null = |key| Row { is_null: true, ..Row::update(key, "") };
    let log = Log::new();
    log.commit(vec![null(1), null(2), null(1), Row::update(1, "a"), null(3)]);
    let mut attempts = 0;
    let sink = Recording::new(batch::Grouping::Apart, 1, move |batch| {
        let first = batch.messages().iter().position(|message| message.position.ordinal == 0);
        attempts += u32::from(first.is_some());
        let rejected = first.filter(|_| attempts < 4).map(|at| (at, Retry::Later { after: None }));
        Answer { rejected: rejected.into_iter().collect(), ..Answer::default() }
    });
    let spec = SinkSpec { grouping: by(Scope::Table, &[("t", "value")]), ..sink_spec("a", &sink) };
    let (engine, _, _) = engine(&log, vec![spec], &Arc::default(), MIB);
    run_until(engine, || log.settled()).await;
    let ordinals: Vec<_> = sink.received().iter().map(|message| message.position.ordinal).collect();
    assert_eq!(ordinals, [1, 4, 0, 2, 3]);
}

/// Requests are as full as they can be, and as many at a time.
#[tokio::test(start_paused = true)]
async fn b099_without_grouping_a_hot_key_is_no_limit() {
    for (grouping, requests) in [(Grouping::Off, 100), (Grouping::default(), 1_000)] {
        let log = Log::new();
        log.commit((0..1_000).map(|n| Row::update(7, n)).collect());
        let sink = Recording::new(batch::Grouping::Apart, 10, |_| Answer {
            after: Duration::from_millis(100),
            ..Answer::default()
        });
        let spec = SinkSpec { grouping, ..sink_spec("a", &sink) };
        let (engine, _, _) = engine(&log, vec![spec], &Arc::<Store>::default(), MIB);
        run_until(engine, || sink.len() == 1_000).await;
        assert_eq!(sink.requests().len(), requests);
    }
}

/// What cannot be known is said, once for each table, until it can.
#[tokio::test(start_paused = true)]
async fn b095_a_sink_says_what_is_not_known_of_the_order() {
    let log = Log::new();
    log.commit(vec![Row::update(1, "a"), Row::update(2, "a")]);
    let sink = Recording::willing();
    let spec = SinkSpec { grouping: by(Scope::Table, &[("t", "value")]), ..sink_spec("a", &sink) };
    let (engine, status, _) = engine(&log, vec![spec], &Arc::default(), MIB);
    let warnings = || status.slots.list()[0].sinks.list()[0].warnings.list();
    let mut steps = 0;
    run_until(engine, || {
        let settled = log.settled();
        match (steps, settled) {
            (0, true) => {
                let [("group_change_unknown", problem)] = &warnings()[..] else { panic!() };
                assert!(problem.contains("(value)") && problem.contains("public.t"), "{problem}");
                log.alter(|relation| relation.identity = Identity::Full);
                log.commit(vec![Row::update(1, "a")]);
                steps = 1;
            }
            (1, true) => {
                assert!(warnings().is_empty(), "now it is known");
                log.alter(|relation| relation.columns[1].name = "area".into());
                log.commit(vec![Row::update(1, "a")]);
                steps = 2;
            }
            (2, true) => {
                let [("group_column_missing", problem)] = &warnings()[..] else { panic!() };
                assert!(problem.contains("(value)") && problem.contains("(id, area)"));
                return true;
            }
            _ => {}
        }
        false
    })
    .await;
}
