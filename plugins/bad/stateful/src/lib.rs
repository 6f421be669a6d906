//! Promises that nothing it keeps changes an answer, and answers with how many rows it has seen.
//!
//! Configured with `{"column": "name", "when": "trap"}`: such rows panic, so that one can see whether
//! the instance is thrown away. A host cannot find the lie out; what it can do is not to let the
//! promise reach further than one sink.

use std::sync::atomic::{AtomicI64, Ordering};

use sequin_plugin::prelude::*;
use sequin_plugin::schemars::JsonSchema;
use sequin_plugin::serde::Deserialize;
use trigger::Trigger;

/// Counts rows.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(crate = "sequin_plugin::serde", transparent)]
#[schemars(crate = "sequin_plugin::schemars")]
pub struct Stateful(Trigger);

static SEEN: AtomicI64 = AtomicI64::new(0);

impl Plugin for Stateful {
    const WARM: bool = true;

    fn reads(&self) -> Reads {
        Reads::columns([&self.0.column])
    }
}

impl Transform for Stateful {
    fn transform(&self, row: &Row<'_>, out: &mut Output) -> Result<(), Error> {
        let seen = SEEN.fetch_add(1, Ordering::Relaxed) + 1;
        assert!(!self.0.hit(row)?, "refused row {seen} of this instance");
        out.set_int("seen", seen);
        Ok(())
    }
}

sequin_plugin::export_transform!(Stateful);
