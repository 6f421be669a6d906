//! Loops for ever on the rows that say so, and sets `seen` on the others.
//!
//! Configured with `{"column": "name", "when": "spin"}`.

trigger::hostile! {
    /// Does its worst on the rows that say so.
    pub struct Spin;
    transform(trigger, row, out) {
        if trigger.hit(row)? {
            let mut turns = 0_u64;
            while std::hint::black_box(turns) < u64::MAX {
                turns = turns.wrapping_add(2);
            }
        }
        out.set_bool("seen", true);
        Ok(())
    }
}
