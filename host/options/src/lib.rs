//! The options of the sinks, as a user writes them in `sequin.yaml`, and what they must be like.
//!
//! One file per sink: the structs that a document is read into, and `validate`, which turns them
//! into a `Ready` that needs no further doubt or says everything that is wrong, field by field. No
//! clients and no I/O here, so that reading a configuration does not build behind them.

pub mod benchmark;
pub mod endpoint;
pub mod file;
pub mod redis;
pub mod redis_stream;
mod secret;
pub mod sequin_stream;
pub mod signing;
pub mod stdout;
pub mod typesense;
pub mod webhook;

pub use secret::{Address, Secret};

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {message}")]
pub struct Problem {
    /// The field as it is written in the document.
    pub field: &'static str,
    /// What is wrong with it, as the rest of a sentence that begins with the field. Without secrets.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Problem {
    pub(crate) fn new(field: &'static str, message: impl Into<String>) -> Self {
        Self { field, message: message.into(), help: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Everything that was found wrong, so that a user does not mend one thing after another.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    pub(crate) fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Keeps the problem and leaves a gap, or hands over the value.
    pub(crate) fn keep<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.0.push(problem)).ok()
    }

    /// The value, if nothing was wrong.
    pub(crate) fn or<T>(self, value: Option<T>) -> Result<T, Vec<Problem>> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self.0),
        }
    }
}
