//! Hostile plugins and their neighbours, all at once on one host.

use std::sync::Arc;

use model::plugin::{Fault, Outcome, Plugin, PluginError};
use plugin::Role;
use tokio::task::JoinHandle;

use crate::support::{
    Null, Row, Text, all_told, bind, hostile, insert, named, peak_bytes, rows_of, told,
};

type Outcomes = Vec<Result<Outcome, PluginError>>;

/// How often each of them is called.
const ROUNDS: usize = 3;

/// Runs `rounds` calls, one after another, beside everything else.
#[expect(clippy::disallowed_methods, reason = "there is no engine here, and nothing is lost")]
fn calls(
    plugin: &Arc<dyn Plugin>,
    names: &'static [&'static str],
    rounds: usize,
) -> JoinHandle<Vec<Outcomes>> {
    let plugin = Arc::clone(plugin);
    tokio::spawn(async move {
        let mut found = Vec::new();
        for _ in 0..rounds {
            found.push(plugin.run(named(names)).await);
        }
        found
    })
}

#[tokio::test]
async fn b265_b266_b267_hostile_plugins_together_harm_neither_neighbours_nor_the_host() {
    let crooked = r#"{"column": "name", "when": ""}"#;
    let worst = [
        (hostile("spin", "worst"), Fault::Deadline),
        (hostile("flood", "worst"), Fault::Deadline),
        (hostile("grow", "worst"), Fault::Memory),
        (hostile("stack", "worst"), Fault::Trap),
        (hostile("trap", "worst"), Fault::Trap),
        (hostile("stateful", "worst"), Fault::Trap),
        (hostile("huge-output", "worst"), Fault::Output),
        (
            bind("wrong-count", Role::Filter, r#"{"column": "name", "when": "worst"}"#),
            Fault::Output,
        ),
        (bind("crooked", Role::Transform, crooked), Fault::Output),
    ];
    let verdicts = r#"{"column": "name", "when": "worst"}"#;
    let good = bind("every-verdict", Role::Transform, verdicts);
    let filter = bind("public-rows", Role::Filter, r#"{"column": "is_public"}"#);
    let before = peak_bytes();
    let running: Vec<_> = worst
        .iter()
        .map(|(plugin, fault)| (calls(plugin, &["a", "worst", "texts"], ROUNDS), *fault))
        .collect();
    let neighbours: Vec<_> =
        (0..4).map(|_| calls(&good, &["keep", "many", "set-text", "error"], 25)).collect();
    let rows: Vec<Row<'_>> = ["true", "false"]
        .map(|public| insert([Text("1"), Text("worst"), Text(public), Null]))
        .into();
    for _ in 0..25 {
        assert_eq!(all_told(&filter.run(rows_of(&rows)).await), ["Keep", "Evict"]);
    }
    for neighbour in neighbours {
        for outcomes in neighbour.await.unwrap() {
            let expected = [
                "Keep",
                r#"Usual {"first": 1}, Usual {"second": 2}"#,
                r#"set set="set-text""#,
                "plugin_error: the row says so",
            ];
            assert_eq!(all_told(&outcomes), expected);
        }
    }
    for (task, fault) in running {
        let rounds = task.await.unwrap();
        assert_eq!(rounds.len(), ROUNDS);
        for outcomes in rounds {
            assert_eq!(outcomes.len(), 3);
            let failed = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
            let failed: Vec<Fault> = failed.map(|error| error.fault).collect();
            assert_eq!(failed, [fault], "{:?}", outcomes.iter().map(told).collect::<Vec<_>>());
        }
    }
    // Four threads at most, each with a guest's 64 MiB and what is taken over from it.
    let grown = (peak_bytes() - before) >> 20;
    assert!(grown < 400, "{grown} MiB");
}
