//! Where messages go.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::batch::Grouping;
use model::change::Operation;
use model::message::{Effect, Message};
use model::plugin::{Data, Outcome, Plugin};
use model::route::RouteValue;

use crate::fake::log::{Log, Row};
use crate::fake::plugin::{document, named, refusal, set, shown, text};
use crate::fake::sink::{Answer, Recording};
use crate::fake::store::Store;
use crate::fake::{engine, run_until, sink_spec};
use crate::spec::SinkSpec;
use crate::status::Status;

const MIB: usize = 1 << 20;

/// By the value: `-` says nothing.
fn router() -> Arc<dyn Plugin> {
    named("router", |change| match shown(change, "value").unwrap().as_str() {
        "-" => Ok(Outcome::Keep),
        "broken" => refusal(),
        topic => Ok(set([("topic", text(topic))])),
    })
}

async fn run(log: &Log, spec: SinkSpec) -> (Arc<Store>, Arc<Status>) {
    let store = Arc::<Store>::default();
    let (engine, status, _) = engine(log, vec![spec], &store, MIB);
    run_until(engine, || log.settled()).await;
    (store, status)
}

fn topic(message: &Arc<Message>) -> Option<&str> {
    match message.route.as_ref()?.get("topic") {
        Some(RouteValue::Text(topic)) => Some(topic),
        other => panic!("{other:?}"),
    }
}

/// The router sees the source row, whatever transforms make of it; equal routes are one in memory.
#[tokio::test(start_paused = true)]
async fn b109_messages_go_where_the_router_says_and_else_where_the_sink_does() {
    let log = Log::new();
    for (key, value) in [(1, "x"), (2, "y"), (3, "-"), (4, "x"), (5, "gone")] {
        log.commit(vec![Row::update(key, value)]);
    }
    log.commit(vec![Row { operation: Operation::Delete, ..Row::update(6, "x") }]);
    log.commit(vec![Row::truncate()]);
    let sink = Recording::willing().routed();
    let mut spec = sink_spec("a", &sink);
    spec.selection.actions.truncate = true;
    spec.filters = vec![named("filter", |change| {
        let gone = shown(change, "value").unwrap() == "gone";
        Ok(if gone { Outcome::Drop } else { Outcome::Keep })
    })];
    spec.routers = vec![router()];
    spec.transforms = vec![named("mask", |_| Ok(set([("value", text("masked"))])))];
    run(&log, spec).await;
    let mut received = sink.received();
    received.sort_by_key(|message| message.position);
    let topics: Vec<_> = received.iter().map(topic).collect();
    assert_eq!(topics, [Some("x"), Some("y"), None, Some("x"), Some("x"), None]);
    assert!(received[0].payload.contains("masked"));
    let routes: Vec<_> = received.iter().filter_map(|message| message.route.as_ref()).collect();
    assert!(Arc::ptr_eq(routes[0], routes[2]) && Arc::ptr_eq(routes[0], routes[3]));
}

#[tokio::test(start_paused = true)]
async fn b109_of_several_routers_the_last_one_that_gives_a_key_counts() {
    let log = Log::new();
    log.commit(["first", "both", "unset"].map(|value| Row::update(1, value)).into());
    let sink = Recording::willing().routed();
    let mut spec = sink_spec("a", &sink);
    let second = named("second", |change| match shown(change, "value").unwrap().as_str() {
        "both" => Ok(set([("topic", text("second"))])),
        "unset" => {
            let mut outcome = set([("topic", text(""))]);
            let Outcome::Set(patch) = &mut outcome else { panic!() };
            Arc::get_mut(&mut patch.columns).unwrap()[0].presence =
                vec![model::plugin::Presence::Null];
            Ok(outcome)
        }
        _ => Ok(Outcome::Keep),
    });
    spec.routers = vec![router(), second];
    run(&log, spec).await;
    let received = sink.received();
    let topics: Vec<_> = received.iter().map(topic).collect();
    assert_eq!(topics, [Some("first"), Some("second"), None], "null takes it away");
}

#[tokio::test(start_paused = true)]
async fn b110_a_route_that_the_sink_cannot_follow_is_put_aside_with_its_field() {
    let log = Log::new();
    let values = ["x", "nowhere", "partition", "number", "bytes", "document", "broken", "x"];
    log.commit((0..).zip(values).map(|(key, value)| Row::update(key, value)).collect());
    let sink = Recording::willing().routed();
    let mut spec = sink_spec("a", &sink);
    let other = named("other", |change| match shown(change, "value").unwrap().as_str() {
        "partition" => Ok(set([("partition", Data::Integers(vec![1]))])),
        "number" => Ok(set([("topic", Data::Integers(vec![1]))])),
        "bytes" => Ok(set([("topic", Data::Bytes(vec![vec![1]]))])),
        "document" => Ok(Outcome::Replace(document("{}"))),
        _ => Ok(Outcome::Keep),
    });
    spec.routers = vec![router(), other];
    let (store, status) = run(&log, spec).await;
    assert_eq!(sink.len(), 2, "the others flow");
    let mut letters = store.letters();
    letters.sort_by_key(|letter| letter.position);
    let told = |letter: &model::store::Letter| {
        let plugin = letter.plugin.clone().unwrap_or_default();
        (letter.reason.clone(), letter.error.clone(), plugin)
    };
    let expected = [
        ("invalid_route", "`topic` does not exist", "sha256:router"),
        ("invalid_route", "`partition` is no routing key of this sink", "sha256:other"),
        ("invalid_route", "`topic` must be a text, not an integer", "sha256:other"),
        ("invalid_route", "`topic` must not be bytes", "sha256:other"),
        ("plugin_output", "other: a router may only keep a row, with columns", "sha256:other"),
        ("plugin_error", "router: no thanks", "sha256:router"),
    ]
    .map(|(reason, error, plugin)| (reason.to_owned(), error.to_owned(), plugin.to_owned()));
    assert_eq!(letters.iter().map(told).collect::<Vec<_>>(), expected);
    assert!(letters[0].input.contains("\"value\":\"nowhere\""), "{}", letters[0].input);
    let sink = &status.slots.list()[0].sinks.list()[0];
    assert_eq!((sink.buried.get(), sink.plugin_failures.get()), (6, 2));
    assert_eq!(sink.warnings.list(), [], "nothing had to be removed");
}

/// A removal goes to the document's place. Where that is not known, nothing is removed from anywhere,
/// and it is said, for as long as the engine runs.
#[tokio::test(start_paused = true)]
async fn b110_a_removal_that_has_no_route_is_told_and_not_guessed() {
    let log = Log::new();
    let deleted = |key, value| Row { operation: Operation::Delete, ..Row::update(key, value) };
    log.commit(vec![deleted(1, "x"), Row::update(2, "y"), deleted(3, "broken")]);
    log.commit(vec![Row::update(4, "nowhere"), deleted(5, "nowhere")]);
    // The key changed: the document under the old one has to go.
    log.commit(vec![Row { before: Some((6, None)), ..Row::update(7, "broken") }]);
    let sink = Recording::index().routed();
    let mut spec = sink_spec("a", &sink);
    spec.filters = vec![named("filter", |change| {
        let out = shown(change, "value").unwrap() == "y";
        Ok(if out { Outcome::Evict } else { Outcome::Keep })
    })];
    spec.routers = vec![router()];
    let (store, status) = run(&log, spec).await;
    let received = sink.received();
    let gone: BTreeMap<_, _> = received
        .iter()
        .map(|it| (it.key.clone().unwrap().to_string(), (it.effect, topic(it))))
        .collect();
    let expected = [("1", Some("x")), ("2", Some("y"))];
    let expected = expected.map(|(key, topic)| (key.to_owned(), (Effect::Remove, topic)));
    assert_eq!(gone, expected.into());
    let mut letters = store.letters();
    letters.sort_by_key(|letter| letter.position);
    let by_hand: Vec<_> = letters.iter().map(|it| it.error.contains("remove it by hand")).collect();
    assert_eq!(by_hand, [true, false, true, true], "{letters:?}");
    let warnings = status.slots.list()[0].sinks.list()[0].warnings.list();
    let [("removal_not_routed", problem)] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(problem.contains("public.t"), "{problem}");
}

/// One row after the other to two topics: each request has one of them, and each row its order.
#[tokio::test(start_paused = true)]
async fn requests_of_one_route_keep_the_order_of_a_row_that_changes_its_route() {
    for grouping in [Grouping::Together, Grouping::Apart] {
        let log = Log::new();
        for n in 0..200_u64 {
            let topic = if n % 3 == 0 { "x" } else { "y" };
            log.commit(vec![Row::update(n % 5, topic)]);
        }
        let mut requests = 0;
        let sink = Recording::new(grouping, 10, move |_| {
            requests += 1;
            let error = if requests % 5 == 0 { crate::fake::sink::refusal() } else { None };
            Answer { error, ..Answer::default() }
        })
        .routed();
        let mut spec = sink_spec("a", &sink);
        spec.routers = vec![router()];
        run(&log, spec).await;
        let mut last = BTreeMap::new();
        let received = sink.received();
        assert_eq!(received.len(), 200);
        for message in received {
            let group = message.groups.keys().next().unwrap();
            let before = last.insert(group, message.position);
            assert!(before < Some(message.position), "{grouping:?}");
        }
    }
}
