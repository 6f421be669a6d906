//! A filter that asks what time it is, which nobody lets it: a host refuses to load it.
//!
//! A world of its own, as the SDK has no clock to offer.
#![cfg(target_arch = "wasm32")]

wit_bindgen::generate!({
    path: "../../../wit/frozen/0.1.0",
    inline: "
        package test:bad;
        package wasi:clocks@0.2.12 {
            interface monotonic-clock {
                now: func() -> u64;
            }
        }
        world wants-clock {
            import wasi:clocks/monotonic-clock@0.2.12;
            include sequin:plugin/filter-plugin@0.1.0;
        }
    ",
    generate_all,
});

use exports::sequin::plugin::{filter, lifecycle};
use sequin::plugin::types::{Batch, Reply, Verdict};

struct WantsClock;

impl lifecycle::Guest for WantsClock {
    fn describe() -> lifecycle::Description {
        lifecycle::Description {
            config_schema: String::new(),
            capabilities: Vec::new(),
            warm: false,
            extra: Vec::new(),
        }
    }

    fn configure(_config: String) -> Result<lifecycle::Requirements, Vec<lifecycle::ConfigError>> {
        Ok(lifecycle::Requirements { reads: Vec::new(), packed: false, extra: Vec::new() })
    }
}

impl filter::Guest for WantsClock {
    fn run(batch: Batch) -> Result<Reply, String> {
        let odd = wasi::clocks::monotonic_clock::now() % 2 == 1;
        let verdict = if odd { Verdict::Keep } else { Verdict::Drop };
        let verdicts = vec![verdict; batch.actions.len()];
        Ok(Reply {
            verdicts,
            columns: Vec::new(),
            only: None,
            documents: Vec::new(),
            errors: Vec::new(),
        })
    }
}

export!(WantsClock);
