//! `plugins`: what holds for all components.

use serde::Deserialize;

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plugins {
    pub(crate) signatures: Option<Signatures>,
}

/// Whose signatures are asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Signatures {
    pub(crate) keys: Vec<Key>,
    pub(crate) require: Vec<Rule>,
}

/// A public key under a name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) public_key: String,
}

/// Who must have signed plugins of a name. One of the lists should be there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    pub(crate) plugin: String,
    pub(crate) any_of: Option<Vec<String>>,
    pub(crate) all_of: Option<Vec<String>>,
}
