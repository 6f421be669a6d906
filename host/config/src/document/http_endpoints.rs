//! `http_endpoints[]`.

use options::endpoint::Options;

use super::keys;
use crate::diagnostic::Report;
use crate::tree::{self, Node};

pub(crate) fn read(mut node: Node, report: &mut Report<'_>) -> Option<Options> {
    let leftovers = ["id", "inserted_at", "updated_at", "account_id"];
    keys::leftover(&mut node, &leftovers, report);
    tree::read(&node, report)
}
