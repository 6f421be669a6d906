//! `http_endpoints[]`.

use options::endpoint::Options;

use super::keys;
use crate::diagnostic::Report;
use crate::tree::{self, Node};

pub(crate) fn read(mut node: Node, report: &mut Report<'_>) -> Option<Options> {
    keys::leftover(&mut node, &keys::EXPORTED, report);
    tree::read(&node, report)
}
