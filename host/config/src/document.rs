//! What the user wrote, 1:1: the resources with their keys, before names are resolved and defaults
//! applied. One file per resource.

pub(crate) mod change_retentions;
pub(crate) mod databases;
pub(crate) mod functions;
pub(crate) mod grants;
mod http_endpoints;
pub(crate) mod keys;
pub(crate) mod plugins;
pub(crate) mod sinks;
pub(crate) mod tokens;

use crate::diagnostic::{Place, Report};
use crate::moved;
use crate::nearest::nearest;
use crate::tree::{self, Entry, Kind, Node};

pub(crate) use databases::{Database, Publication, Server};
pub(crate) use functions::{Enrichment, Function, Limits, OnError, Plugin, Role};
pub(crate) use sinks::{
    Action, Chain, GroupScope, InitialBackfill, InitialKind, InitialTable, LoadShedding, Sink,
    Status, Table, TableFields, TimestampFormat, UnchangedValues,
};

/// The keys at the top.
pub(crate) const KEYS: [&str; 10] = [
    "account",
    "users",
    "api_tokens",
    "databases",
    "change_retentions",
    "http_endpoints",
    "functions",
    "sinks",
    "plugins",
    moved::KEY,
];

pub(crate) struct Document {
    pub(crate) databases: Resources<Database>,
    pub(crate) change_retentions: Resources<change_retentions::ChangeRetention>,
    pub(crate) functions: Resources<Function>,
    pub(crate) api_tokens: Resources<tokens::ApiToken>,
    pub(crate) http_endpoints: Resources<options::endpoint::Options>,
    pub(crate) sinks: Resources<Sink>,
    pub(crate) plugins: Option<PlacedPlugins>,
}

/// What holds for all components, and where it is written.
pub(crate) struct PlacedPlugins {
    pub(crate) value: plugins::Plugins,
    pub(crate) place: Place,
    /// Where each of its versions is written.
    pub(crate) versions: Vec<Place>,
}

/// The resources of one kind.
pub(crate) struct Resources<T> {
    /// Those that could be read.
    pub(crate) list: Vec<Resource<T>>,
    /// Of all, so that a name which could not be read for another reason is not called unknown.
    pub(crate) names: Vec<String>,
}

/// A resource and where it is written.
pub(crate) struct Resource<T> {
    pub(crate) name: String,
    pub(crate) value: T,
    node: Node,
}

impl<T> Resource<T> {
    /// Where the value of a key stands, or the nearest thing around it.
    pub(crate) fn place(&self, path: &[&str]) -> Place {
        self.node.place_of(path)
    }
}

impl<T> Resources<T> {
    /// Whether the name is that of a resource, or may be: some resource's name cannot be read.
    pub(crate) fn may_know(&self, name: &str) -> bool {
        self.names.iter().any(|other| other == name || other.is_empty())
    }
}

/// Reads the document. What cannot be read is told and left out.
pub(crate) fn read(mut root: Node, text: &str, report: &mut Report<'_>) -> Document {
    if let Kind::Null = root.kind {
        let help = "an engine that is to have no sinks has `sinks: []`";
        report.warning(root.place, "the document is empty", help);
        root.kind = Kind::Map(Vec::new());
    }
    if !matches!(root.kind, Kind::Map(_)) {
        let message = format!("the document must be a map, not {}", root.describe());
        report.error(root.place, message);
    }
    // Only what is wrong with it counts here: who makes a change of it asks for it.
    moved::take(&mut root, report);
    let aliases = (root.take("functions"), root.take("transforms"));
    let functions = match aliases {
        (Some(_), Some(transforms)) => {
            let message = "`functions` and `transforms` are the same: use one of them";
            report.error(transforms.place, message);
            None
        }
        (functions, transforms) => functions.or(transforms).map(|entry| entry.value),
    };
    let mut take = |key| root.take(key).map(|entry| entry.value);
    let lists = (take("databases"), take("http_endpoints"), take("sinks"), take("api_tokens"));
    let retentions = take("change_retentions");
    let plugins =
        take("plugins").filter(|node| !matches!(node.kind, Kind::Null)).and_then(|node| {
            let value = tree::read(&node, report)?;
            let items = node.get("versions").into_iter().flat_map(|list| match &list.kind {
                Kind::List(items) => items.as_slice(),
                _ => &[],
            });
            let versions = items.map(|item| item.place).collect();
            Some(PlacedPlugins { value, place: node.place, versions })
        });
    let document = Document {
        functions: resources("function", functions, report, functions::read),
        databases: resources("database", lists.0, report, databases::read),
        change_retentions: resources(
            "change retention",
            retentions,
            report,
            change_retentions::read,
        ),
        api_tokens: resources("api token", lists.3, report, tokens::read),
        http_endpoints: resources("http endpoint", lists.1, report, http_endpoints::read),
        sinks: resources("sink", lists.2, report, sinks::read),
        plugins,
    };
    rest(&root, text, report);
    document
}

/// The keys at the top that hold no resources.
fn rest(root: &Node, text: &str, report: &mut Report<'_>) {
    let entries = root.entries();
    for (index, entry) in entries.iter().enumerate() {
        let (key, place) = (entry.key.as_str(), entry.place);
        let guess = nearest(key, KEYS.into_iter().chain(["transforms"]));
        match (key, guess) {
            _ if key.starts_with("x-") => {}
            ("account", _) => report.warning(
                place,
                "`account` is ignored: there are no accounts",
                "remove it when nothing else reads this file",
            ),
            ("users", _) => report.warning(
                place,
                "`users` is ignored: there is no console to sign in to yet",
                "remove it when nothing else reads this file",
            ),
            (_, Some(known)) => {
                report.error_with_help(
                    place,
                    format_args!("unknown key `{key}`"),
                    format!("did you mean `{known}`?"),
                );
            }
            // The predecessor ignored unknown keys here, and people keep their anchors in them.
            (_, None) if holds_anchor(text, place, line_after(root, index)) => {}
            (_, None) => {
                let known = KEYS.join("`, `");
                let help =
                    format!("the keys known here are `{known}`; your own ones begin with `x-`");
                report.error_with_help(place, format_args!("unknown key `{key}`"), help);
            }
        }
    }
}

/// Takes out what is at the top for its anchors only: once they are resolved it has no use.
pub(crate) fn drop_anchor_holders(root: &mut Node, text: &str) {
    let holds = |(index, entry): (usize, &Entry)| {
        let key = entry.key.as_str();
        let known = KEYS.contains(&key) || key == "transforms" || key.starts_with("x-");
        !known && holds_anchor(text, entry.place, line_after(root, index))
    };
    let holders: Vec<bool> = root.entries().iter().enumerate().map(holds).collect();
    if let Kind::Map(entries) = &mut root.kind {
        let mut holders = holders.into_iter();
        entries.retain(|_| holders.next() != Some(true));
    }
}

/// Where the block of the entry ends: at the next entry of the text. Resources were taken out of
/// the map, so that this may be too late; then an anchor of theirs counts, which does no harm.
fn line_after(root: &Node, index: usize) -> usize {
    let line = root.entries().get(index).map_or(0, |entry| entry.place.line);
    let lines = root.entries().iter().map(|entry| entry.place.line);
    lines.filter(|other| *other > line).min().unwrap_or(usize::MAX)
}

/// Whether an anchor (`&name`) is set between the key and the line.
fn holds_anchor(text: &str, key: Place, end: usize) -> bool {
    let lines = text.lines().take(end.saturating_sub(1)).skip(key.line.saturating_sub(1));
    let block = lines.enumerate().take_while(|(index, line)| {
        *index == 0 || line.starts_with([' ', '#', '-', '\t']) || line.is_empty()
    });
    block.map(|(_, line)| line.split(" #").next().unwrap_or(line)).any(|line| {
        line.split([' ', '[', '{', ',']).any(|word| {
            word.strip_prefix('&').is_some_and(|name| !name.is_empty() && !name.starts_with('&'))
        })
    })
}

/// Reads a list of named resources.
fn resources<T>(
    kind: &'static str,
    list: Option<Node>,
    report: &mut Report<'_>,
    read: fn(Node, &mut Report<'_>) -> Option<T>,
) -> Resources<T> {
    let mut resources = Resources { list: Vec::new(), names: Vec::new() };
    let items = match list {
        None | Some(Node { kind: Kind::Null, .. }) => Vec::new(),
        Some(Node { kind: Kind::List(items), .. }) => items,
        Some(other) => {
            let message = format!("the {kind}s must be a list, not {}", other.describe());
            report.error(other.place, message);
            Vec::new()
        }
    };
    let mut places: Vec<Place> = Vec::new();
    for (index, node) in items.into_iter().enumerate() {
        let name = node.get("name").and_then(Node::text).unwrap_or_default().to_owned();
        report.enter(match name.as_str() {
            "" => format!("{kind} {}", index + 1),
            name => format!("{kind} `{name}`"),
        });
        let place = node.place_of(&["name"]);
        if !matches!(node.kind, Kind::Map(_)) {
            report.error(node.place, format_args!("must be a map, not {}", node.describe()));
            continue;
        }
        if node.get("name").is_some_and(|name| name.text().is_some()) {
            check_name(kind, &name, place, report);
        }
        let first = resources.names.iter().position(|other| *other == name);
        if let Some(first) = first.filter(|_| !name.is_empty()) {
            let line = places.get(first).map_or(0, |place| place.line);
            let help = format!("the first is in line {line}");
            report.error_with_help(place, "the name is used twice", help);
        }
        resources.names.push(name.clone());
        places.push(place);
        let value = read(node.clone(), report);
        // What is wrong elsewhere in a resource does not keep the rest of it from being checked.
        if let Some(value) = value.filter(|_| node.is_whole()) {
            resources.list.push(Resource { name, value, node });
        }
    }
    report.leave();
    resources
}

fn check_name(kind: &str, name: &str, place: Place, report: &mut Report<'_>) {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if name.is_empty() || !name.bytes().all(allowed) {
        report.error_with_help(
            place,
            format_args!("{name:?} is no name"),
            "a name has letters, digits, `_`, `-` and `.` only",
        );
    }
    if kind == "function" && matches!(name, "none" | "null" | "nil") {
        report.error(place, format_args!("`{name}` means that there is no function"));
    }
}
