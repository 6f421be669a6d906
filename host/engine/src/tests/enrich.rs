//! Rows with what the source knows of them.

use std::sync::Arc;

use model::change::Operation;
use model::enrich::RowRefused;
use model::message::Effect;
use model::page::Value;
use model::plugin::Outcome;
use serde_json::{Value as Json, json};

use crate::fake::enrich::Facts;
use crate::fake::log::{Log, Row};
use crate::fake::plugin::{document, function, refusal, shown};
use crate::fake::sink::Recording;
use crate::fake::store::Store;
use crate::fake::{engine, run_until, sink_spec};
use crate::select::Table;
use crate::spec::SinkSpec;

const MIB: usize = 1 << 20;

fn spec(name: &str, sink: &Arc<Recording>, facts: &Arc<Facts>) -> SinkSpec {
    let table = Table::Named { schema: "public".into(), table: "t".into() };
    let facts: Arc<Facts> = Arc::clone(facts);
    SinkSpec { enrichments: vec![(table, facts)], ..sink_spec(name, sink) }
}

/// What each message says of its row, by their place in the log.
fn enrichments(sink: &Recording) -> Vec<Json> {
    let mut received = sink.received();
    received.sort_by_key(|message| message.position);
    let enrichment = |payload: &str| {
        let message: Json = serde_json::from_str(payload).unwrap();
        message["metadata"]["enrichment"].clone()
    };
    received.iter().map(|message| enrichment(&message.payload)).collect()
}

/// Nothing found is no obstacle; a row that is refused is a letter, alone.
#[tokio::test(start_paused = true)]
async fn b115_a_row_is_delivered_with_or_without_and_one_that_is_refused_is_put_aside() {
    let log = Log::new();
    let delete = Row { operation: Operation::Delete, ..Row::update(4, "") };
    let rows = vec![Row::update(1, "a"), Row::update(2, "b"), Row::update(3, "c"), delete];
    log.commit(rows);
    log.commit(vec![Row::truncate()]);
    let facts = Facts::new(|key| match key {
        1 => Ok(Some("{\"n\":1}".into())),
        3 => Err(RowRefused("2 rows for the row with id 3".into())),
        _ => Ok(None),
    });
    let (sink, store) = (Recording::willing(), Arc::<Store>::default());
    let mut spec = spec("a", &sink, &facts);
    spec.selection.actions.truncate = true;
    let (engine, _, _) = engine(&log, vec![spec], &store, MIB);
    run_until(engine, || log.settled()).await;
    assert_eq!(enrichments(&sink), [json!({"n": 1}), Json::Null, Json::Null, Json::Null]);
    let letters = store.letters();
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((letter.reason.as_str(), letter.position.ordinal), ("enrichment", 2));
    assert_eq!(letter.error, "2 rows for the row with id 3");
    let input: Json = serde_json::from_str(&letter.input).unwrap();
    assert_eq!(input["record"], json!({"id": 3, "value": "c"}));
    assert_eq!(facts.asked(), [[1, 2, 3, 4]], "truncates are not asked about");
}

/// One question for a run of rows, and none for rows of other tables.
#[tokio::test(start_paused = true)]
async fn b116_rows_are_asked_about_together() {
    let log = Log::new();
    log.commit((0..1_000).map(|n| Row::update(n, n)).collect());
    log.alter(|relation| {
        relation.oid = 2;
        relation.table = "other".into();
    });
    log.commit(vec![Row::update(7, 7)]);
    let facts = Facts::new(|key| Ok(Some(format!("{{\"key\":{key}}}").into())));
    let sink = Recording::willing();
    let (engine, _, _) = engine(&log, vec![spec("a", &sink, &facts)], &Arc::default(), MIB);
    run_until(engine, || log.settled()).await;
    let asked: Vec<usize> = facts.asked().iter().map(Vec::len).collect();
    assert_eq!(asked, [256, 256, 256, 232]);
    let mut found = enrichments(&sink);
    assert_eq!(found.pop(), Some(Json::Null), "of another table");
    for (key, found) in found.iter().enumerate() {
        assert_eq!(*found, json!({"key": key}));
    }
}

/// Two sinks with one filter, of which one has its rows enriched, and the filter asks for that.
#[tokio::test(start_paused = true)]
async fn b116_plugins_see_what_was_found_and_share_no_outcome_of_it() {
    let log = Log::new();
    log.commit((0..100).map(|n| Row::update(n, n)).collect());
    let facts = Facts::new(|key| Ok((key < 5).then(|| "{\"public\":true}".into())));
    let filter = function(|change| {
        Ok(if change.enrichment.is_some() { Outcome::Keep } else { Outcome::Drop })
    });
    let (with, without) = (Recording::willing(), Recording::willing());
    let mut specs = vec![spec("with", &with, &facts), sink_spec("without", &without)];
    for spec in &mut specs {
        spec.filters = vec![Arc::clone(&filter)];
    }
    let (engine, _, _) = engine(&log, specs, &Arc::default(), MIB);
    run_until(engine, || log.settled()).await;
    assert_eq!((with.len(), without.len()), (5, 0));
}

/// The mistake shows before a row comes; the other sink does not notice, and nothing is lost.
#[tokio::test(start_paused = true)]
async fn b115_b117_a_sink_that_gets_no_answer_waits_alone_and_says_why() {
    let log = Log::new();
    let facts = Facts::new(|_| Ok(Some("{}".into())));
    facts.fail(5);
    let (sink, other) = (Recording::willing(), Recording::willing());
    let specs = vec![spec("a", &sink, &facts), sink_spec("b", &other)];
    let (engine, status, _) = engine(&log, specs, &Arc::default(), MIB);
    let status = || Arc::clone(&status.slots.list()[0].sinks.list()[0]);
    let mut told = None;
    let mut others = 0;
    run_until(engine, || {
        if status().waiting.get().is_some() && told.is_none() {
            told = Some((status().warnings.list(), status().waiting.get()));
            log.commit(vec![Row::update(1, 1), Row::update(2, 2)]);
        }
        if sink.len() == 0 {
            others = other.len();
        }
        told.is_some() && log.settled()
    })
    .await;
    let (warnings, waiting) = told.unwrap();
    let text = "no such column (fix: correct the SQL)".to_owned();
    assert_eq!((warnings, waiting), (vec![("enrichment_sql", text.clone())], Some(text)));
    assert_eq!(others, 2, "delivered while the other sink waited");
    assert_eq!(sink.len(), 2);
    assert!(status().waiting.get().is_none() && status().warnings.list().is_empty());
}

/// What has to go goes although the source refuses the row, in order with the others of its document.
#[tokio::test(start_paused = true)]
async fn b115_a_row_that_has_to_go_goes_also_if_it_is_refused() {
    let log = Log::new();
    let delete = Row { operation: Operation::Delete, ..Row::update(3, "public") };
    log.commit(vec![
        Row::update(1, "of 2"),
        Row::update(3, "public"),
        Row::update(2, "private"),
        delete,
        Row::update(1, "of 2"),
        Row::update(5, "public"),
    ]);
    // Keys 2 and 3 are refused, and 5, which is to stay.
    let facts = Facts::new(|key| match key {
        1 => Ok(None),
        key => Err(RowRefused(format!("2 rows for the row with id {key}"))),
    });
    let (sink, store) = (Recording::index(), Arc::<Store>::default());
    let mut spec = spec("a", &sink, &facts);
    spec.filters = vec![function(|change| {
        let private = change.row().unwrap().value(1) == Value::Text("private");
        Ok(if private { Outcome::Evict } else { Outcome::Keep })
    })];
    spec.transforms = vec![function(|_| Ok(Outcome::Replace(document("{\"id\":\"2\"}"))))];
    let (engine, _, _) = engine(&log, vec![spec], &store, MIB);
    run_until(engine, || log.settled()).await;
    let of = |key: &str| -> Vec<Effect> {
        let received = sink.received();
        let of_key = received.iter().filter(|message| message.key.as_deref() == Some(key));
        of_key.map(|message| message.effect).collect()
    };
    assert_eq!(of("2"), [Effect::Write, Effect::Remove, Effect::Write]);
    assert_eq!(of("3"), [Effect::Remove]);
    assert_eq!(sink.len(), 4);
    let ordinals: Vec<_> = store.letters().iter().map(|letter| letter.position.ordinal).collect();
    assert_eq!(ordinals, [1, 2, 3, 5]);
}

/// Refused, and nobody can say from where it has to go: one letter says both, and it settles once.
#[tokio::test(start_paused = true)]
async fn b115_b110_a_refused_row_that_has_no_route_has_one_letter_that_says_both() {
    let log = Log::new();
    let delete = |key| Row { operation: Operation::Delete, ..Row::update(key, "x") };
    log.commit(vec![Row::update(1, "x"), delete(2), delete(3)]);
    log.commit(vec![Row::update(1, "x")]);
    let facts = Facts::new(|key| match key {
        1 => Ok(None),
        key => Err(RowRefused(format!("2 rows for the row with id {key}"))),
    });
    let (sink, store) = (Recording::index().routed(), Arc::<Store>::default());
    let mut spec = spec("a", &sink, &facts);
    spec.routers = vec![function(|change| match shown(change, "id").as_deref() {
        Some("2") => refusal(),
        _ => Ok(Outcome::Keep),
    })];
    let (engine, _, _) = engine(&log, vec![spec], &store, MIB);
    run_until(engine, || log.settled()).await;
    let letters = store.letters();
    let [both, one] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((both.position.ordinal, both.reason.as_str()), (1, "enrichment"));
    assert!(both.error.starts_with("2 rows for the row with id 2; and its removal: "), "{both:?}");
    assert!(both.error.ends_with("remove it by hand") && both.plugin.is_some(), "{both:?}");
    assert_eq!((one.position.ordinal, one.error.as_str()), (2, "2 rows for the row with id 3"));
    let effects: Vec<_> = sink.received().iter().map(|message| message.effect).collect();
    assert_eq!(effects.iter().filter(|effect| **effect == Effect::Remove).count(), 1);
    assert_eq!(effects.len(), 3);
}
