//! Calls itself without end on the rows that say so, and sets `seen` on the others.
//!
//! Configured with `{"column": "name", "when": "stack"}`.

use sequin_plugin::{Error, Output, Row, Transform};
use trigger::Trigger;

/// Does its worst on the rows that say so.
#[derive(Debug)]
pub struct Stack;

impl Transform for Stack {
    type Config = Trigger;

    fn columns(config: &Trigger) -> Vec<String> {
        vec![config.column.clone()]
    }

    fn transform(config: &Trigger, row: &Row<'_>, out: &mut Output) -> Result<(), Error> {
        if config.hit(row)? {
            out.set_int("depth", deeper(0));
        }
        out.set_bool("seen", true);
        Ok(())
    }
}

sequin_plugin::export_transform!(Stack);

/// Not a loop even to an optimiser: the result of the inner call is needed afterwards.
#[expect(unconditional_recursion, reason = "what this is for")]
fn deeper(depth: i64) -> i64 {
    std::hint::black_box(deeper(std::hint::black_box(depth + 1))) ^ depth
}
