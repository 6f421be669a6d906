//! Several plugins of one role after each other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use model::change::Operation;
use model::conditions::{Condition, Conditions, FieldType, Operand, Operator};
use model::plugin::{Data, Outcome, Patch, Plugin, PluginError, Presence, SetColumn};
use serde_json::{Value as Json, json};

use crate::fake::log::{Log, Row};
use crate::fake::plugin::{document, function, named, refusal, set, shown, text};
use crate::fake::sink::Recording;
use crate::fake::store::Store;
use crate::fake::{engine, run_until, sink_spec};

const MIB: usize = 1 << 20;

/// Conditions stand in the place of a filter, and decide over deletes too, which other filters are not
/// asked about.
#[tokio::test(start_paused = true)]
async fn conditions_are_asked_about_deletes() {
    let log = Log::new();
    let deleted = |value| Row { operation: Operation::Delete, ..Row::update(value, value) };
    log.commit(vec![Row::update(1, 1), Row::update(2, 2), deleted(1), deleted(2)]);
    let sink = Recording::willing();
    let mut spec = sink_spec("a", &sink);
    let one = Operand::One("1.0".to_owned());
    let condition =
        Condition::new("value", Vec::new(), FieldType::Number, Operator::Equal, &one).unwrap();
    spec.filters = vec![
        Arc::new(Conditions::new(vec![condition])),
        named("second", |change| {
            assert_ne!(change.operation, Operation::Delete, "it is not asked");
            Ok(Outcome::Keep)
        }),
    ];
    let store = Arc::<Store>::default();
    let (engine, _, _) = engine(&log, vec![spec], &store, MIB);
    run_until(engine, || log.settled()).await;
    let received = payloads(&sink);
    let actions: Vec<_> = received.iter().map(|it| &it["action"]).collect();
    assert_eq!(actions, ["update", "delete"], "{received:?}");
    assert!(received.iter().all(|it| it["record"]["value"] == "1"), "{received:?}");
}

/// Runs rows through a chain of transforms into a sink.
async fn run(
    rows: Vec<Row>,
    sink: &Arc<Recording>,
    transforms: Vec<Arc<dyn Plugin>>,
) -> Arc<Store> {
    let log = Log::new();
    log.commit(rows);
    let mut spec = sink_spec("a", sink);
    spec.transforms = transforms;
    let store = Arc::<Store>::default();
    let (engine, _, _) = engine(&log, vec![spec], &store, MIB);
    run_until(engine, || log.settled()).await;
    store
}

/// In the order of the log.
fn payloads(sink: &Recording) -> Vec<Json> {
    let mut received = sink.received();
    received.sort_by_key(|message| (message.position, message.output));
    received.iter().map(|message| serde_json::from_str(&message.payload).unwrap()).collect()
}

fn value(change: &model::change::Change) -> u64 {
    shown(change, "value").unwrap().parse().unwrap()
}

/// The first that does not keep a row decides, and those behind it never see the row.
#[tokio::test(start_paused = true)]
async fn the_first_filter_that_does_not_keep_a_row_decides() {
    for index in [false, true] {
        let log = Log::new();
        log.commit((0..30).map(|n| Row::update(n, n)).collect());
        let deleted = Row { operation: Operation::Delete, ..Row::update(99, 1) };
        log.commit(vec![deleted]);
        let sink = if index { Recording::index() } else { Recording::willing() };
        let seen = Arc::new(Mutex::new(Vec::new()));
        let second = Arc::clone(&seen);
        let mut spec = sink_spec("a", &sink);
        spec.filters = vec![
            named("first", |change| match value(change) % 3 {
                0 => Ok(Outcome::Drop),
                1 => Ok(Outcome::Evict),
                _ => Ok(Outcome::Keep),
            }),
            named("second", move |change| {
                second.lock().unwrap().push(value(change));
                if value(change) == 5 { refusal() } else { Ok(Outcome::Keep) }
            }),
            named("third", |change| {
                Ok(if value(change) == 8 { Outcome::Drop } else { Outcome::Keep })
            }),
        ];
        let store = Arc::<Store>::default();
        let (engine, status, _) = engine(&log, vec![spec], &store, MIB);
        run_until(engine, || log.settled()).await;
        let kept: Vec<u64> = (0..30).filter(|n| n % 3 == 2).collect();
        assert_eq!(*seen.lock().unwrap(), kept, "each once, and only those that the first kept");
        let [letter] = &store.letters()[..] else { panic!() };
        assert_eq!(
            (letter.plugin.as_deref(), &*letter.reason),
            (Some("sha256:second"), "plugin_error")
        );
        assert_eq!(letter.error, "second: no thanks");
        // 10 of each third; two of those kept fell out later; the delete passes; evicted rows are
        // removals where there is a state.
        let delivered = if index { 8 + 10 + 1 } else { 8 + 1 };
        assert_eq!(sink.len(), delivered, "index: {index}");
        let filtered = if index { 11 } else { 21 };
        assert_eq!(status.slots.list()[0].sinks.list()[0].filtered.get(), filtered);
    }
}

/// Masks the value, adds a flag; then reads both, adds a length; then takes the flag away.
fn reshaping() -> Vec<Arc<dyn Plugin>> {
    vec![
        named("flag", |change| {
            let even = value(change).is_multiple_of(2);
            let masked = format!("m{}", value(change));
            Ok(set([("value", text(&masked)), ("even", Data::Booleans(vec![even]))]))
        }),
        named("length", |change| {
            let length = shown(change, "value").unwrap().len();
            let even = shown(change, "even").unwrap() == "true";
            let length = i64::try_from(length).unwrap();
            Ok(set([
                ("length", Data::Integers(vec![length])),
                ("label", Data::Json(vec![format!("[{even}]")])),
            ]))
        }),
        named("tidy", |change| {
            let names: Vec<_> =
                change.relation.columns.iter().map(|column| (*column.name).to_owned()).collect();
            assert_eq!(names, ["id", "value", "even", "length", "label"], "as the chain left it");
            let even = SetColumn {
                name: "even".into(),
                presence: vec![Presence::Absent],
                data: Data::Booleans(vec![false]),
            };
            Ok(Outcome::Set(Patch { columns: [even].into(), only: None, row: 0, below: None }))
        }),
    ]
}

#[tokio::test(start_paused = true)]
async fn each_transform_sees_what_those_before_it_made_of_the_row() {
    let sink = Recording::willing();
    let rows = vec![Row::update(1, 10), Row::update(2, 11)];
    run(rows, &sink, reshaping()).await;
    let records: Vec<_> = payloads(&sink).into_iter().map(|it| it["record"].clone()).collect();
    let expected = [
        json!({"id": 1, "value": "m10", "length": 3, "label": [true]}),
        json!({"id": 2, "value": "m11", "length": 3, "label": [false]}),
    ];
    assert_eq!(records, expected);
    assert_eq!(payloads(&sink)[0]["metadata"]["record_pks"], json!(["1"]), "the source's own");
}

/// Also where only some rows were patched, with columns of several forms.
#[tokio::test(start_paused = true)]
async fn rows_of_several_forms_each_reach_the_next_transform() {
    let forms = named("forms", |change| {
        Ok(match value(change) % 4 {
            0 => Outcome::Keep,
            1 => set([("value", Data::Integers(vec![7]))]),
            2 => set([("value", Data::Bytes(vec![vec![0, 255]])), ("x", Data::Floats(vec![0.5]))]),
            _ => {
                let only = Some(Arc::from([Box::from("id")]));
                Outcome::Set(Patch { columns: Arc::new([]), only, row: 0, below: None })
            }
        })
    });
    let told = named("told", |change| {
        let kind = change.relation.column("value").map(|at| change.relation.columns[at].kind);
        let told = format!("{kind:?} {:?} {:?}", shown(change, "value"), shown(change, "x"));
        Ok(set([("told", text(&told))]))
    });
    let sink = Recording::willing();
    run((0..8).map(|n| Row::update(n, n)).collect(), &sink, vec![forms, told]).await;
    let mut found: Vec<_> = payloads(&sink)
        .iter()
        .map(|it| format!("{} {}", it["record"]["id"], it["record"]["told"].as_str().unwrap()))
        .collect();
    found.sort();
    let expected = [
        "0 Some(Text) Some(\"0\") None",
        "1 Some(Integer) Some(\"7\") None",
        "2 Some(Bytes) Some(\"\\\\x00ff\") Some(\"0.5\")",
        "3 None None None",
    ];
    let expected = (0..8).map(|n| {
        format!("{n}{}", &expected[n % 4][1..]).replace("\"0\"", &format!("\"{}\"", n / 4 * 4))
    });
    assert_eq!(found, expected.collect::<Vec<_>>());
}

/// What ends a chain ends it: documents pass the rest as they are.
#[tokio::test(start_paused = true)]
async fn documents_and_drops_pass_the_rest_of_the_chain() {
    let first = named("first", |change| {
        Ok(match value(change) {
            0 => Outcome::Drop,
            1 => Outcome::Replace(document("{\"id\":\"r\"}")),
            2 => Outcome::Many(vec![document("1"), document("2")]),
            3 => Outcome::Evict,
            _ => Outcome::Keep,
        })
    });
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let second = named("second", move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        Ok(Outcome::Replace(document("\"last\"")))
    });
    let sink = Recording::willing();
    run((0..6).map(|n| Row::update(n, n)).collect(), &sink, vec![first, second]).await;
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    let expected = [json!({"id": "r"}), json!(1), json!(2), json!("last"), json!("last")];
    assert_eq!(payloads(&sink), expected);
}

/// The letter has the name and the digest of the plugin that failed; a row that has to go goes by the
/// id that the chain gave it.
#[tokio::test(start_paused = true)]
async fn a_failure_in_a_chain_names_its_plugin_and_a_removal_keeps_its_id() {
    let rows = vec![
        Row { operation: Operation::Delete, ..Row::update(1, 1) },
        Row::update(2, 2),
        Row { operation: Operation::Delete, ..Row::update(3, 3) },
    ];
    let prefix = named("prefix", |change| {
        Ok(set([("id", text(&format!("poi-{}", shown(change, "id").unwrap())))]))
    });
    let fails = named("fails", |change| {
        assert!(shown(change, "id").unwrap().starts_with("poi-"), "also of a deleted row");
        if shown(change, "value").unwrap() == "3" { Ok(Outcome::Evict) } else { refusal() }
    });
    let sink = Recording::index();
    let store = run(rows, &sink, vec![prefix, fails]).await;
    let keys: Vec<_> = sink.received().iter().map(|it| it.key.clone().unwrap()).collect();
    assert_eq!(keys, ["poi-1".into(), "poi-3".into()]);
    let letters = store.letters();
    let told: Vec<_> = letters.iter().map(|it| (it.plugin.as_deref(), &*it.error)).collect();
    assert_eq!(told, [(Some("sha256:fails"), "fails: no thanks"); 2]);
}

/// Of a chain only the first transform is run once for several sinks: the same plugin behind another
/// sees other rows.
#[tokio::test(start_paused = true)]
async fn a_plugin_behind_another_is_not_shared() {
    let log = Log::new();
    log.commit((0..20).map(|n| Row::update(n, n)).collect());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let told: Arc<dyn Plugin> = function(move |change| {
        count.fetch_add(1, Ordering::Relaxed);
        Ok::<_, PluginError>(set([("told", text(&shown(change, "value").unwrap()))]))
    });
    let mask = function(|change| Ok(set([("value", text(&format!("m{}", value(change))))])));
    let sinks = [Recording::willing(), Recording::willing(), Recording::willing()];
    let chains = [
        vec![Arc::clone(&told)],
        vec![Arc::clone(&mask), Arc::clone(&told)],
        vec![Arc::clone(&told)],
    ];
    let specs = sinks.iter().zip(chains).enumerate().map(|(n, (sink, transforms))| {
        let mut spec = sink_spec(&format!("s{n}"), sink);
        spec.transforms = transforms;
        spec
    });
    let (engine, _, _) = engine(&log, specs.collect(), &Arc::default(), MIB);
    run_until(engine, || log.settled()).await;
    for (sink, prefix) in sinks.iter().zip(["", "m", ""]) {
        for payload in payloads(sink) {
            let told = payload["record"]["told"].as_str().unwrap();
            assert_eq!(told, format!("{prefix}{}", payload["record"]["id"]));
        }
    }
    assert_eq!(asked.load(Ordering::Relaxed), 40, "once for two sinks, once for the third");
}
