//! Asks for all that a machine has, and reads everything of every table.
//!
//! It imports nothing that the SDK does not: a host that went by imports alone would run it. It is to
//! be refused for what it says it wants, with the names.
#![cfg(target_arch = "wasm32")]

use sequin_plugin::bindings::types::{Batch, Reply, Verdict};
use sequin_plugin::bindings::{filter, lifecycle};

struct WantsEverything;

impl lifecycle::Guest for WantsEverything {
    fn describe() -> lifecycle::Description {
        let wants = ["clock", "random", "files", "network", "environment", "no such thing"];
        lifecycle::Description {
            config_schema: String::new(),
            capabilities: wants.map(str::to_owned).to_vec(),
            warm: true,
            extra: vec![("wants".to_owned(), "more".to_owned())],
        }
    }

    fn configure(_config: String) -> Result<lifecycle::Requirements, Vec<lifecycle::ConfigError>> {
        let all = || vec!["*".to_owned()];
        let reads = lifecycle::Reads {
            table: "*".to_owned(),
            columns: all(),
            old_columns: all(),
            metadata: vec!["commit_timestamp".to_owned(), "password".to_owned()],
        };
        Ok(lifecycle::Requirements { reads: vec![reads], packed: true, extra: Vec::new() })
    }
}

impl filter::Guest for WantsEverything {
    fn run(batch: Batch) -> Result<Reply, String> {
        let verdicts = vec![Verdict::Keep; batch.actions.len()];
        Ok(Reply {
            verdicts,
            columns: Vec::new(),
            only: None,
            documents: Vec::new(),
            errors: Vec::new(),
        })
    }
}

sequin_plugin::bindings::lifecycle::export_lifecycle!(WantsEverything);
sequin_plugin::bindings::filter::export_filter!(WantsEverything);
