//! Writes to the log without end on the rows that say so; one long line for each other row.
//!
//! Configured with `{"column": "name", "when": "flood"}`.

trigger::hostile! {
    /// Does its worst on the rows that say so.
    pub struct Flood;
    transform(trigger, row, out) {
        while trigger.hit(row)? {
            sequin_plugin::log!(Warn, "and another line");
        }
        sequin_plugin::log!(Info, "{}", "long ".repeat(10_000));
        out.set_bool("seen", true);
        Ok(())
    }
}
