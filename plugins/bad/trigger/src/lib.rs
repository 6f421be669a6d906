//! When a hostile plugin does its worst.

use sequin_plugin::{Error, Row, Value};

/// The configuration of hostile plugins: `{"column": "name", "when": "spin"}`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    /// The text column that decides.
    pub column: String,
    /// The value that sets it off.
    pub when: String,
}

impl Trigger {
    /// Whether this is such a row.
    ///
    /// # Errors
    /// If there is no such column.
    pub fn hit(&self, row: &Row<'_>) -> Result<bool, Error> {
        Ok(row.text(&self.column)? == Value::Known(self.when.as_str()))
    }
}
