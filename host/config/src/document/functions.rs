//! `functions[]`, also called `transforms[]`.

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::grants::Grants;
use super::keys;
use crate::diagnostic::Report;
use crate::nearest::nearest;
use crate::tree::{self, Kind, Node};

/// As users write them.
pub(crate) const TYPES: [&str; 5] = ["filter", "transform", "routing", "enrichment", "path"];
const PORTING: &str = "port it to a WebAssembly component with the plugin SDK (sdk/rust, examples \
                       in plugins/), and name the built file: `file: my-function.wasm`";

/// A function as it is written.
pub(crate) enum Function {
    Plugin(Plugin),
    Path(String),
    Enrichment(Enrichment),
}

/// A component with its configuration. One of `file` and `plugin` should be there.
pub(crate) struct Plugin {
    pub(crate) role: Role,
    pub(crate) file: Option<String>,
    pub(crate) plugin: Option<String>,
    /// A JSON object.
    pub(crate) config: String,
    pub(crate) sink_type: Option<String>,
    pub(crate) on_error: Option<OnError>,
    pub(crate) grants: Option<Grants>,
    pub(crate) limits: Option<Limits>,
}

/// What a component may use.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    pub(crate) memory_mb: Option<u64>,
    pub(crate) batch_cpu_ms: Option<u64>,
    pub(crate) row_cpu_ms: Option<u64>,
}

/// What becomes of rows that a component fails on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnError {
    Retry,
    DeadLetter,
    Pass,
    Stop,
}

/// What a component is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Filter,
    Route,
    Transform,
}

/// SQL. One of both should be there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Enrichment {
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "description")]
    _description: Option<String>,
    /// Taken out before, and here to be named among the keys that are known.
    #[serde(rename = "type")]
    _type: Option<IgnoredAny>,
    pub(crate) code: Option<String>,
    pub(crate) file: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PathFields {
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "description")]
    _description: Option<String>,
    #[serde(rename = "type")]
    _type: Option<IgnoredAny>,
    path: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PluginFields {
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "description")]
    _description: Option<String>,
    #[serde(rename = "type")]
    _type: Option<IgnoredAny>,
    file: Option<String>,
    plugin: Option<String>,
    /// Taken out before, like the type.
    #[serde(rename = "config")]
    _config: Option<IgnoredAny>,
    sink_type: Option<String>,
    on_error: Option<OnError>,
    grants: Option<Grants>,
    limits: Option<Limits>,
}

impl Function {
    /// As a user calls it, with its article.
    pub(crate) fn describe(&self) -> &'static str {
        match self {
            Self::Plugin(Plugin { role: Role::Filter, .. }) => "a filter",
            Self::Plugin(Plugin { role: Role::Route, .. }) => "a routing function",
            Self::Plugin(Plugin { role: Role::Transform, .. }) => "a transform",
            Self::Path(_) => "a path",
            Self::Enrichment(_) => "an enrichment",
        }
    }
}

/// The types and what they are read as.
enum Type {
    Plugin(Role),
    Path,
    Enrichment,
}

pub(crate) fn read(mut node: Node, report: &mut Report<'_>) -> Option<Function> {
    keys::leftover(&mut node, &keys::EXPORTED, report);
    unwrap(&mut node, report);
    match function_type(&mut node, report) {
        Some(Type::Enrichment) => fields(&node, report).map(Function::Enrichment),
        Some(Type::Path) => {
            fields(&node, report).map(|PathFields { path, .. }| Function::Path(path))
        }
        Some(Type::Plugin(role)) => plugin(node, Some(role), report).map(Function::Plugin),
        None => {
            // What can be said of the rest is said as for most: of a plugin.
            plugin(node, None, report);
            None
        }
    }
}

fn fields<T: DeserializeOwned>(node: &Node, report: &mut Report<'_>) -> Option<T> {
    tree::read(node, report)
}

fn plugin(mut node: Node, role: Option<Role>, report: &mut Report<'_>) -> Option<Plugin> {
    if let Some(code) = node.take("code") {
        report.error_with_help(code.place, "`code` in Elixir cannot be run here", PORTING);
        return None;
    }
    let config = keys::json_map(&mut node, "config", report);
    let PluginFields { file, plugin, sink_type, on_error, grants, limits, .. } =
        fields(&node, report)?;
    Some(Plugin { role: role?, file, plugin, config, sink_type, on_error, grants, limits })
}

fn function_type(node: &mut Node, report: &mut Report<'_>) -> Option<Type> {
    let one_of = || format!("it is one of `{}`", TYPES.join("`, `"));
    let Some(entry) = node.take("type") else {
        report.error_with_help(node.place, "`type` is missing", one_of());
        return None;
    };
    let place = entry.value.place;
    match entry.value.text() {
        Some("filter") => Some(Type::Plugin(Role::Filter)),
        // `function` is what the predecessor called it at first.
        Some("transform" | "function") => Some(Type::Plugin(Role::Transform)),
        Some("routing") => Some(Type::Plugin(Role::Route)),
        Some("path") => Some(Type::Path),
        Some("enrichment") => Some(Type::Enrichment),
        Some(other) => {
            let help = match nearest(other, TYPES) {
                Some(known) => format!("did you mean `{known}`?"),
                None => one_of(),
            };
            report.error_with_help(place, format_args!("`type` cannot be `{other}`"), help);
            None
        }
        None => {
            let message = format!("`type` must be a text, not {}", entry.value.describe());
            report.error(place, message);
            None
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
