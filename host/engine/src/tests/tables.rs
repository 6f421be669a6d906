//! Tables that change their names or their partitioned table under a sink.

use std::sync::Arc;

use model::message::Message;
use model::relation::{Ancestor, Relation};

use crate::fake::log::{Log, Row};
use crate::fake::sink::Recording;
use crate::fake::{engine, run_until, sink_spec};
use crate::select::{Names, Table};

const MIB: usize = 1 << 20;

fn named(table: &str) -> Table {
    Table::Named { schema: "public".to_owned(), table: table.to_owned() }
}

/// Table and row of each message.
fn received(sink: &Recording) -> Vec<String> {
    let shown = |message: &Arc<Message>| {
        let payload: serde_json::Value = serde_json::from_str(&message.payload).unwrap();
        let table = payload["metadata"]["table_name"].as_str().unwrap();
        format!("{table} {}", payload["record"]["value"].as_str().unwrap())
    };
    sink.received().iter().map(shown).collect()
}

/// Runs a backlog through a sink of these tables: what it got, and the codes and texts of its
/// warnings. The slot is confirmed past everything, wanted or not.
async fn run(log: &Log, tables: Names<Table>) -> (Vec<String>, Vec<(&'static str, String)>) {
    let sink = Recording::willing();
    let mut spec = sink_spec("a", &sink);
    spec.selection.tables.tables = tables;
    let (engine, status, _) = engine(log, vec![spec], &Arc::default(), MIB);
    run_until(engine, || log.settled()).await;
    (received(&sink), status.slots.list()[0].sinks.list()[0].warnings.list())
}

/// `t` is renamed to `u`, and back.
fn renamed() -> Log {
    let log = Log::new();
    for (value, name) in [("1", "t"), ("2", "u"), ("3", "u"), ("4", "t")] {
        log.alter(|relation| relation.table = name.into());
        log.commit(vec![Row::update(1, value)]);
    }
    log
}

#[tokio::test(start_paused = true)]
async fn b079_a_sink_of_an_oid_follows_a_renamed_table() {
    let (got, warnings) = run(&renamed(), Names::Only(vec![Table::Oid(1)])).await;
    assert_eq!(got, ["t 1", "u 2", "u 3", "t 4"]);
    assert_eq!(warnings, []);
    let (got, warnings) = run(&renamed(), Names::Except(vec![Table::Oid(1)])).await;
    assert_eq!((got.len(), warnings), (0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn b079_a_sink_of_a_name_reports_that_its_table_was_renamed() {
    let only = || Names::Only(vec![named("t")]);
    let log = Log::new();
    log.commit(vec![Row::update(1, "1")]);
    log.alter(|relation| relation.table = "u".into());
    log.commit(vec![Row::update(1, "2")]);
    let (got, warnings) = run(&log, only()).await;
    assert_eq!(got, ["t 1"]);
    let [("table_renamed", problem)] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(problem.contains("public.t is public.u now") && problem.contains("oid (1)"));

    let (got, warnings) = run(&renamed(), only()).await;
    assert_eq!(got, ["t 1", "t 4"]);
    assert_eq!(warnings, [], "it has its name again");

    // Another table takes the name: it is delivered, and nothing is wrong any more.
    let log = Log::new();
    for (value, oid, name) in [("1", 1, "t"), ("2", 1, "u"), ("3", 2, "t"), ("4", 1, "u")] {
        log.alter(|relation| (relation.oid, relation.table) = (oid, name.into()));
        log.commit(vec![Row::update(1, value)]);
    }
    let (got, warnings) = run(&log, only()).await;
    assert_eq!(got, ["t 1", "t 3"]);
    assert_eq!(warnings, []);
}

#[tokio::test(start_paused = true)]
async fn b079_a_table_moved_to_another_schema_is_reported_too() {
    let log = Log::new();
    log.commit(vec![Row::update(1, "1")]);
    log.alter(|relation| relation.schema = "archive".into());
    log.commit(vec![Row::update(1, "2")]);
    let (got, warnings) = run(&log, Names::Only(vec![named("t")])).await;
    assert_eq!(got, ["t 1"]);
    let [("table_renamed", problem)] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(problem.contains("public.t is archive.t now"), "{problem}");
}

#[tokio::test(start_paused = true)]
async fn b079_an_excluded_table_that_was_renamed_is_reported() {
    let except = || Names::Except(vec![named("t")]);
    let log = Log::new();
    log.commit(vec![Row::update(1, "1")]);
    log.alter(|relation| relation.table = "u".into());
    log.commit(vec![Row::update(1, "2")]);
    let (got, warnings) = run(&log, except()).await;
    assert_eq!(got, ["u 2"]);
    let [("exclusion_renamed", problem)] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(problem.contains("public.t") && problem.contains("is public.u now"), "{problem}");
    let (got, warnings) = run(&renamed(), except()).await;
    assert_eq!(got, ["u 2", "u 3"]);
    assert_eq!(warnings, [], "it has its name again");
}

#[tokio::test(start_paused = true)]
async fn b085_b086_a_partition_is_delivered_to_a_sink_of_its_root_while_it_is_one() {
    let log = Log::new();
    let root = Ancestor { oid: 9, schema: "public".into(), table: "root".into() };
    let attached = |relation: &mut Relation| relation.ancestors = vec![root.clone()];
    let detached = |relation: &mut Relation| relation.ancestors.clear();
    log.commit(vec![Row::update(1, "1")]);
    log.alter(attached);
    log.commit(vec![Row::update(1, "2")]);
    log.alter(detached);
    log.commit(vec![Row::update(1, "3")]);
    let (got, warnings) = run(&log, Names::Only(vec![named("root")])).await;
    assert_eq!(got, ["t 2"], "under its own name, as Postgres published it");
    let [("pubviaroot_not_set", problem)] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(problem.contains("public.root") && problem.contains("public.t:"), "{problem}");
}

#[tokio::test(start_paused = true)]
async fn b079_a_renamed_root_is_reported_too() {
    let renamed_root = || {
        let log = Log::new();
        for (value, name) in [("1", "root"), ("2", "trunk")] {
            let root = Ancestor { oid: 9, schema: "public".into(), table: name.into() };
            log.alter(|relation| relation.ancestors = vec![root]);
            log.commit(vec![Row::update(1, value)]);
        }
        log
    };
    let (got, warnings) = run(&renamed_root(), Names::Only(vec![named("root")])).await;
    assert_eq!(got, ["t 1"]);
    let renamed = warnings.iter().find(|(code, _)| *code == "table_renamed");
    let (_, problem) = renamed.unwrap_or_else(|| panic!("{warnings:?}"));
    assert!(problem.contains("public.root is public.trunk now"), "{problem}");
    assert!(problem.contains("oid (9)"), "{problem}");
    let (got, _) = run(&renamed_root(), Names::Only(vec![Table::Oid(9)])).await;
    assert_eq!(got, ["t 1", "t 2"]);
}
