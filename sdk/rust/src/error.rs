//! Why a row failed.

use std::fmt;

/// Why a row failed: a text for whoever reads the dead letter.
///
/// Made from any text, or from any error by `?`. Name the column, and leave the row's values out:
/// the text ends up in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(String);

impl Error {
    /// With this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The value of `column` is needed and was not sent. Such a row fails rather than being guessed
    /// at.
    #[must_use]
    pub fn unchanged(column: &str) -> Self {
        Self(format!(
            "the value of column {column} was not sent with this change (TOAST that the update did \
             not touch); give the table REPLICA IDENTITY FULL, or decide by another column"
        ))
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    pub(crate) fn into_text(self) -> String {
        self.0
    }
}

// As for `anyhow::Error`: not an error itself, so that any error converts to one.
impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
