//! What runs, with other names: resources that are renamed, and all that names them.
//!
//! What one file renames another may name (each team its own): so references follow, or neither could
//! be applied first.

use super::{Portable, Resource};
use crate::moved::Moved;
use crate::tree::{Kind, Node};

impl Portable {
    /// This with other names.
    #[must_use]
    pub fn renamed(mut self, moved: &[Moved]) -> Self {
        for resource in &mut self.resources {
            rename(resource, moved);
        }
        self
    }
}

fn rename(resource: &mut Resource, moved: &[Moved]) {
    for Moved { from, to } in moved {
        if resource.kind == from.kind && resource.name == from.name {
            resource.name.clone_from(&to.name);
            replace(&mut resource.node, &["name"], &from.name, &to.name);
        }
        for path in references(resource.kind, &from.kind) {
            replace(&mut resource.node, path, &from.name, &to.name);
        }
    }
}

/// Where resources of a kind name one of another; `*` is each item of a list.
const fn references(kind: &str, named: &str) -> &'static [&'static [&'static str]] {
    match (kind.as_bytes(), named.as_bytes()) {
        (b"sink", b"database") => &[&["database"]],
        (b"sink", b"function") => &[
            &["filter"],
            &["routing"],
            &["transform"],
            &["enrichment"],
            &["tables", "*", "enrichment"],
        ],
        (b"sink", b"http_endpoint") => &[&["destination", "http_endpoint"]],
        (b"function", b"database") => &[
            &["grants", "lookup", "database"],
            &["function", "grants", "lookup", "database"],
            &["transform", "grants", "lookup", "database"],
        ],
        (b"change_retention", b"database") => {
            &[&["source_database"], &["destination_database"], &["database"]]
        }
        _ => &[],
    }
}

/// Puts another name where this one stands, alone or in a list.
fn replace(node: &mut Node, path: &[&str], from: &str, to: &str) {
    match (path.split_first(), &mut node.kind) {
        (Some((&"*", rest)), Kind::List(items)) => {
            items.iter_mut().for_each(|item| replace(item, rest, from, to));
        }
        (Some((key, rest)), Kind::Map(entries)) => {
            let found = entries.iter_mut().filter(|entry| entry.key == *key);
            found.for_each(|entry| replace(&mut entry.value, rest, from, to));
        }
        (None, Kind::List(items)) => {
            items.iter_mut().for_each(|item| replace(item, &[], from, to));
        }
        (None, Kind::Text(name)) if name == from => to.clone_into(name),
        _ => {}
    }
}
