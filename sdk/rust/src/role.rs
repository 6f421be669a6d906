//! The roles that a plugin can have.

use serde::de::DeserializeOwned;

use crate::bindings::types::{self, Batch, Reply};
use crate::{Error, Output, Row};

/// Decides which rows belong to the set. Export it with [`export_filter!`](crate::export_filter!).
pub trait Filter {
    /// What the plugin's `config` is read into. With `#[serde(deny_unknown_fields)]` a misspelt
    /// field is an error that names it.
    type Config: DeserializeOwned + Send + Sync + 'static;

    /// What is wrong with a configuration beyond the types of its fields. Name the field.
    ///
    /// # Errors
    /// What is wrong.
    fn check(_config: &Self::Config) -> Result<(), Error> {
        Ok(())
    }

    /// The columns that the filter reads; others are not handed to it.
    fn columns(config: &Self::Config) -> Vec<String>;

    /// The columns that it reads of the row before an update, with [`Row::old`].
    fn old_columns(_config: &Self::Config) -> Vec<String> {
        Vec::new()
    }

    /// Judges one row. Deletes never come here: they pass.
    ///
    /// # Errors
    /// Why the row cannot be judged. It then fails alone.
    fn filter(config: &Self::Config, row: &Row<'_>) -> Result<Verdict, Error>;
}

/// Changes what is sent for a row. Export it with
/// [`export_transform!`](crate::export_transform!).
pub trait Transform {
    /// As in [`Filter::Config`].
    type Config: DeserializeOwned + Send + Sync + 'static;

    /// As in [`Filter::check`].
    ///
    /// # Errors
    /// What is wrong.
    fn check(_config: &Self::Config) -> Result<(), Error> {
        Ok(())
    }

    /// The columns that the transform reads; others are not handed to it.
    fn columns(config: &Self::Config) -> Vec<String>;

    /// The columns that it reads of the row before an update, with [`Row::old`].
    fn old_columns(_config: &Self::Config) -> Vec<String> {
        Vec::new()
    }

    /// Changes one row. Deletes do come here.
    ///
    /// # Errors
    /// Why the row cannot be changed. It then fails alone.
    fn transform(config: &Self::Config, row: &Row<'_>, out: &mut Output) -> Result<(), Error>;
}

/// What a filter says of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It belongs to the set.
    Keep,
    /// It is of no interest: nothing is sent, and nothing at the destination changes.
    Drop,
    /// It is outside the set: a destination that holds state removes its document.
    Evict,
}

/// Reads a configuration; an error names the field.
pub(crate) fn parse<C: DeserializeOwned>(config: &str) -> Result<C, String> {
    let mut json = serde_json::Deserializer::from_str(config);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let text = error.into_inner().to_string();
        if path == "." { text } else { format!("{path}: {text}") }
    })?;
    json.end().map_err(|error| error.to_string())?;
    Ok(parsed)
}

/// Judges all rows of a batch.
pub(crate) fn filter<T: Filter>(config: &T::Config, batch: &Batch) -> Reply {
    let rows = batch.actions.len();
    let mut reply = Reply {
        verdicts: Vec::with_capacity(rows),
        columns: Vec::new(),
        documents: Vec::new(),
        errors: Vec::new(),
    };
    for row in 0..rows {
        reply.verdicts.push(match T::filter(config, &Row::new(batch, row)) {
            Ok(Verdict::Keep) => types::Verdict::Keep,
            Ok(Verdict::Drop) => types::Verdict::Drop,
            Ok(Verdict::Evict) => types::Verdict::Evict,
            Err(error) => {
                reply.errors.push((row as u32, error.into_text()));
                types::Verdict::Error
            }
        });
    }
    reply
}

/// Changes all rows of a batch.
pub(crate) fn transform<T: Transform>(config: &T::Config, batch: &Batch) -> Reply {
    let rows = batch.actions.len();
    let mut out = Output::new(rows);
    for row in 0..rows {
        out.begin_row(row);
        if let Err(error) = T::transform(config, &Row::new(batch, row), &mut out) {
            out.fail(error);
        }
    }
    out.finish()
}
