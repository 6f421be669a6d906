//! Which messages must keep their order.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::change::{Change, Operation};
use crate::page::{Row, Value};
use crate::relation::Relation;

/// The name of one group inside a sink.
///
/// It is a hash of the table and the key's values. Two groups that collide only share a lane: they
/// keep each other's order, which is never wrong, and nothing else is told apart by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupKey(pub u64);

/// The groups whose order a message must respect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Groups {
    /// No order: tables without a key.
    None,
    /// The usual one.
    One(GroupKey),
    /// The key itself changed: after everything of the old, before everything of the new.
    Two(GroupKey, GroupKey),
    /// After everything before it and before everything after it: truncate.
    All,
}

impl Groups {
    /// The groups of a change by its key.
    #[must_use]
    pub fn of(change: &Change) -> Self {
        let relation = &*change.relation;
        if change.operation == Operation::Truncate {
            return Self::All;
        }
        let Some(row) = change.row() else { return Self::None };
        let Some(new) = group(relation, row) else { return Self::None };
        let old = match (&change.before, &change.after) {
            (Some(before), Some(_)) => group(relation, before),
            _ => None,
        };
        match old {
            Some(old) if old != new => Self::Two(old, new),
            _ => Self::One(new),
        }
    }

    /// The keys in a fixed order.
    pub fn keys(self) -> impl Iterator<Item = GroupKey> {
        let (first, second) = match self {
            Self::None | Self::All => (None, None),
            Self::One(key) => (Some(key), None),
            Self::Two(old, new) => (Some(old), Some(new)),
        };
        first.into_iter().chain(second)
    }
}

/// The group of a row, if its table has a key. An unknown key value counts as a value of its own.
fn group(relation: &Relation, row: &Row) -> Option<GroupKey> {
    // The standard hasher with its fixed keys: the same group on every node and after a restart.
    let mut hasher = DefaultHasher::new();
    relation.oid.hash(&mut hasher);
    let mut columns = 0_usize;
    for index in relation.key() {
        columns += 1;
        match row.value(index) {
            Value::Null => 0_u8.hash(&mut hasher),
            Value::Unchanged => 1_u8.hash(&mut hasher),
            // `str` hashes with an end mark, so ("a:b", "c") and ("a", "b:c") differ.
            Value::Text(text) => (2_u8, text).hash(&mut hasher),
        }
    }
    (columns > 0).then(|| GroupKey(hasher.finish()))
}
