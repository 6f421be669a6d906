//! `functions[]`, also called `transforms[]`.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::keys;
use crate::diagnostic::Report;
use crate::nearest::nearest;
use crate::tree::{self, Kind, Node};

const TYPES: [&str; 5] = ["filter", "transform", "routing", "enrichment", "path"];
const PORTING: &str = "port it to a WebAssembly component with the plugin SDK (sdk/rust, examples \
                       in plugins/), and name the built file: `file: my-function.wasm`";

pub(crate) struct Function {
    pub(crate) role: Role,
    pub(crate) file: String,
    pub(crate) config: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Filter,
    Transform,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "description")]
    _description: Option<String>,
    /// Taken out before, and here to be named among the keys that are known.
    #[serde(rename = "type")]
    _type: Option<IgnoredAny>,
    file: String,
    #[serde(rename = "config")]
    _config: Option<IgnoredAny>,
}

pub(crate) fn read(mut node: Node, report: &mut Report<'_>) -> Option<Function> {
    let leftovers = ["id", "inserted_at", "updated_at", "account_id"];
    keys::leftover(&mut node, &leftovers, report);
    unwrap(&mut node, report);
    let role = match role(&mut node, report) {
        // What the other types need besides is no second mistake.
        Err(NoRole::Foreign) => return None,
        other => other.ok(),
    };
    if let Some(code) = node.take("code") {
        report.error_with_help(code.place, "`code` in Elixir cannot be run here", PORTING);
        return None;
    }
    let config = keys::json_map(&mut node, "config", report);
    let fields: Fields = tree::read(&node, report)?;
    Some(Function { role: role?, file: fields.file, config })
}

/// Why a function has no role. It was told.
enum NoRole {
    /// It is for something else.
    Foreign,
    Unreadable,
}

fn role(node: &mut Node, report: &mut Report<'_>) -> Result<Role, NoRole> {
    let Some(entry) = node.take("type") else {
        report.error_with_help(node.place, "`type` is missing", "it is `filter` or `transform`");
        return Err(NoRole::Unreadable);
    };
    let place = entry.value.place;
    match entry.value.text() {
        Some("filter") => Ok(Role::Filter),
        // `function` is what the predecessor called it at first.
        Some("transform" | "function") => Ok(Role::Transform),
        Some(other) if TYPES.contains(&other) => {
            let message = format!("functions of type `{other}` are not supported yet");
            report.error_with_help(place, message, "remove it and every use of it");
            Err(NoRole::Foreign)
        }
        Some(other) => {
            let help = match nearest(other, TYPES) {
                Some(known) => format!("did you mean `{known}`?"),
                None => "it is `filter` or `transform`".to_owned(),
            };
            report.error_with_help(place, format_args!("`type` cannot be `{other}`"), help);
            Err(NoRole::Unreadable)
        }
        None => {
            let message = format!("`type` must be a text, not {}", entry.value.describe());
            report.error(place, message);
            Err(NoRole::Unreadable)
        }
    }
}

/// Moves what stands in the older nested form, `function: {…}` or `transform: {…}`, to the top.
fn unwrap(node: &mut Node, report: &mut Report<'_>) {
    let (function, transform) = (node.take("function"), node.take("transform"));
    if let (Some(_), Some(transform)) = (&function, &transform) {
        report.error(transform.place, "`function` and `transform` are the same: use one of them");
    }
    let Some(inner) = function.or(transform) else {
        return;
    };
    match (inner.value.kind, &mut node.kind) {
        (Kind::Map(inner), Kind::Map(outer)) => {
            for entry in inner {
                if outer.iter().any(|other| other.key == entry.key) {
                    report.error(entry.place, format_args!("`{}` is given twice", entry.key));
                } else {
                    outer.push(entry);
                }
            }
        }
        (other, _) => {
            let other = Node { place: inner.value.place, kind: other };
            let message = format!("`{}` must be a map, not {}", inner.key, other.describe());
            report.error(other.place, message);
        }
    }
}
