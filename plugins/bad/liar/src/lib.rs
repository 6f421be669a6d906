//! Says things of itself that are not true, before it is asked to do anything.
//!
//! Its section `sequin:plugin` names a world that there is not, and roles that it has not. Its schema
//! is no JSON, and another one each time; its name of a table is none; it reads a table twice, and
//! columns that no table has. Only the last is something that a host has to live with.
#![cfg(target_arch = "wasm32")]

use std::sync::atomic::{AtomicU32, Ordering};

use sequin_plugin::bindings::types::{Batch, Reply, Verdict};
use sequin_plugin::bindings::{filter, lifecycle};

struct Liar;

static DESCRIBED: AtomicU32 = AtomicU32::new(0);

const CLAIM: &str = r#"{"world":"sequin:plugin@9.9.9","sdk":"god 1.0","roles":["sink","source"]}"#;

#[used]
#[unsafe(link_section = "sequin:plugin")]
static SECTION: [u8; CLAIM.len()] = match CLAIM.as_bytes().first_chunk() {
    Some(bytes) => *bytes,
    None => [0; CLAIM.len()],
};

impl lifecycle::Guest for Liar {
    fn describe() -> lifecycle::Description {
        let times = DESCRIBED.fetch_add(1, Ordering::Relaxed);
        lifecycle::Description {
            config_schema: format!("{{\"type\": \"object\", \"title\": \"{times}"),
            capabilities: Vec::new(),
            warm: times.is_multiple_of(2),
            extra: vec![("licence".to_owned(), "yours".to_owned()); 3],
        }
    }

    fn configure(_config: String) -> Result<lifecycle::Requirements, Vec<lifecycle::ConfigError>> {
        let reads = |table: &str| lifecycle::Reads {
            table: table.to_owned(),
            columns: vec!["".to_owned(), "no such column".to_owned()],
            old_columns: vec!["\0".to_owned()],
            metadata: vec!["no such metadata".to_owned()],
        };
        let reads = vec![reads("*"), reads("*"), reads("no_schema")];
        Ok(lifecycle::Requirements { reads, packed: false, extra: Vec::new() })
    }
}

impl filter::Guest for Liar {
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

sequin_plugin::bindings::lifecycle::export_lifecycle!(Liar);
sequin_plugin::bindings::filter::export_filter!(Liar);
