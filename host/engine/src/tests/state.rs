//! What a state sink is told: documents that go must go, and what is one document stays in order.

use std::sync::Arc;

use model::change::{Change, Operation};
use model::message::{Effect, Message};
use model::page::Value;
use model::plugin::{DocumentEffect, Fault, Outcome, PluginError};

use crate::fake::log::{Log, Row};
use crate::fake::plugin::{document, function};
use crate::fake::sink::Recording;
use crate::fake::store::Store;
use crate::fake::{engine, run_until, sink_spec};
use crate::spec::SinkSpec;

const MIB: usize = 1 << 20;

fn effects(sink: &Recording) -> Vec<(Effect, String)> {
    let shown = |message: &Arc<Message>| {
        (message.effect, message.key.as_deref().unwrap_or_default().to_owned())
    };
    sink.received().iter().map(shown).collect()
}

fn text(change: &Change) -> &str {
    match change.row().unwrap().value(1) {
        Value::Text(text) => text,
        Value::Null | Value::Unchanged => "",
    }
}

/// Runs rows through an index whose filter evicts the value `private`, and through this transform.
async fn run(
    rows: Vec<Row>,
    transform: impl Fn(&str) -> Result<Outcome, PluginError> + Send + Sync + 'static,
) -> (Arc<Recording>, Arc<Store>) {
    let log = Log::new();
    log.commit(rows);
    let (sink, store) = (Recording::index(), Arc::<Store>::default());
    let mut spec: SinkSpec = sink_spec("a", &sink);
    spec.filters = vec![function(move |change| {
        let private = text(change) == "private";
        Ok(if private { Outcome::Evict } else { Outcome::Keep })
    })];
    spec.transforms = vec![function(move |change| transform(text(change)))];
    let (engine, _, _) = engine(&log, vec![spec], &store, MIB);
    run_until(engine, || log.settled()).await;
    (sink, store)
}

/// What a transform says of its documents holds, but for a row that is outside of the set.
#[tokio::test(start_paused = true)]
async fn a_document_has_the_effect_that_the_transform_gives_it() {
    let deleted = Row { operation: Operation::Delete, ..Row::update(7, "x") };
    let rows = vec![Row::update(1, "x"), deleted, Row::update(8, "private")];
    let given = |effect, id: &str| {
        let json = format!("{{\"id\":\"{id}\"}}");
        model::plugin::Document { effect, json: json.into() }
    };
    let (sink, _) = run(rows, move |_| {
        Ok(Outcome::Many(vec![
            given(DocumentEffect::Usual, "usual"),
            given(DocumentEffect::Write, "write"),
            given(DocumentEffect::Complete, "complete"),
            given(DocumentEffect::Remove, "remove"),
        ]))
    })
    .await;
    let mut found = sink.received();
    found.sort_by_key(|message| (message.position, message.output));
    let shown = |message: &Arc<Message>| {
        (message.position.ordinal, message.effect, message.key.as_deref().unwrap().to_owned())
    };
    let expected = [
        (0, Effect::Write, "usual"),
        (0, Effect::Write, "write"),
        (0, Effect::Complete, "complete"),
        (0, Effect::Remove, "remove"),
        (1, Effect::Remove, "usual"),
        (1, Effect::Write, "write"),
        (1, Effect::Complete, "complete"),
        (1, Effect::Remove, "remove"),
        // Evicted: nothing of it is written.
        (2, Effect::Remove, "usual"),
        (2, Effect::Remove, "remove"),
    ];
    let expected = expected.map(|(row, effect, id)| (row, effect, id.to_owned()));
    assert_eq!(found.iter().map(shown).collect::<Vec<_>>(), expected);
}

fn removal(key: &str) -> (Effect, String) {
    (Effect::Remove, key.to_owned())
}

#[tokio::test(start_paused = true)]
async fn an_evicted_row_goes_even_if_the_transform_drops_it() {
    let rows = vec![Row::update(1, "private"), Row::update(2, "other")];
    let (sink, _) = run(rows, |_| Ok(Outcome::Drop)).await;
    assert_eq!(effects(&sink), [removal("1")]);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_row_goes_even_if_the_transform_drops_it() {
    let delete = Row { operation: Operation::Delete, ..Row::update(1, "x") };
    let (sink, _) = run(vec![delete], |_| Ok(Outcome::Drop)).await;
    assert_eq!(effects(&sink), [removal("1")]);
}

/// The removal is delivered and the failure is on record; both settle, once.
#[tokio::test(start_paused = true)]
async fn an_evicted_row_goes_even_if_the_transform_fails_on_it() {
    let fail = |_: &str| Err(PluginError { fault: Fault::Trap, message: "unreachable".into() });
    let rows = vec![Row::update(1, "private"), Row::update(2, "public")];
    let (sink, store) = run(rows, fail).await;
    assert_eq!(effects(&sink), [removal("1")]);
    let letters = store.letters();
    let reasons: Vec<_> = letters.iter().map(|letter| letter.reason.as_str()).collect();
    assert_eq!(reasons, ["plugin_trap", "plugin_trap"]);
}

/// Two rows that a transform maps to one document: the document's changes keep their order.
#[tokio::test(start_paused = true)]
async fn changes_of_one_document_stay_in_order_whatever_rows_they_come_from() {
    let rows = vec![Row::update(1, "a"), Row::update(2, "b")];
    let same = |value: &str| {
        Ok(Outcome::Replace(document(&format!("{{\"id\":\"x\",\"v\":\"{value}\"}}"))))
    };
    let (sink, _) = run(rows, same).await;
    assert_eq!(sink.requests(), [1, 1], "never in one request, where each may fail by itself");
    let last = sink.received().pop().unwrap();
    assert_eq!(&*last.payload, "{\"id\":\"x\",\"v\":\"b\"}");
}

#[tokio::test(start_paused = true)]
async fn the_letter_of_a_removal_names_the_document() {
    let log = Log::new();
    log.commit(vec![Row { operation: Operation::Delete, ..Row::update(7, "x") }]);
    let sink = Recording::refusing_index();
    let store = Arc::<Store>::default();
    let (engine, _, _) = engine(&log, vec![sink_spec("a", &sink)], &store, MIB);
    run_until(engine, || log.settled()).await;
    assert_eq!(store.letters()[0].input, "{\"id\":\"7\"}");
}
