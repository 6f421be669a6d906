//! Allocates without end on the rows that say so, and sets `seen` on the others.
//!
//! Configured with `{"column": "name", "when": "grow"}`.

use sequin_plugin::{Error, Output, Row, Transform};
use trigger::Trigger;

/// Does its worst on the rows that say so.
#[derive(Debug)]
pub struct Grow;

impl Transform for Grow {
    type Config = Trigger;

    fn columns(config: &Trigger) -> Vec<String> {
        vec![config.column.clone()]
    }

    fn transform(config: &Trigger, row: &Row<'_>, out: &mut Output) -> Result<(), Error> {
        let mut hoard = Vec::new();
        while config.hit(row)? {
            // Not written to: the limit on memory must come before the one on time.
            hoard.push(std::hint::black_box(Vec::<u8>::with_capacity(1 << 20)));
        }
        out.set_bool("seen", true);
        Ok(())
    }
}

sequin_plugin::export_transform!(Grow);
