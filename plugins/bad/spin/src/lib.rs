//! Loops for ever on the rows that say so, and sets `seen` on the others.
//!
//! Configured with `{"column": "name", "when": "spin"}`.

use sequin_plugin::{Error, Output, Row, Transform};
use trigger::Trigger;

/// Does its worst on the rows that say so.
#[derive(Debug)]
pub struct Spin;

impl Transform for Spin {
    type Config = Trigger;

    fn columns(config: &Trigger) -> Vec<String> {
        vec![config.column.clone()]
    }

    fn transform(config: &Trigger, row: &Row<'_>, out: &mut Output) -> Result<(), Error> {
        if config.hit(row)? {
            let mut turns = 0_u64;
            while std::hint::black_box(turns) < u64::MAX {
                turns = turns.wrapping_add(2);
            }
        }
        out.set_bool("seen", true);
        Ok(())
    }
}

sequin_plugin::export_transform!(Spin);
