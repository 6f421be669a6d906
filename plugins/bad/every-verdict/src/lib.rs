//! Gives any verdict, also wrong ones, as a text column of the row says.
//!
//! Configured with `{"column": "name", "when": "panic"}`. Rows with the text of `when` panic. Of the
//! others, `keep`, `drop`, `evict`, `replace`, `many`, `error`, `set-bool`, `set-text`, `set-json`,
//! `set-null` and `remove` do what they say, to the column `set` (`remove` to the column itself);
//! `bad-document` and `bad-json` give text that is no JSON; `tell` sets what else is known of the
//! change; any other text, null and a value that was not sent are kept. As a filter it knows the
//! first three and `error`.

use sequin_plugin::prelude::*;
use sequin_plugin::schemars::JsonSchema;
use sequin_plugin::serde::Deserialize;
use trigger::Trigger;

/// Does what the row says.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(crate = "sequin_plugin::serde", transparent)]
#[schemars(crate = "sequin_plugin::schemars")]
pub struct EveryVerdict(Trigger);

impl Plugin for EveryVerdict {
    fn reads(&self) -> Reads {
        Reads::columns([&self.0.column]).old([&self.0.column])
    }
}

impl Transform for EveryVerdict {
    fn transform(&self, row: &Row<'_>, out: &mut Output) -> Result<(), Error> {
        let config = &self.0;
        assert!(!config.hit(row)?, "the row says so");
        let Value::Known(text) = row.text(&config.column)? else {
            return Ok(());
        };
        match text {
            "drop" => out.drop_row(),
            "evict" => out.evict(),
            "replace" => out.replace(r#"{"only": 1}"#),
            "many" => out.many([r#"{"first": 1}"#, r#"{"second": 2}"#]),
            "error" => return Err(Error::new("the row says so")),
            "set-bool" => out.set_bool("set", true),
            "set-text" => out.set_text("set", text),
            "set-json" => out.set_json("set", "[1, 2]"),
            "set-null" => out.set_null("set"),
            "remove" => out.remove(&config.column),
            "tell" => {
                let old = row.old().text(&config.column)?;
                let (table, action, at) = (row.table(), row.action(), row.position());
                out.set_text("set", format!("{table} {action:?} {at:?} was {old:?}"));
            }
            "bad-document" => out.replace("{"),
            "bad-json" => out.set_json("set", "[1,"),
            _ => {}
        }
        Ok(())
    }
}

impl Filter for EveryVerdict {
    fn filter(&self, row: &Row<'_>) -> Result<Verdict, Error> {
        match row.text(&self.0.column)? {
            Value::Known("drop") => Ok(Verdict::Drop),
            Value::Known("evict") => Ok(Verdict::Evict),
            Value::Known("error") => Err(Error::new("the row says so")),
            _ => Ok(Verdict::Keep),
        }
    }
}

sequin_plugin::export!(EveryVerdict: filter, transform);
