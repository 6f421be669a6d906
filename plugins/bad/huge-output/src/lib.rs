//! Sets a text of 24 MiB in each row that says so, and `seen` in the others.
//!
//! Configured with `{"column": "name", "when": "huge"}`. It fits into the memory that a guest has by
//! default, so it is the host that has to say no when it takes the answer over.

/// More than a row of Postgres is likely to have, and half of what a guest may use.
const BYTES: usize = 24 << 20;

trigger::hostile! {
    /// Does its worst on the rows that say so.
    pub struct HugeOutput;
    transform(trigger, row, out) {
        if trigger.hit(row)? {
            out.set_text("huge", "x".repeat(BYTES));
        }
        out.set_bool("seen", true);
        Ok(())
    }
}
