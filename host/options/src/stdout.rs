//! `destination: {type: stdout}`: messages are printed, one a line.

use serde::Deserialize;

use crate::Problem;

/// Standard output as a user writes it: there is nothing to say about it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {}

/// Standard output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready;

impl Options {
    /// # Errors
    /// None: there is nothing that could be wrong.
    pub fn validate(&self) -> Result<Ready, Vec<Problem>> {
        Ok(Ready)
    }
}
