//! What the stream brought of one table while it is read, by key.

use std::collections::HashMap;
use std::sync::Arc;

use model::backfill::Snapshot;
use model::change::{Change, Operation};
use model::page::{Row, Value};
use model::relation::Relation;

/// Keys that are noted of one table, at most: with more, pages under way are read again.
const NOTES_MAX: usize = 500_000;

/// A change of a row, or of all rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Note {
    xid: u32,
    operation: Operation,
}

/// Changes by the key of the row. What the pages show that are still to come is forgotten.
#[derive(Debug, Default)]
pub(super) struct Notes {
    by_key: HashMap<String, Vec<Note>>,
    count: usize,
    truncates: Vec<Note>,
    /// Transactions with a change of which the key is not known.
    blind: Vec<u32>,
    /// The names of the key's columns; None as long as nothing was noted.
    key: Option<Vec<Arc<str>>>,
    /// It was too much: nothing is known of pages that began before.
    lost: bool,
}

/// The columns that tell rows apart: the key, or without one all of them.
fn key_columns(relation: &Relation) -> Vec<usize> {
    let key: Vec<usize> = relation.key().collect();
    if key.is_empty() { (0..relation.columns.len()).collect() } else { key }
}

/// The names of the columns that tell rows apart.
pub(super) fn key_names(relation: &Relation) -> Vec<Arc<str>> {
    let name = |index: &usize| relation.columns.get(*index).map(|column| Arc::clone(&column.name));
    key_columns(relation).iter().filter_map(name).collect()
}

/// The key of a row as text; None if part of it was not sent.
pub(super) fn key_of(relation: &Relation, row: &Row) -> Option<String> {
    key_with(relation, row, None)
}

/// As [`key_of`]; what was not sent is as it was in the old row.
fn key_with(relation: &Relation, row: &Row, old: Option<&Row>) -> Option<String> {
    let mut key = String::new();
    for index in key_columns(relation) {
        let value = match (row.value(index), old) {
            (Value::Unchanged, Some(old)) => old.value(index),
            (value, _) => value,
        };
        match value {
            Value::Unchanged => return None,
            Value::Null => key.push('-'),
            // With its length, so that no two lists of values are the same text.
            Value::Text(text) => {
                key.push_str(&text.len().to_string());
                key.push(':');
                key.push_str(text);
            }
        }
    }
    Some(key)
}

impl Notes {
    /// Notes a change of the table.
    pub(super) fn see(&mut self, change: &Change) {
        let note = Note { xid: change.transaction.xid, operation: change.operation };
        if change.operation == Operation::Truncate {
            self.truncates.push(note);
            return;
        }
        let names = key_names(&change.relation);
        if self.key.as_ref().is_some_and(|known| *known != names) {
            // The key became another one: nothing that was noted can be found by it. Pages that are
            // read from here on show what came before.
            *self = Self { lost: true, ..Self::default() };
        }
        self.key = Some(names);
        let (relation, before) = (&*change.relation, change.before.as_ref());
        let old = before.map(|row| key_of(relation, row));
        let new = change.after.as_ref().map(|row| key_with(relation, row, before));
        for key in [old, new].into_iter().flatten() {
            match key {
                Some(key) => {
                    let notes = self.by_key.entry(key).or_default();
                    if !notes.contains(&note) {
                        notes.push(note);
                        self.count += 1;
                    }
                }
                None if self.blind.last() == Some(&note.xid) => {}
                None => self.blind.push(note.xid),
            }
        }
        if self.count > NOTES_MAX {
            *self = Self { lost: true, ..Self::default() };
        }
    }

    /// Whether pages that are under way cannot be judged any more, said once.
    pub(super) fn take_lost(&mut self) -> bool {
        std::mem::take(&mut self.lost)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty() && self.truncates.is_empty() && self.blind.is_empty()
    }

    /// Whether a page with this snapshot and this key can be compared with what was noted.
    pub(super) fn can_judge(&self, snapshot: &Snapshot, key: &[Arc<str>]) -> bool {
        let is_known = self.key.as_deref().is_none_or(|known| known == key);
        (is_known || self.by_key.is_empty()) && self.blind.iter().all(|xid| snapshot.shows(*xid))
    }

    /// Whether the stream brought something newer of the row than a page with this snapshot shows,
    /// for a sink that `wants` the action.
    pub(super) fn is_stale(
        &self,
        key: &str,
        snapshot: &Snapshot,
        wants: impl Fn(Operation) -> bool,
    ) -> bool {
        let mut notes = self.truncates.iter().chain(self.by_key.get(key).into_iter().flatten());
        notes.any(|note| wants(note.operation) && !snapshot.shows(note.xid))
    }

    /// Forgets what all of these show.
    pub(super) fn forget(&mut self, floors: &[&Snapshot]) {
        let is_needed = |xid: u32| !floors.iter().all(|floor| floor.shows(xid));
        self.truncates.retain(|note| is_needed(note.xid));
        self.blind.retain(|xid| is_needed(*xid));
        self.by_key.retain(|_, notes| {
            notes.retain(|note| is_needed(note.xid));
            !notes.is_empty()
        });
        self.count = self.by_key.values().map(Vec::len).sum();
        if self.by_key.is_empty() {
            self.key = None;
        }
    }
}
