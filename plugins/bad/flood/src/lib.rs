//! Writes to the log without end on the rows that say so; one long line for each other row.
//!
//! Configured with `{"column": "name", "when": "flood"}`.

use sequin_plugin::{Error, Output, Row, Transform};
use trigger::Trigger;

/// Does its worst on the rows that say so.
#[derive(Debug)]
pub struct Flood;

impl Transform for Flood {
    type Config = Trigger;

    fn columns(config: &Trigger) -> Vec<String> {
        vec![config.column.clone()]
    }

    fn transform(config: &Trigger, row: &Row<'_>, out: &mut Output) -> Result<(), Error> {
        while config.hit(row)? {
            sequin_plugin::log!(Warn, "and another line");
        }
        sequin_plugin::log!(Info, "{}", "long ".repeat(10_000));
        out.set_bool("seen", true);
        Ok(())
    }
}

sequin_plugin::export_transform!(Flood);
