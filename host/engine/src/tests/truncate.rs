//! Truncates: told to who asks for them, at their place, and never skipped in silence.

use std::sync::Arc;
use std::time::Duration;

use model::batch::Grouping;
use model::plugin::{Fault, Outcome, PluginError};
use model::sink::Retry;

use crate::fake::log::{Log, Row};
use crate::fake::plugin::function;
use crate::fake::sink::{Answer, Recording};
use crate::fake::{engine, run_until, sink_spec};
use crate::grouping::Grouping as Order;
use crate::select::{Actions, Names, Table};
use crate::spec::SinkSpec;

const MIB: usize = 1 << 20;

fn spec(name: &str, sink: &Arc<Recording>) -> SinkSpec {
    let mut spec = sink_spec(name, sink);
    spec.selection.actions = Actions { truncate: true, ..Actions::default() };
    spec
}

fn actions(sink: &Recording) -> Vec<String> {
    let action = |payload: &str| {
        let message: serde_json::Value = serde_json::from_str(payload).unwrap();
        message["action"].as_str().unwrap().to_owned()
    };
    sink.received().iter().map(|message| action(&message.payload)).collect()
}

/// Rows of many groups, a truncate among them, more rows; a third of the messages fails once or
/// takes long. Nothing passes the truncate, in either direction, whether or not rows have an order.
#[tokio::test(start_paused = true)]
async fn b019_b020_a_truncate_keeps_its_place_among_all_groups() {
    for grouping in [Order::default(), Order::Off] {
        let log = Log::new();
        let mut rows: Vec<Row> = (0..50).map(|n| Row::update(n, n)).collect();
        rows.push(Row::truncate());
        rows.extend((0..50).map(|n| Row::update(n, n)));
        log.commit(rows);
        let mut requests = 0;
        let sink = Recording::new(Grouping::Apart, 7, move |_| {
            requests += 1;
            let rejected = if requests % 3 == 0 {
                vec![(0, Retry::Later { after: None })]
            } else {
                Vec::new()
            };
            Answer { after: Duration::from_millis(requests % 5), rejected, ..Answer::default() }
        });
        let spec = SinkSpec { grouping: grouping.clone(), ..spec("a", &sink) };
        let (engine, _, _) = engine(&log, vec![spec], &Arc::default(), MIB);
        run_until(engine, || sink.len() == 101).await;
        let received = actions(&sink);
        let place = received.iter().position(|action| action == "truncate");
        assert_eq!(place, Some(50), "{grouping:?}");
        assert_eq!(log.confirmed(), log.end());
    }
}

/// A plugin that fails on whatever it sees is not asked about a truncate.
#[tokio::test(start_paused = true)]
async fn b019_no_plugin_is_asked_about_a_truncate() {
    let log = Log::new();
    log.commit(vec![Row::update(1, 1), Row::truncate(), Row::update(2, 2)]);
    let sink = Recording::willing();
    let refuse = |_: &model::change::Change| {
        Err(PluginError { fault: Fault::Trap, message: "what is this".into() })
    };
    let drops = SinkSpec { filters: vec![function(|_| Ok(Outcome::Drop))], ..spec("b", &sink) };
    let fails = SinkSpec { transforms: vec![function(refuse)], ..spec("a", &sink) };
    let (engine, _, _) = engine(&log, vec![drops, fails], &Arc::default(), MIB);
    run_until(engine, || log.settled()).await;
    assert_eq!(actions(&sink), ["truncate", "truncate"]);
}

#[tokio::test(start_paused = true)]
async fn b019_a_truncate_that_a_sink_did_not_ask_for_is_counted() {
    let log = Log::new();
    log.commit(vec![Row::update(1, 1), Row::truncate()]);
    let (told, untold, other) = (Recording::willing(), Recording::willing(), Recording::willing());
    let mut elsewhere = sink_spec("other", &other);
    let table = Table::Named { schema: "public".into(), table: "elsewhere".into() };
    elsewhere.selection.tables.tables = Names::Only(vec![table]);
    let specs = vec![spec("told", &told), sink_spec("untold", &untold), elsewhere];
    let (engine, status, _) = engine(&log, specs, &Arc::default(), MIB);
    run_until(engine, || log.settled()).await;
    assert_eq!((told.len(), untold.len(), other.len()), (2, 1, 0));
    let skipped = status.slots.list()[0].truncates_skipped.get();
    assert_eq!(skipped, 1, "by the sink that has the table's rows");
}
