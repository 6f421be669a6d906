//! `api_tokens[]`.

use options::Secret;
use serde::Deserialize;

use super::keys;
use crate::diagnostic::Report;
use crate::tree::{self, Node};

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApiToken {
    #[serde(rename = "name")]
    _name: String,
    pub(crate) token: Option<Secret>,
    pub(crate) scopes: Option<Vec<String>>,
    pub(crate) resources: Option<Vec<String>>,
}

pub(crate) fn read(mut node: Node, report: &mut Report<'_>) -> Option<ApiToken> {
    keys::leftover(&mut node, &keys::EXPORTED, report);
    tree::read(&node, report)
}
