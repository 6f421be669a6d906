//! The JSON schema of `sequin.yaml`, for editors. It is kept by hand, and by tests that hold it to
//! what is read: a key or a word that the readers know and it does not is a failure, as is one that
//! only it knows.
//!
//! It describes the text before environment variables are filled in, so that every number may also
//! be a text with a `$`. What two keys mean together is mostly left to `sequin config validate`.

#[cfg(test)]
mod tests;
#[cfg(test)]
mod trace;

#[cfg(test)]
pub(crate) use tests::check_destination;

/// The JSON schema of a configuration (draft 2020-12).
pub const SCHEMA: &str = include_str!("schema.json");
