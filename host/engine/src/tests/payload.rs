//! What stands in a message: paths, times, annotations, keys.

use std::sync::Arc;

use model::envelope::{Consumer, Database, Envelope};
use model::json::Timestamps;
use model::path::Path;
use model::relation::{Column, Kind};
use serde_json::{Value as Json, json};

use crate::fake::log::{Log, Row};
use crate::fake::plugin::{named, set, shown, text};
use crate::fake::sink::{Answer, Recording, refusal};
use crate::fake::store::Store;
use crate::fake::{engine, run_until, sink_spec};
use crate::spec::SinkSpec;

const MIB: usize = 1 << 20;

fn of(database: &str, sink: &str, annotations: &str) -> Envelope {
    Envelope::new(
        &Consumer { id: sink, name: sink, annotations },
        &Database { id: database, name: database, annotations, ..Database::default() },
    )
}

async fn run(log: &Log, spec: SinkSpec) -> Arc<Store> {
    let store = Arc::<Store>::default();
    let (engine, _, _) = engine(log, vec![spec], &store, MIB);
    run_until(engine, || log.settled()).await;
    store
}

fn payloads(sink: &Recording) -> Vec<Json> {
    let received = sink.received();
    let parsed = |payload: &str| serde_json::from_str(payload).unwrap();
    received.iter().map(|message| parsed(&message.payload)).collect()
}

/// The value column holds JSON.
fn documents() -> Log {
    let log = Log::new();
    log.alter(|relation| relation.columns[1].kind = Kind::Json);
    log
}

fn with_path(sink: &Arc<Recording>, path: &str) -> SinkSpec {
    SinkSpec { path: Some(path.parse::<Path>().unwrap()), ..sink_spec("a", sink) }
}

#[tokio::test(start_paused = true)]
async fn a_path_sends_the_value_that_stands_there() {
    for (path, expected) in [
        ("record", json!({"id": 1, "value": {"a": [1.5]}})),
        ("record.value.a", json!([1.5])),
        ("record.nix", Json::Null),
        ("action", json!("update")),
        ("metadata.table_name", json!("t")),
    ] {
        let log = documents();
        log.commit(vec![Row::update(1, r#"{"a": [1.5]}"#)]);
        let sink = Recording::willing();
        run(&log, with_path(&sink, path)).await;
        assert_eq!(payloads(&sink), [expected], "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_path_into_a_value_that_was_not_sent_is_no_null() {
    let log = documents();
    log.commit(vec![Row::unsent(1), Row::update(2, "null")]);
    let sink = Recording::willing();
    let store = run(&log, with_path(&sink, "record.value")).await;
    assert_eq!(payloads(&sink), [Json::Null], "what is null is");
    assert_eq!(store.letters()[0].reason, "value_not_sent");
}

/// The document's id is the row's, so that a delete finds it; whatever is no object is a letter.
#[tokio::test(start_paused = true)]
async fn a_path_at_a_state_sink_gives_the_fields_of_the_rows_document() {
    use model::change::Operation;
    use model::message::Effect;
    let log = documents();
    let delete = Row { operation: Operation::Delete, ..Row::update(1, "null") };
    log.commit(vec![Row::update(1, r#"{"id": "own", "a": 1}"#), Row::update(2, "[1]"), delete]);
    let sink = Recording::index();
    let store = run(&log, with_path(&sink, "record.value")).await;
    let received = sink.received();
    let shown: Vec<_> =
        received.iter().map(|it| (it.effect, it.key.as_deref().unwrap(), &*it.payload)).collect();
    let expected = [(Effect::Write, "1", r#"{"id":"1","a":1}"#), (Effect::Remove, "1", "")];
    assert_eq!(shown, expected);
    let letters = store.letters();
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!(letter.reason, "no_document");
    assert!(letter.error.contains("`record.value` is no JSON object"), "{}", letter.error);
}

/// Times of the row and of the commit, at both kinds of sink; what a plugin sees and sets stays.
#[tokio::test(start_paused = true)]
async fn b111_times_are_microseconds_throughout() {
    for index in [false, true] {
        let log = Log::new();
        log.alter(|relation| {
            relation.columns[1].type_name = "timestamptz".into();
            relation.columns.push(Column {
                name: "never".into(),
                kind: Kind::Json,
                type_name: "_timestamp".into(),
                key: false,
            });
        });
        log.commit(vec![Row::update(1, "2024-02-29T12:00:00.000001Z"), Row::update(2, "infinity")]);
        let sink = if index { Recording::index() } else { Recording::willing() };
        let mut spec = sink_spec("a", &sink);
        spec.envelope = spec.envelope.with_timestamps(Timestamps::UnixMicroseconds);
        spec.transforms = vec![named("seen", |change| {
            Ok(set([("seen", text(&shown(change, "value").unwrap()))]))
        })];
        run(&log, spec).await;
        let payloads = payloads(&sink);
        let record = |n: usize| if index { &payloads[n] } else { &payloads[n]["record"] };
        assert_eq!(record(0)["value"], json!(1_709_208_000_000_001_i64), "index: {index}");
        assert_eq!(record(0)["seen"], json!("2024-02-29T12:00:00.000001Z"));
        assert_eq!(record(1)["value"], json!("infinity"));
        if !index {
            assert_eq!(payloads[0]["metadata"]["commit_timestamp"], json!(0));
        }
    }
}

/// The engine stops with a message undelivered; what it says of itself then is changed.
#[tokio::test(start_paused = true)]
async fn b112_a_message_from_before_carries_the_annotations_of_now() {
    let log = Log::new();
    log.commit(vec![Row::update(1, 1)]);
    let store = Arc::<Store>::default();
    let spec = |sink: &Arc<Recording>, annotations: &str| SinkSpec {
        envelope: of("camp", "a", annotations),
        ..sink_spec("a", sink)
    };
    let down = Recording::new(model::batch::Grouping::Apart, 1, |_| Answer {
        error: refusal(),
        ..Answer::default()
    });
    let (before, status, _) = engine(&log, vec![spec(&down, r#"{"v":1}"#)], &store, MIB);
    run_until(before, || status.slots.list()[0].sinks.list()[0].failed.get() > 2).await;
    let up = Recording::willing();
    let (after, _, _) = engine(&log, vec![spec(&up, r#"{"v":2}"#)], &store, MIB);
    run_until(after, || log.settled()).await;
    let metadata = &payloads(&up)[0]["metadata"];
    assert_eq!(metadata["consumer"]["annotations"], json!({"v": 2}));
    assert_eq!(metadata["database"]["annotations"], json!({"v": 2}));
}

/// The logs of two databases have the same positions, and so have their messages the same
/// idempotency keys; a destination that deduplicates must take both.
#[tokio::test(start_paused = true)]
async fn b113_deduplication_ids_differ_where_idempotency_keys_do_not() {
    let mut ids = Vec::new();
    for (database, sink) in [("one", "a"), ("two", "a"), ("one", "b"), ("one", "a")] {
        let log = Log::new();
        log.commit(vec![Row::update(1, 1)]);
        let recording = Recording::willing();
        run(&log, SinkSpec { envelope: of(database, sink, "{}"), ..sink_spec("a", &recording) })
            .await;
        let message = Arc::clone(&recording.received()[0]);
        ids.push((message.deduplication_id(), message.idempotency_key.clone()));
    }
    let [first, second, third, again] = &ids[..] else { panic!() };
    assert_eq!(first, again, "the same after a restart");
    assert!(first.0 != second.0 && first.0 != third.0 && second.0 != third.0, "{ids:?}");
    assert!(ids.iter().all(|(_, key)| *key == first.1));
    // What SQS, which asks for most, allows.
    assert!(first.0.len() <= 128 && first.0.bytes().all(|byte| byte.is_ascii_graphic()));
}
