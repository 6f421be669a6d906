//! Calls itself without end on the rows that say so, and sets `seen` on the others.
//!
//! Configured with `{"column": "name", "when": "stack"}`.

trigger::hostile! {
    /// Does its worst on the rows that say so.
    pub struct Stack;
    transform(trigger, row, out) {
        if trigger.hit(row)? {
            out.set_int("depth", deeper(0));
        }
        out.set_bool("seen", true);
        Ok(())
    }
}

/// Not a loop even to an optimiser: the result of the inner call is needed afterwards.
#[expect(unconditional_recursion, reason = "what this is for")]
fn deeper(depth: i64) -> i64 {
    std::hint::black_box(deeper(std::hint::black_box(depth + 1))) ^ depth
}
