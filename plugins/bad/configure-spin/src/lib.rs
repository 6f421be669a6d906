//! Never comes back from `configure`, whatever the configuration.

use sequin_plugin::prelude::*;

sequin_plugin::config! {
    /// Loops while it is being configured.
    pub struct ConfigureSpin {}
}

impl Plugin for ConfigureSpin {
    fn reads(&self) -> Reads {
        Reads::nothing()
    }

    fn check(&self) -> Vec<ConfigError> {
        let mut turns = 0_u64;
        while std::hint::black_box(turns) < u64::MAX {
            turns = turns.wrapping_add(2);
        }
        Vec::new()
    }
}

impl Filter for ConfigureSpin {
    fn filter(&self, _row: &Row<'_>) -> Result<Verdict, Error> {
        Ok(Verdict::Keep)
    }
}

sequin_plugin::export_filter!(ConfigureSpin);
