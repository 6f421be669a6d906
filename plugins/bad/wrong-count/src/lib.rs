//! Gives a verdict too few for a batch that has a row of which the configuration says so.
//!
//! Configured with `{"column": "name", "when": "short"}`. Speaks to the host without the help of the
//! SDK, which always gives one verdict per row.
#![cfg(target_arch = "wasm32")]

use std::sync::OnceLock;

use sequin_plugin::bindings::types::{Batch, Data, Reply, Verdict};
use sequin_plugin::bindings::{filter, lifecycle};
use trigger::Trigger;

struct WrongCount;

static TRIGGER: OnceLock<Trigger> = OnceLock::new();

impl lifecycle::Guest for WrongCount {
    fn configure(config: String) -> Result<lifecycle::Requirements, String> {
        let trigger = TRIGGER.get_or_init(|| serde_json::from_str(&config).expect("a trigger"));
        let columns = vec![trigger.column.clone()];
        Ok(lifecycle::Requirements { columns, old_columns: Vec::new(), extra: Vec::new() })
    }
}

impl filter::Guest for WrongCount {
    fn run(batch: Batch) -> Result<Reply, String> {
        let when = TRIGGER.get().map(|trigger| trigger.when.as_str());
        let hit = batch.columns.iter().any(|column| {
            matches!(&column.data, Data::Texts(values)
                if values.iter().any(|value| Some(value.as_str()) == when))
        });
        let verdicts = vec![Verdict::Keep; batch.actions.len() - usize::from(hit)];
        Ok(Reply { verdicts, columns: Vec::new(), documents: Vec::new(), errors: Vec::new() })
    }
}

sequin_plugin::bindings::lifecycle::export_lifecycle!(WrongCount);
sequin_plugin::bindings::filter::export_filter!(WrongCount);
