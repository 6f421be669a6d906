//! Gives any verdict, also wrong ones, as a text column of the row says.
//!
//! Configured with `{"column": "name", "when": "panic"}`. Rows with the text of `when` panic. Of the
//! others, `keep`, `drop`, `evict`, `replace`, `many`, `error`, `set-bool`, `set-text`, `set-json`
//! and `set-null` do what they say, to the column `set`; `bad-document` and `bad-json` give text
//! that is no JSON; `tell` sets what else is known of the change; any other text, null and a value
//! that was not sent are kept. As a filter it knows the first three and `error`.

use sequin_plugin::{Error, Filter, Output, Row, Transform, Value, Verdict};
use trigger::Trigger;

/// Does what the row says.
#[derive(Debug)]
pub struct EveryVerdict;

impl Transform for EveryVerdict {
    type Config = Trigger;

    fn columns(config: &Trigger) -> Vec<String> {
        vec![config.column.clone()]
    }

    fn old_columns(config: &Trigger) -> Vec<String> {
        vec![config.column.clone()]
    }

    fn transform(config: &Trigger, row: &Row<'_>, out: &mut Output) -> Result<(), Error> {
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
    type Config = Trigger;

    fn columns(config: &Trigger) -> Vec<String> {
        vec![config.column.clone()]
    }

    fn filter(config: &Trigger, row: &Row<'_>) -> Result<Verdict, Error> {
        match row.text(&config.column)? {
            Value::Known("drop") => Ok(Verdict::Drop),
            Value::Known("evict") => Ok(Verdict::Evict),
            Value::Known("error") => Err(Error::new("the row says so")),
            _ => Ok(Verdict::Keep),
        }
    }
}

sequin_plugin::export_plugin!(EveryVerdict);
