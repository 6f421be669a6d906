//! Routes as a text column of the row says, also wrongly.
//!
//! Configured with `{"column": "name", "when": "panic"}`. Rows with the text of `when` panic. Of the
//! others, `path` gives the routing keys `endpoint_path` and `method`, `error` fails, `many-types`
//! gives `endpoint_path` as a number, `unknown` gives a key that no sink has, `sink` gives the kind
//! of the sink as `endpoint_path`; all others give nothing.

use sequin_plugin::prelude::*;
use sequin_plugin::schemars::JsonSchema;
use sequin_plugin::serde::Deserialize;
use trigger::Trigger;

/// Does what the row says.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(crate = "sequin_plugin::serde", transparent)]
#[schemars(crate = "sequin_plugin::schemars")]
pub struct EveryRoute(Trigger);

impl Plugin for EveryRoute {
    fn reads(&self) -> Reads {
        Reads::columns([&self.0.column])
    }
}

impl Route for EveryRoute {
    fn route(&self, sink: &str, row: &Row<'_>, keys: &mut Keys<'_>) -> Result<(), Error> {
        assert!(!self.0.hit(row)?, "the row says so");
        let Value::Known(text) = row.text(&self.0.column)? else {
            return Ok(());
        };
        match text {
            "path" => {
                keys.set("endpoint_path", format!("/{}", row.table()));
                keys.set("method", "PUT");
            }
            "error" => return Err(Error::column(&self.0.column, "the row says so")),
            "many-types" => keys.set_int("endpoint_path", 7),
            "unknown" => keys.set("no_such_key", "x"),
            "sink" => keys.set("endpoint_path", format!("/{sink}")),
            _ => {}
        }
        Ok(())
    }
}

sequin_plugin::export_route!(EveryRoute);
