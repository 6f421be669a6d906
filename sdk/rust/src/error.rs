//! Why a row failed, and what is wrong with a configuration.

use std::fmt;

use crate::bindings::types::RowError;

/// Why a row failed: a text for whoever reads the dead letter.
///
/// Made from any text, or from any error by `?`. Leave the row's values out of it: the text ends up
/// in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    column: String,
    message: String,
    retry: bool,
}

impl Error {
    /// No single column is to blame.
    pub fn new(message: impl Into<String>) -> Self {
        Self { column: String::new(), message: message.into(), retry: false }
    }

    /// This column is to blame. The engine puts its name before the message.
    pub fn column(column: impl Into<String>, message: impl Into<String>) -> Self {
        Self { column: column.into(), message: message.into(), retry: false }
    }

    /// The value of `column` is needed and was not sent. Such a row fails rather than being guessed
    /// at.
    #[must_use]
    pub fn unchanged(column: &str) -> Self {
        Self::column(
            column,
            "its value was not sent with this change (TOAST that the update did not touch, or the \
             old row of a delete); give the table REPLICA IDENTITY FULL, let the sink fetch \
             unchanged values, or decide by another column",
        )
    }

    /// The same row may succeed later: what a capability said may be another thing then. Whether it is
    /// tried again its owner says (`on_error: retry`).
    #[must_use]
    pub fn retry(mut self) -> Self {
        self.retry = true;
        self
    }

    /// What is wrong, without the column.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The column that is to blame, if it is one.
    #[must_use]
    pub fn blamed(&self) -> Option<&str> {
        (!self.column.is_empty()).then_some(self.column.as_str())
    }

    pub(crate) fn of_row(self, row: usize) -> RowError {
        let Self { column, message, retry } = self;
        RowError { row: index(row), column, message, retry }
    }

    pub(crate) fn read(error: &RowError) -> Self {
        let RowError { column, message, retry, .. } = error;
        Self { column: column.clone(), message: message.clone(), retry: *retry }
    }
}

/// The index of a row as the contract has it. A batch that holds more does not fit into a guest.
pub(crate) fn index(row: usize) -> u32 {
    u32::try_from(row).unwrap_or(u32::MAX)
}

// As for `anyhow::Error`: not an error itself, so that any error converts to one.
impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        Self::new(error.to_string())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.blamed() {
            Some(column) => write!(f, "column {column}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where, as `flags[1].name`; empty if it is no single field.
    pub field: String,
    /// What is expected there.
    pub message: String,
}

impl ConfigError {
    /// This field is wrong.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, message } = self;
        if field.is_empty() { f.write_str(message) } else { write!(f, "{field}: {message}") }
    }
}
