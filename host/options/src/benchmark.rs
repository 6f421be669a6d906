//! `destination: {type: benchmark}`: messages are dropped, for measuring everything before them.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::Problem;

/// Nothing, as a user writes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The predecessor's, whose partitions were for its own check sums.
    #[serde(rename = "partition_count")]
    _partition_count: Option<IgnoredAny>,
}

/// Nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready;

impl Options {
    /// # Errors
    /// None: there is nothing that could be wrong.
    pub fn validate(&self) -> Result<Ready, Vec<Problem>> {
        Ok(Ready)
    }
}
