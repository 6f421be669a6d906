//! Keys that the predecessor knew, and this engine does not read: told, never passed over.

use crate::diagnostic::Report;
use crate::tree::{Kind, Node};

/// What its exports put beside the settings of every resource.
pub(crate) const EXPORTED: [&str; 4] = ["id", "inserted_at", "updated_at", "account_id"];

/// Keys that its exports and its past left in files. They mean nothing.
pub(crate) fn leftover(node: &mut Node, keys: &[&str], report: &mut Report<'_>) {
    for key in keys {
        if let Some(entry) = node.take(key) {
            let message = format!("`{key}` means nothing and is ignored");
            report.warning(entry.place, message, "remove it");
        }
    }
}

/// Settings that are not needed here. Leaving them out changes nothing that can be seen.
pub(crate) fn needless(node: &mut Node, keys: &[(&str, &str)], report: &mut Report<'_>) {
    for (key, why) in keys {
        if let Some(entry) = node.take(key) {
            let message = format!("`{key}` is ignored: {why}");
            report.warning(entry.place, message, "remove it when nothing else reads this file");
        }
    }
}

/// A key, and whether a value of it only spells out the default.
pub(crate) type NotYet = (&'static str, fn(&Node) -> bool);

/// Settings that would change what happens, and cannot yet. Harmless if they only spell out the
/// default.
pub(crate) fn not_yet(node: &mut Node, keys: &[NotYet], report: &mut Report<'_>) {
    for (key, is_default) in keys {
        let Some(entry) = node.take(key) else {
            continue;
        };
        if !matches!(entry.value.kind, Kind::Null) && !is_default(&entry.value) {
            report.error_with_help(
                entry.place,
                format_args!("`{key}` is not supported yet"),
                "remove it, or keep what needs it in the predecessor for now",
            );
        }
    }
}

/// `false`, also as a text.
pub(crate) fn is_false(node: &Node) -> bool {
    matches!(node.kind, Kind::Bool(false)) || node.text() == Some("false")
}

/// Takes a map that is handed on as JSON.
pub(crate) fn json_map(node: &mut Node, key: &str, report: &mut Report<'_>) -> String {
    match node.take(key).map(|entry| entry.value) {
        Some(value) if matches!(value.kind, Kind::Map(_)) => crate::tree::json(&value),
        Some(other) if !matches!(other.kind, Kind::Null | Kind::Anything) => {
            report.error(
                other.place,
                format_args!("`{key}` must be a map, not {}", other.describe()),
            );
            "{}".to_owned()
        }
        _ => "{}".to_owned(),
    }
}
