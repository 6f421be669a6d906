//! Panics on the rows that say so; the others get `seen`, how many rows this instance has seen.
//!
//! Configured with `{"column": "name", "when": "trap"}`.

use std::sync::atomic::{AtomicI64, Ordering};

use sequin_plugin::{Error, Output, Row, Transform};
use trigger::Trigger;

/// Does its worst on the rows that say so.
#[derive(Debug)]
pub struct Trap;

impl Transform for Trap {
    type Config = Trigger;

    fn columns(config: &Trigger) -> Vec<String> {
        vec![config.column.clone()]
    }

    fn transform(config: &Trigger, row: &Row<'_>, out: &mut Output) -> Result<(), Error> {
        let seen = SEEN.fetch_add(1, Ordering::Relaxed) + 1;
        if config.hit(row)? {
            refuse(seen);
        }
        out.set_int("seen", seen);
        Ok(())
    }
}

sequin_plugin::export_transform!(Trap);

static SEEN: AtomicI64 = AtomicI64::new(0);

/// A function with a name, to be found in the stack.
#[inline(never)]
fn refuse(seen: i64) {
    panic!("refused row {seen} of this instance");
}
