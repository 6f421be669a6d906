//! `moved`: resources that have another name than before. They keep what is known of them.
//!
//! An entry may stay in the file for ever: where nothing of its old name runs it says nothing. So
//! entries of different years make chains (`a` to `b`, `b` to `c`), and each is resolved to the name
//! that its resource has in the file.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::diagnostic::{Place, Report};
use crate::nearest::nearest;
use crate::portable::Id;
use crate::tree::{self, Kind, Node};
use crate::{env, portable};

/// The key at the top.
pub(crate) const KEY: &str = "moved";

/// What can be renamed: the key that holds it, and what one is called.
const KINDS: [(&str, &str); 5] = [
    ("sinks", "sink"),
    ("functions", "function"),
    ("http_endpoints", "http_endpoint"),
    ("databases", "database"),
    ("change_retentions", "change_retention"),
];

/// A resource that has another name than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// What it was.
    pub from: Id,
    /// What it is in the file, of the same kind.
    pub to: Id,
}

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) from: String,
    pub(crate) to: String,
}

/// What a text says is renamed; nothing if it is wrong, which is told where the text is read.
#[must_use]
pub fn of(file_name: &str, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Vec<Moved> {
    let mut report = Report::new(file_name, text);
    let root = tree::parse(text, &mut report);
    let moved = root.map(|mut root| {
        env::fill_in(&mut root, env, &mut report);
        take(&mut root, &mut report)
    });
    if report.errors() > 0 { Vec::new() } else { ends(&moved.unwrap_or_default()) }
}

/// Entries as they are written, each with the name that its resource has by now.
pub(crate) fn ends(moved: &[Moved]) -> Vec<Moved> {
    moved
        .iter()
        .filter_map(|it| Some(Moved { from: it.from.clone(), to: end(it, moved)?.clone() }))
        .collect()
}

/// What an entry's resource is called in the end; None if that goes round in a circle.
fn end<'a>(it: &'a Moved, all: &'a [Moved]) -> Option<&'a Id> {
    let mut to = &it.to;
    // Each step takes another entry.
    for _ in all {
        match all.iter().find(|other| other.from == *to) {
            Some(next) => to = &next.to,
            None => return Some(to),
        }
    }
    None
}

/// Which of these are still to be done where this runs: each with its old name there.
///
/// # Errors
/// Old and new name both run, or two would have one name: the text says which.
pub fn due(moved: &[Moved], runs: &BTreeSet<Id>) -> Result<Vec<Moved>, String> {
    let mut due: Vec<Moved> = Vec::new();
    for it in moved.iter().filter(|it| runs.contains(&it.from)) {
        let Moved { from, to } = it;
        if runs.contains(to) {
            return Err(format!(
                "{from} is to be renamed to `{}`, and both run: delete one of them, or take the entry \
                 out of `moved`",
                to.name
            ));
        }
        if let Some(other) = due.iter().find(|other| other.to == *to) {
            return Err(format!(
                "{} and {from} would both be renamed to `{}`: delete one of them first",
                other.from, to.name
            ));
        }
        due.push(it.clone());
    }
    Ok(due)
}

/// Takes the entries, as they are written, out of a document that still has its resources.
pub(crate) fn take(root: &mut Node, report: &mut Report<'_>) -> Vec<Moved> {
    let Some(list) = root.take(KEY) else { return Vec::new() };
    let items = match list.value.kind {
        Kind::List(items) => items,
        Kind::Null => return Vec::new(),
        _ => {
            let what = list.value.describe();
            report.error(list.value.place, format_args!("`{KEY}` must be a list, not {what}"));
            return Vec::new();
        }
    };
    let (mut all, mut places) = (Vec::new(), Vec::new());
    for (index, item) in items.iter().enumerate() {
        report.enter(format!("{KEY} {}", index + 1));
        if let Some(moved) = read(item, (&all, &places), report) {
            all.push(moved);
            places.push(Places::of(item));
        }
    }
    report.leave();
    for (it, places) in all.iter().zip(&places) {
        check(it, places, &all, root, report);
    }
    all
}

/// Where an entry's names stand.
struct Places {
    from: Place,
    to: Place,
}

impl Places {
    fn of(item: &Node) -> Self {
        Self { from: item.place_of(&["from"]), to: item.place_of(&["to"]) }
    }
}

fn read(
    item: &Node,
    (before, first): (&[Moved], &[Places]),
    report: &mut Report<'_>,
) -> Option<Moved> {
    if !matches!(item.kind, Kind::Map(_)) {
        let what = item.describe();
        report.error_with_help(
            item.place,
            format_args!("must be a map, not {what}"),
            "write `{from: sinks.OLD, to: sinks.NEW}`",
        );
        return None;
    }
    let Entry { from, to } = tree::read(item, report)?;
    let places = Places::of(item);
    let (from, to) = (id(&from, places.from, report), id(&to, places.to, report));
    let (from, to) = (from?, to?);
    if from.kind != to.kind {
        let what = format!("a {} cannot become a {}", from.kind, to.kind);
        report.error_with_help(places.to, what, "`from` and `to` are of one kind");
        return None;
    }
    if from == to {
        report.error(places.to, format_args!("`from` and `to` are the same: {from}"));
        return None;
    }
    for (other, first) in before.iter().zip(first) {
        let (place, first, what) = if other.from == from {
            (places.from, first.from, format!("{from} is renamed twice"))
        } else if other.to == to {
            (places.to, first.to, format!("two are renamed to {to}"))
        } else {
            continue;
        };
        report.error_with_help(place, what, format!("the first is in line {}", first.line));
        return None;
    }
    Some(Moved { from, to })
}

/// What `sinks.orders` names.
fn id(address: &str, place: Place, report: &mut Report<'_>) -> Option<Id> {
    let (key, name) = address.split_once('.').unwrap_or((address, ""));
    if let Some((_, kind)) = KINDS.iter().find(|(known, _)| *known == key)
        && !name.is_empty()
    {
        return Some(Id::new(kind, name));
    }
    let keys = KINDS.map(|(key, _)| key);
    let guess = nearest(key, keys).filter(|known| *known != key);
    let help = match guess {
        Some(known) => format!("did you mean `{known}.{name}`?"),
        None => format!("write `sinks.NAME`; what can be renamed: {}", keys.join(", ")),
    };
    report.error_with_help(place, format_args!("`{address}` names no resource"), help);
    None
}

/// Whether an entry fits what is in the file.
fn check(it: &Moved, places: &Places, all: &[Moved], root: &Node, report: &mut Report<'_>) {
    let from = &it.from;
    if is_declared(from, root) {
        let what = format!("{from} is renamed, and is in the file all the same");
        let help = "its old name is free for another one once the entry is gone";
        report.error_with_help(places.from, what, help);
        return;
    }
    match end(it, all) {
        None => report.error(places.to, format_args!("renaming {from} goes round in a circle")),
        Some(to) if is_declared(to, root) => {}
        Some(to) => {
            let what = format!("{from} is renamed to {to}, which is not in the file");
            let help = "declare it under its new name, or take the entry out";
            report.error_with_help(places.to, what, help);
        }
    }
}

/// Whether a resource is in the document.
fn is_declared(id: &Id, root: &Node) -> bool {
    let keys = KINDS.iter().filter(|(_, kind)| *kind == id.kind).map(|(key, _)| *key);
    let aliases = ["transforms"].into_iter().filter(|_| id.kind == "function");
    let lists = keys.chain(aliases).filter_map(|key| root.get(key));
    let mut items = lists.flat_map(|list| match &list.kind {
        Kind::List(items) => items.as_slice(),
        _ => &[],
    });
    items.any(|item| item.get("name").and_then(Node::text) == Some(&id.name))
}

/// As a list, to be written.
pub(crate) fn node(moved: &[Moved]) -> Node {
    let address = |id: &Id| {
        let key = KINDS.iter().find(|(_, kind)| *kind == id.kind).map_or("", |(key, _)| key);
        portable::node(Kind::Text(format!("{key}.{}", id.name)))
    };
    let entry = |it: &Moved| {
        portable::node(Kind::Map(vec![
            portable::entry("from", address(&it.from)),
            portable::entry("to", address(&it.to)),
        ]))
    };
    portable::node(Kind::List(moved.iter().map(entry).collect()))
}

#[cfg(test)]
mod tests;
