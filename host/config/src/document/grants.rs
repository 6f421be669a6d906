//! `functions[].grants`: what a component may use beside its rows.

use serde::Deserialize;

/// As it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Grants {
    pub(crate) clock: Option<bool>,
    pub(crate) random: Option<bool>,
    pub(crate) kv: Option<bool>,
    pub(crate) secrets: Option<Vec<NamedSecret>>,
    pub(crate) http: Option<Http>,
    pub(crate) lookup: Option<Lookup>,
}

/// A secret under the name that the component knows it by.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamedSecret {
    pub(crate) name: String,
    /// `env:NAME` or `file:PATH`.
    pub(crate) from: String,
}

/// Requests.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Http {
    pub(crate) hosts: Vec<String>,
    pub(crate) allow_private: Option<bool>,
    pub(crate) timeout_ms: Option<u64>,
}

/// Rows of a database.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lookup {
    pub(crate) database: Option<String>,
    pub(crate) tables: Vec<String>,
}
