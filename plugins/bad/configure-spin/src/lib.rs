//! Never comes back from `configure`, whatever the configuration.

use sequin_plugin::{Error, Filter, Row, Verdict};

/// Loops while it is being configured.
#[derive(Debug)]
pub struct ConfigureSpin;

/// Any object.
#[derive(Debug, serde::Deserialize)]
pub struct Config {}

impl Filter for ConfigureSpin {
    type Config = Config;

    fn check(_config: &Config) -> Result<(), Error> {
        let mut turns = 0_u64;
        while std::hint::black_box(turns) < u64::MAX {
            turns = turns.wrapping_add(2);
        }
        Ok(())
    }

    fn columns(_config: &Config) -> Vec<String> {
        Vec::new()
    }

    fn filter(_config: &Config, _row: &Row<'_>) -> Result<Verdict, Error> {
        Ok(Verdict::Keep)
    }
}

sequin_plugin::export_filter!(ConfigureSpin);
