//! `plugins`: what holds for all components.

use serde::Deserialize;

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plugins {
    pub(crate) signatures: Option<Signatures>,
    pub(crate) versions: Option<Vec<Version>>,
}

/// A version and where it comes from.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Version {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) digest: Option<String>,
    pub(crate) source: Option<Source>,
}

/// Where a component is. One of them should be there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    pub(crate) file: Option<String>,
    pub(crate) oci: Option<String>,
    pub(crate) oci_layout: Option<String>,
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
