//! What goes together in requests, what is sent again, and what never comes as far.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::batch::Grouping;
use model::change::Operation;
use model::message::Message;
use model::plugin::{Fault, Outcome, PluginError};
use model::sink::Retry;
use tokio::time::Instant;

use crate::fake::log::{Log, Row};
use crate::fake::plugin::{function, set, shown, text};
use crate::fake::sink::{Answer, Recording, refusal};
use crate::fake::store::Store;
use crate::fake::{engine, run_until, sink_spec};
use crate::grouping::Grouping as Order;
use crate::select::{Actions, Names, Table};

const MIB: usize = 1 << 20;

fn value(message: &Message) -> u64 {
    let payload: serde_json::Value = serde_json::from_str(&message.payload).unwrap();
    payload["record"]["value"].as_str().unwrap().parse().unwrap()
}

/// 400 changes of one row; a request takes 100 ms, ten messages ride in one and four go at once.
#[tokio::test(start_paused = true)]
async fn b099_without_grouping_one_key_is_as_fast_as_many() {
    let mut times = Vec::new();
    for grouping in [Order::Off, Order::default()] {
        let log = Log::new();
        for n in 0..400 {
            log.commit(vec![Row::update(1, n)]);
        }
        let after = Duration::from_millis(100);
        let sink =
            Recording::new(Grouping::Apart, 10, move |_| Answer { after, ..Answer::default() });
        let mut spec = sink_spec("a", &sink);
        spec.grouping = grouping;
        let (engine, _, _) = engine(&log, vec![spec], &Arc::default(), MIB);
        let start = Instant::now();
        run_until(engine, || sink.len() == 400).await;
        times.push(start.elapsed());
    }
    assert!(times[0] < Duration::from_secs(2), "{times:?}");
    assert!(times[1] >= Duration::from_secs(40), "one after another: {times:?}");
}

#[tokio::test(start_paused = true)]
async fn b100_a_hot_key_rides_several_in_a_batch_in_order() {
    let log = Log::new();
    log.commit((0..1_000).map(|n| Row::update(1, n)).collect());
    let sink = Recording::new(Grouping::Together, 50, |_| Answer {
        after: Duration::from_millis(10),
        ..Answer::default()
    });
    let (engine, _, _) = engine(&log, vec![sink_spec("a", &sink)], &Arc::default(), MIB);
    run_until(engine, || sink.len() == 1_000).await;
    let values: Vec<u64> = sink.received().iter().map(|message| value(message)).collect();
    assert_eq!(values, (0..1_000).collect::<Vec<_>>());
    let requests = sink.requests();
    assert!(requests.len() < 40, "{} requests of 50 at most", requests.len());
}

#[tokio::test(start_paused = true)]
async fn b101_only_the_messages_that_failed_are_sent_again() {
    let log = Log::new();
    log.commit((0..40).map(|n| Row::update(n, n)).collect());
    let sent: Arc<Mutex<HashMap<u64, u32>>> = Arc::default();
    let counts = Arc::clone(&sent);
    let sink = Recording::new(Grouping::Apart, 10, move |batch| {
        let mut counts = counts.lock().unwrap();
        let mut rejected = Vec::new();
        for (index, message) in batch.messages().iter().enumerate() {
            let tries = counts.entry(value(message)).or_default();
            *tries += 1;
            if value(message) % 10 == 3 && *tries <= 2 {
                rejected.push((index, Retry::Later { after: None }));
            }
        }
        Answer { rejected, ..Answer::default() }
    });
    let (engine, _, _) = engine(&log, vec![sink_spec("a", &sink)], &Arc::default(), MIB);
    run_until(engine, || sink.len() == 40).await;
    for (value, tries) in sent.lock().unwrap().iter() {
        assert_eq!(*tries, if value % 10 == 3 { 3 } else { 1 }, "{value}");
    }
}

#[tokio::test(start_paused = true)]
async fn b102_one_poison_among_a_hundred_is_the_only_one_put_aside() {
    let log = Log::new();
    log.commit((0..100).map(|n| Row::update(n, n)).collect());
    let sink = Recording::willing();
    let mut spec = sink_spec("a", &sink);
    let poison = function(|change| match shown(change, "value").unwrap().as_str() {
        "41" => Err(PluginError { fault: Fault::Trap, message: "unreachable".into() }),
        _ => Ok(set([("seen", text("yes"))])),
    });
    spec.transforms = vec![poison, function(|_| Ok(Outcome::Keep))];
    let store = Arc::<Store>::default();
    let (engine, _, _) = engine(&log, vec![spec], &store, MIB);
    run_until(engine, || log.settled()).await;
    assert_eq!(sink.len(), 99);
    let letters = store.letters();
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((&*letter.reason, &*letter.error), ("plugin_trap", "f: unreachable"));
    assert!(letter.input.contains("\"value\":\"41\""), "{}", letter.input);
}

#[tokio::test(start_paused = true)]
async fn b105_a_message_that_is_too_large_is_put_aside_and_the_others_continue() {
    let log = Log::new();
    // Of the same row, so that it would hold back what follows.
    for n in 0..20 {
        log.commit(vec![Row::update(1, if n == 7 { "9".repeat(5_000) } else { n.to_string() })]);
    }
    let sink = Recording::new(Grouping::Apart, 1, |batch| {
        let large = batch.messages()[0].payload.len() > 4_000;
        let rejected = if large { vec![(0, Retry::Never)] } else { vec![] };
        Answer { rejected, ..Answer::default() }
    });
    let store = Arc::<Store>::default();
    let (engine, status, _) = engine(&log, vec![sink_spec("a", &sink)], &store, MIB);
    run_until(engine, || log.settled()).await;
    assert_eq!(sink.len(), 19);
    let letters = store.letters();
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((&*letter.reason, letter.attempts), ("delivery", 1));
    assert_eq!(letter.error, "refused for good: no", "with what the sink said");
    assert!(letter.input.len() > 5_000, "the whole message");
    assert_eq!(status.slots.list()[0].sinks.list()[0].failed.get(), 1, "tried once, not again");
}

/// The sink is down and the budget tiny, and all that comes is of no interest to it.
#[tokio::test(start_paused = true)]
async fn b106_actions_that_are_not_chosen_cost_no_room() {
    let log = Log::new();
    log.commit(vec![Row::update(0, "first")]);
    for n in 0..2_000 {
        log.commit(vec![Row::update(n, "x".repeat(100))]);
    }
    let down =
        Recording::new(Grouping::Apart, 1, |_| Answer { error: refusal(), ..Answer::default() });
    let all = Recording::willing();
    let mut spec = sink_spec("down", &down);
    spec.selection.actions = Actions { update: false, ..Actions::default() };
    let (engine, status, _) =
        engine(&log, vec![spec, sink_spec("all", &all)], &Arc::default(), 10_000);
    run_until(engine, || log.settled()).await;
    let sinks = status.slots.list()[0].sinks.list();
    assert_eq!((sinks[0].received.get(), sinks[0].pending.get(), down.len()), (0, 0, 0));
    assert_eq!((sinks[1].received.get(), status.budget.used()), (2_001, 0));
}

/// Names that nobody has at first: a table that is made later, and is made again.
#[tokio::test(start_paused = true)]
async fn b107_exactly_the_chosen_tables_are_delivered_also_those_made_later() {
    let table =
        |schema: &str, table: &str| Table::Named { schema: schema.into(), table: table.into() };
    let schemas = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let choices = [
        (Names::All, Names::All, "a.t a.u b.t b.u b.t"),
        (Names::Only(schemas(&["b"])), Names::All, "b.t b.u b.t"),
        (Names::Except(schemas(&["b"])), Names::All, "a.t a.u"),
        (Names::All, Names::Only(vec![table("b", "t")]), "b.t b.t"),
        (Names::All, Names::Except(vec![table("b", "t")]), "a.t a.u b.u"),
        (Names::Only(schemas(&["b"])), Names::Except(vec![table("b", "u")]), "b.t b.t"),
        (Names::Only(schemas(&["b"])), Names::Only(vec![table("a", "t")]), ""),
    ];
    let log = Log::new();
    let sinks: Vec<_> = choices.iter().map(|_| Recording::willing()).collect();
    let specs = sinks.iter().zip(&choices).enumerate().map(|(n, (sink, (schemas, tables, _)))| {
        let mut spec = sink_spec(&format!("s{n}"), sink);
        spec.selection.tables.schemas = schemas.clone();
        spec.selection.tables.tables = tables.clone();
        spec
    });
    let (engine, _, _) = engine(&log, specs.collect(), &Arc::default(), MIB);
    let mut tables = [("a", "t"), ("a", "u"), ("b", "t"), ("b", "u"), ("b", "t")].iter().zip(10..);
    // Each is made once all is delivered that was there before.
    run_until(engine, || {
        if !log.settled() {
            return false;
        }
        let Some(((schema, name), oid)) = tables.next() else { return true };
        log.alter(|relation| {
            (relation.oid, relation.schema, relation.table) =
                (oid, (*schema).into(), (*name).into());
        });
        log.commit(vec![Row::update(1, 1)]);
        false
    })
    .await;
    for (sink, (schemas, tables, expected)) in sinks.iter().zip(&choices) {
        let received = sink.received();
        let named = received.iter().map(|message| {
            let payload: serde_json::Value = serde_json::from_str(&message.payload).unwrap();
            let of = |key: &str| payload["metadata"][key].as_str().unwrap().to_owned();
            format!("{}.{}", of("table_schema"), of("table_name"))
        });
        let named: Vec<_> = named.collect();
        assert_eq!(named.join(" "), *expected, "{schemas:?} {tables:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn b106_only_the_chosen_actions_are_delivered() {
    let log = Log::new();
    let delete = Row { operation: Operation::Delete, ..Row::update(1, 1) };
    log.commit(vec![Row::update(1, 1), delete]);
    let sink = Recording::willing();
    let mut spec = sink_spec("a", &sink);
    spec.selection.actions = Actions { update: false, ..Actions::default() };
    let (engine, status, _) = engine(&log, vec![spec], &Arc::default(), MIB);
    run_until(engine, || log.settled()).await;
    assert_eq!(sink.len(), 1);
    assert!(sink.received()[0].payload.contains("\"action\":\"delete\""));
    assert_eq!(status.slots.list()[0].sinks.list()[0].received.get(), 1);
}
