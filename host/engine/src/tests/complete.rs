//! Values that were not sent, fetched for the sinks that ask for it.

use std::sync::Arc;

use model::page::Value;
use model::plugin::Outcome;
use serde_json::json;

use crate::fake::log::{Log, Row};
use crate::fake::lookup::Table;
use crate::fake::plugin::function;
use crate::fake::sink::Recording;
use crate::fake::{engine, run_until, sink_spec};
use crate::spec::SinkSpec;

const MIB: usize = 1 << 20;

fn spec(name: &str, sink: &Arc<Recording>, table: &Arc<Table>) -> SinkSpec {
    SinkSpec { lookup: Some(Arc::<Table>::clone(table)), ..sink_spec(name, sink) }
}

/// By their place in the log: there is no order between rows of different keys.
fn messages(sink: &Recording) -> Vec<serde_json::Value> {
    let mut received = sink.received();
    received.sort_by_key(|message| message.position);
    received.iter().map(|message| serde_json::from_str(&message.payload).unwrap()).collect()
}

/// Also through an outage of the source, which the sink waits out and says so.
#[tokio::test(start_paused = true)]
async fn b071_a_sink_that_asks_for_it_gets_whole_rows() {
    let log = Log::new();
    log.commit(vec![Row::update(1, "sent"), Row::unsent(1), Row::unsent(2), Row::unsent(3)]);
    let table = Table::new([(1, Some("now")), (2, None)]);
    table.fail(3);
    let (asks, does_not) = (Recording::willing(), Recording::willing());
    let specs = vec![spec("asks", &asks, &table), sink_spec("does_not", &does_not)];
    let (engine, status, _) = engine(&log, specs, &Arc::default(), MIB);
    let mut waited = false;
    run_until(engine, || {
        waited |= status.slots.list()[0].sinks.list()[0].waiting.get().is_some();
        log.settled()
    })
    .await;
    assert!(waited && status.slots.list()[0].sinks.list()[0].waiting.get().is_none());
    let found = messages(&asks);
    let records: Vec<_> = found.iter().map(|message| message["record"].clone()).collect();
    assert_eq!(
        records,
        [
            json!({"id": 1, "value": "sent"}),
            json!({"id": 1, "value": "now"}),
            json!({"id": 2, "value": null}),
            json!({"id": 3}),
        ]
    );
    let told: Vec<_> = found.iter().map(|message| &message["metadata"]).collect();
    assert_eq!(told[0].get("fetched"), None);
    assert_eq!((&told[1]["fetched"], told[1].get("unchanged")), (&json!(["value"]), None));
    assert_eq!((&told[2]["fetched"], told[2].get("unchanged")), (&json!(["value"]), None));
    assert_eq!((&told[3]["unchanged"], told[3].get("fetched")), (&json!(["value"]), None));
    assert_eq!(status.slots.list()[0].sinks.list()[0].fetched.get(), 2);
    assert_eq!(table.asked(), [3], "one question for all rows that lack something");
    assert_eq!(messages(&does_not)[1]["metadata"]["unchanged"], json!(["value"]));
    let unsent = status.slots.list()[0].sinks.list().into_iter().map(|sink| sink.rows_unsent.get());
    assert_eq!(unsent.collect::<Vec<_>>(), [0, 3]);
    let warnings = |sink: usize| status.slots.list()[0].sinks.list()[sink].warnings.list();
    assert!(warnings(0).is_empty());
    let [("toast_columns_detected", problem)] = &warnings(1)[..] else { panic!("b070") };
    assert!(problem.contains("public.t") && problem.contains("(value)"), "{problem}");
}

/// The filter sees the row as it was completed.
#[tokio::test(start_paused = true)]
async fn b071_plugins_see_what_was_fetched() {
    let log = Log::new();
    log.commit((0..200).map(Row::unsent).collect());
    let table = Table::new((0..200).map(|key| (key, Some(if key < 5 { "yes" } else { "no" }))));
    let sink = Recording::willing();
    let only_yes = function(|change| {
        let value = change.row().map(|row| row.value(1));
        Ok(if value == Some(Value::Text("yes")) { Outcome::Keep } else { Outcome::Drop })
    });
    let spec = SinkSpec { filters: vec![only_yes], ..spec("a", &sink, &table) };
    let (engine, _, _) = engine(&log, vec![spec], &Arc::default(), MIB);
    run_until(engine, || log.settled()).await;
    assert_eq!(sink.len(), 5);
    assert_eq!(table.asked(), [64, 64, 64, 8], "few rows a question");
}
