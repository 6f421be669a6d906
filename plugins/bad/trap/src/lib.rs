//! Panics on the rows that say so; the others get `seen`, how many rows this instance has seen.
//!
//! Configured with `{"column": "name", "when": "trap"}`.

use std::sync::atomic::{AtomicI64, Ordering};

trigger::hostile! {
    /// Does its worst on the rows that say so.
    pub struct Trap;
    transform(trigger, row, out) {
        let seen = SEEN.fetch_add(1, Ordering::Relaxed) + 1;
        if trigger.hit(row)? {
            refuse(seen);
        }
        out.set_int("seen", seen);
        Ok(())
    }
}

static SEEN: AtomicI64 = AtomicI64::new(0);

/// A function with a name, to be found in the stack.
#[inline(never)]
fn refuse(seen: i64) {
    panic!("refused row {seen} of this instance");
}
