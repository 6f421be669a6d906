//! A configuration that means the same wherever it is read: what it names beside itself is in it or
//! named by digest. What is sent to an engine, kept by it, compared and exported.
//!
//! SQL of a `file` is its `code`, a component of a `file` or of another source is named by its digest, anchors and keys of
//! the user's own are gone, and the resources stand in one order. A resource is its kind and its name.

mod compare;
mod renamed;
mod secret;

use std::io;
use std::path::Path;

use crate::diagnostic::{Diagnostic, Place, Report};
use crate::document;
use crate::env;
use crate::moved::{self, Moved};
use crate::spec::{VersionSource, layout};
use crate::tree::{self, Entry, Kind, Node};

pub use compare::{Action, Difference, Field};

/// The keys at the top that hold lists of resources, with what each is called, in the order that they
/// are written in.
const LISTS: [(&str, &str); 7] = [
    ("users", "user"),
    ("api_tokens", "api_token"),
    ("databases", "database"),
    ("change_retentions", "change_retention"),
    ("http_endpoints", "http_endpoint"),
    ("functions", "function"),
    ("sinks", "sink"),
];

/// The keys at the top that are one resource each.
const SINGLE: [&str; 2] = ["account", "plugins"];

/// The key below `plugins` that holds resources of their own, called by name and version, and what one
/// is called.
const VERSIONS: (&str, &str) = ("versions", "plugin");

/// What a text is made portable in.
pub struct Around<'a> {
    /// Looks up an environment variable; None: variables stay as they are written.
    pub env: Option<env::Env<'a>>,
    /// Relative paths in the text are resolved against it.
    pub base_dir: &'a Path,
    /// Reads a file of SQL.
    pub read_file: &'a dyn Fn(&Path) -> io::Result<String>,
    /// The digest of the component that the function of this name names by its file.
    pub component: &'a dyn Fn(&str, &Path) -> io::Result<String>,
    /// The digest of a version of a plugin that comes from somewhere.
    pub version: &'a dyn Fn(&Declared<'_>) -> io::Result<String>,
}

/// A version of a plugin that comes from somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// What it must be.
    pub digest: Option<&'a str>,
    /// Where it is.
    pub source: VersionSource,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Portable {
    /// Its resources, by their kind, name and what they say.
    resources: Vec<Resource>,
    /// What of them is renamed, as it is written: no resource, and nothing that is laid over another.
    moved: Vec<Moved>,
    /// Whether a dollar sign in it is one.
    is_filled_in: bool,
}

#[derive(Clone, Debug)]
struct Resource {
    kind: &'static str,
    /// Empty where there is one only.
    name: String,
    node: Node,
}

/// A resource, by what it is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// As in the predecessor's API: `sink`, `database`, …
    pub kind: String,
    /// Empty where there is one only.
    pub name: String,
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, name } = self;
        if name.is_empty() { kind.fmt(f) } else { write!(f, "{kind} `{name}`") }
    }
}

impl Id {
    /// The resource of this name.
    #[must_use]
    pub fn new(kind: &str, name: &str) -> Self {
        Self { kind: kind.to_owned(), name: name.to_owned() }
    }

    /// The name of the sink that it runs as, if it is a sink or a change retention.
    #[must_use]
    pub fn sink(&self) -> String {
        let prefix = if self.kind == "change_retention" { crate::spec::RETENTION } else { "" };
        format!("{prefix}{}", self.name)
    }

    /// A UUID made from what it is called: the same as long as that is.
    #[must_use]
    pub fn uuid(&self) -> String {
        crate::spec::id(&self.kind, &self.name)
    }
}

/// What stands in place of a secret that is not shown.
pub use secret::HIDDEN;

impl Portable {
    /// Makes a text portable. What is wrong with its resources is not looked for.
    ///
    /// # Errors
    /// It is no YAML, a variable is missing, a file cannot be read, or a resource has no name.
    pub fn read(file_name: &str, text: &str, around: &Around<'_>) -> Result<Self, Vec<Diagnostic>> {
        let mut report = Report::new(file_name, text);
        let read = tree::parse(text, &mut report).map(|mut root| {
            if let Some(env) = around.env {
                env::fill_in(&mut root, env, &mut report);
            }
            document::drop_anchor_holders(&mut root, text);
            let moved = moved::take(&mut root, &mut report);
            (resources(root, around, &mut report), moved)
        });
        let (diagnostics, failed) = report.finish();
        match read {
            Some((resources, moved)) if !failed => {
                Ok(Self { resources, moved, is_filled_in: around.env.is_some() })
            }
            _ => Err(diagnostics),
        }
    }

    /// A text in which a dollar sign is one, as an engine is sent it.
    #[must_use]
    pub fn filled_in(self) -> Self {
        Self { is_filled_in: true, ..self }
    }

    /// As `sequin.yaml`: read as a file, it means this in any environment.
    #[must_use]
    pub fn text(&self) -> String {
        let mut root = self.root();
        if self.is_filled_in {
            env::escape(&mut root);
        }
        tree::yaml(&root)
    }

    /// As an engine is sent it: with nothing to be filled in.
    #[must_use]
    pub fn text_to_send(&self) -> String {
        tree::yaml(&self.root())
    }

    /// As `sequin.yaml`, with a variable of the environment in place of each secret.
    #[must_use]
    pub fn text_without_secrets(&self) -> String {
        let mut shown = self.clone();
        if self.is_filled_in {
            shown.resources.iter_mut().for_each(|it| env::escape(&mut it.node));
        }
        for Resource { kind, name, node } in &mut shown.resources {
            secret::refer(&[*kind, name.as_str()], node);
        }
        tree::yaml(&shown.root())
    }

    fn root(&self) -> Node {
        let mut entries = Vec::new();
        if !self.moved.is_empty() {
            entries.push(entry(moved::KEY, moved::node(&self.moved)));
        }
        let of_kind = |kind: &str| -> Vec<Node> {
            let of_kind = self.resources.iter().filter(|it| it.kind == kind);
            of_kind.map(|it| it.node.clone()).collect()
        };
        for key in SINGLE {
            let mut found = of_kind(key).pop();
            if key == "plugins" {
                let versions = of_kind(VERSIONS.1);
                if !versions.is_empty() {
                    let plugins = found.get_or_insert_with(|| node(Kind::Map(Vec::new())));
                    if let Kind::Map(entries) = &mut plugins.kind {
                        entries.push(entry(VERSIONS.0, node(Kind::List(versions))));
                    }
                }
            }
            entries.extend(found.map(|found| entry(key, found)));
        }
        for (key, kind) in LISTS {
            let items = of_kind(kind);
            if !items.is_empty() {
                entries.push(entry(key, node(Kind::List(items))));
            }
        }
        node(Kind::Map(entries))
    }

    /// What is renamed, each with the name that it has by now.
    #[must_use]
    pub fn moved(&self) -> Vec<Moved> {
        moved::ends(&self.moved)
    }

    /// What runs: that something had another name once is said by files alone.
    #[must_use]
    pub fn as_it_runs(self) -> Self {
        Self { moved: Vec::new(), ..self }
    }

    /// What there is.
    pub fn ids(&self) -> impl Iterator<Item = Id> {
        self.resources.iter().map(Resource::id)
    }

    /// This with the resources of another: each in the place of the one with its name, or behind the
    /// others.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        for resource in &other.resources {
            let same = |it: &&mut Resource| it.kind == resource.kind && it.name == resource.name;
            match self.resources.iter_mut().find(same) {
                Some(known) => known.node.clone_from(&resource.node),
                None => self.resources.push(resource.clone()),
            }
        }
        self
    }

    /// This without some.
    #[must_use]
    pub fn without(mut self, ids: &[Id]) -> Self {
        self.resources.retain(|it| !ids.contains(&it.id()));
        self
    }

    /// A resource as JSON; None if it is not there.
    #[must_use]
    pub fn json(&self, id: &Id, with_secrets: bool) -> Option<String> {
        let found = self.resources.iter().find(|it| it.kind == id.kind && it.name == id.name)?;
        Some(if with_secrets { tree::json(&found.node) } else { found.shown() })
    }

    /// What functions name as their component, with the name of each.
    pub fn plugins(&self) -> impl Iterator<Item = (&str, &str)> {
        let functions = self.resources.iter().filter(|it| it.kind == "function");
        functions.filter_map(|it| {
            let forms = ["function", "transform"].into_iter().filter_map(|key| it.node.get(key));
            let mut holders = forms.chain([&it.node]);
            let plugin = holders.find_map(|holder| holder.get("plugin").and_then(Node::text))?;
            Some((it.name.as_str(), plugin))
        })
    }

    /// Each resource as JSON without its secrets.
    pub fn shown(&self) -> impl Iterator<Item = (Id, String)> {
        self.resources.iter().map(|it| (it.id(), it.shown()))
    }
}

impl Resource {
    fn id(&self) -> Id {
        Id { kind: self.kind.to_owned(), name: self.name.clone() }
    }

    fn shown(&self) -> String {
        let mut node = self.node.clone();
        secret::hide(&mut node);
        tree::json(&node)
    }
}

pub(crate) fn node(kind: Kind) -> Node {
    Node { place: Place { line: 1, column: 1, width: 1 }, kind }
}

pub(crate) fn entry(key: &str, value: Node) -> Entry {
    Entry { key: key.to_owned(), place: value.place, value }
}

fn resources(mut root: Node, around: &Around<'_>, report: &mut Report<'_>) -> Vec<Resource> {
    if matches!(root.kind, Kind::Null) {
        root.kind = Kind::Map(Vec::new());
    }
    if !matches!(root.kind, Kind::Map(_)) {
        report
            .error(root.place, format_args!("the document must be a map, not {}", root.describe()));
    }
    let mut all = Vec::new();
    for key in SINGLE {
        let found = root.take(key).filter(|entry| !matches!(entry.value.kind, Kind::Null));
        let Some(mut node) = found.map(|entry| entry.value) else { continue };
        if key == "plugins" {
            // Without anything in it, it says that nobody need have signed.
            let has_versions = node.get(VERSIONS.0).is_some();
            all.extend(versions(&mut node, around, report));
            if has_versions && node.entries().is_empty() {
                continue;
            }
        }
        all.push(Resource { kind: key, name: String::new(), node });
    }
    for (key, kind) in LISTS {
        let mut lists = vec![root.take(key)];
        if key == "functions" {
            lists.push(root.take("transforms"));
        }
        for list in lists.into_iter().flatten() {
            let items = match list.value.kind {
                Kind::List(items) => items,
                Kind::Null => continue,
                _ => {
                    report.error(list.place, format_args!("`{key}` must be a list"));
                    continue;
                }
            };
            for item in items {
                all.extend(resource(kind, item, around, report));
            }
        }
    }
    // What is a mistake there is told where the configuration is read.
    if let Some(other) = root.entries().iter().find(|entry| !entry.key.starts_with("x-")) {
        report.error(other.place, format_args!("unknown key `{}`", other.key));
    }
    all
}

/// Takes the versions out of `plugins`.
fn versions(plugins: &mut Node, around: &Around<'_>, report: &mut Report<'_>) -> Vec<Resource> {
    let Some(list) = plugins.take(VERSIONS.0) else { return Vec::new() };
    let items = match list.value.kind {
        Kind::List(items) => items,
        Kind::Null => return Vec::new(),
        _ => {
            report.error(list.place, "`versions` must be a list");
            return Vec::new();
        }
    };
    items.into_iter().filter_map(|item| version(item, around, report)).collect()
}

fn version(mut node: Node, around: &Around<'_>, report: &mut Report<'_>) -> Option<Resource> {
    let text = |node: &Node, key: &str| node.get(key).and_then(Node::text).map(str::to_owned);
    let (Some(name), Some(version)) = (text(&node, "name"), text(&node, "version")) else {
        report.error(node.place, "a plugin without `name` and `version`");
        return None;
    };
    if let Some(source) = node.take("source").map(|entry| entry.value)
        && !matches!(source.kind, Kind::Null)
    {
        let Some(from) = source_of(&source, around) else {
            report.error(source.place, "`source` needs one of `file`, `oci` and `oci_layout`");
            return None;
        };
        let digest = text(&node, "digest");
        let (name, version, digest) = (&*name, &*version, digest.as_deref());
        match (around.version)(&Declared { name, version, digest, source: from }) {
            Ok(digest) => {
                node.take("digest");
                if let Kind::Map(entries) = &mut node.kind {
                    entries.push(entry("digest", self::node(Kind::Text(digest))));
                }
            }
            Err(error) => report.error(source.place, error),
        }
    }
    Some(Resource { kind: VERSIONS.1, name: format!("{name}@{version}"), node })
}

fn source_of(node: &Node, around: &Around<'_>) -> Option<VersionSource> {
    let text = |key: &str| node.get(key).and_then(Node::text);
    if let Some(file) = text("file") {
        return Some(VersionSource::File(around.base_dir.join(file)));
    }
    if let Some(path) = text("oci_layout") {
        let (path, tag) = layout(path);
        let tag = tag.map(str::to_owned);
        return Some(VersionSource::OciLayout(around.base_dir.join(path), tag));
    }
    text("oci").map(|reference| VersionSource::Oci(reference.to_owned()))
}

fn resource(
    kind: &'static str,
    mut node: Node,
    around: &Around<'_>,
    report: &mut Report<'_>,
) -> Option<Resource> {
    let key = if kind == "user" { "email" } else { "name" };
    let Some(name) = node.get(key).and_then(Node::text).map(str::to_owned) else {
        report.error(node.place, format_args!("a {kind} without `{key}`"));
        return None;
    };
    if kind == "function" {
        inside(&name, &mut node, around, report);
    }
    Some(Resource { kind, name, node })
}

/// Takes in what a function names by its file.
fn inside(name: &str, node: &mut Node, around: &Around<'_>, report: &mut Report<'_>) {
    let nested = ["function", "transform"].into_iter().find(|key| node.get(key).is_some());
    // The type may stand inside or outside of the older form.
    let word = |node: &Node| node.get("type").and_then(Node::text).map(str::to_owned);
    let outer = word(node);
    let holder = match (nested, &mut node.kind) {
        (Some(key), Kind::Map(entries)) => {
            entries.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.value)
        }
        _ => Some(node),
    };
    let Some(holder) = holder else { return };
    let is_sql = outer.or_else(|| word(holder)).as_deref() == Some("enrichment");
    let Kind::Map(entries) = &mut holder.kind else { return };
    let Some(file) = entries.iter_mut().find(|entry| entry.key == "file") else { return };
    let Some(path) = file.value.text().map(|path| around.base_dir.join(path)) else { return };
    let (key, read) = if is_sql {
        ("code", (around.read_file)(&path))
    } else {
        ("plugin", (around.component)(name, &path))
    };
    match read {
        Ok(text) => {
            key.clone_into(&mut file.key);
            file.value.kind = Kind::Text(text);
        }
        Err(error) => {
            let message = format!("file {}: {error}", path.display());
            report.error(file.value.place, message);
        }
    }
}

#[cfg(test)]
mod tests;
