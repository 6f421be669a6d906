//! Gives a verdict too few for a batch that has a row of which the configuration says so.
//!
//! Configured with `{"column": "name", "when": "short"}`. Speaks to the host without the help of the
//! SDK, which always gives one verdict per row.
#![cfg(target_arch = "wasm32")]

use std::sync::OnceLock;

use sequin_plugin::bindings::types::{Batch, Data, Reply, Verdict};
use sequin_plugin::bindings::{filter, lifecycle};
use sequin_plugin::{Reads, serde_json};
use trigger::Trigger;

struct WrongCount;

static TRIGGER: OnceLock<Trigger> = OnceLock::new();

impl lifecycle::Guest for WrongCount {
    fn describe() -> lifecycle::Description {
        sequin_plugin::export::describe::<Plain>()
    }

    fn configure(config: String) -> Result<lifecycle::Requirements, Vec<lifecycle::ConfigError>> {
        let trigger = TRIGGER.get_or_init(|| serde_json::from_str(&config).expect("a trigger"));
        let reads = lifecycle::Reads {
            table: "*".to_owned(),
            columns: vec![trigger.column.clone()],
            old_columns: Vec::new(),
            metadata: Vec::new(),
        };
        Ok(lifecycle::Requirements { reads: vec![reads], packed: false, extra: Vec::new() })
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
        Ok(Reply {
            verdicts,
            columns: Vec::new(),
            only: None,
            documents: Vec::new(),
            errors: Vec::new(),
        })
    }
}

sequin_plugin::config! {
    /// For the schema.
    struct Plain {
        /// The column to look at.
        column: String,
        /// The text that sets it off. That it is not empty is said here alone.
        #[schemars(length(min = 1))]
        when: String,
    }
}

impl sequin_plugin::Plugin for Plain {
    fn reads(&self) -> Reads {
        Reads::nothing()
    }
}

sequin_plugin::bindings::lifecycle::export_lifecycle!(WrongCount);
sequin_plugin::bindings::filter::export_filter!(WrongCount);
