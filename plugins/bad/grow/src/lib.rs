//! Allocates without end on the rows that say so, and sets `seen` on the others.
//!
//! Configured with `{"column": "name", "when": "grow"}`.

trigger::hostile! {
    /// Does its worst on the rows that say so.
    pub struct Grow;
    transform(trigger, row, out) {
        let mut hoard = Vec::new();
        while trigger.hit(row)? {
            // Not written to: the limit on memory must come before the one on time.
            hoard.push(std::hint::black_box(Vec::<u8>::with_capacity(1 << 20)));
        }
        out.set_bool("seen", true);
        Ok(())
    }
}
