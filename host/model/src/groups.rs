//! Which messages must keep their order.

use crate::change::{Change, Operation};
use crate::page::{Row, Value};
use crate::relation::Relation;

/// The name of one group inside a sink.
///
/// It is a hash of the table and the key's values. Two groups that collide only share a lane: they
/// keep each other's order, which is never wrong, and nothing else is told apart by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupKey(pub u64);

impl GroupKey {
    /// The group of a document by its id.
    #[must_use]
    pub fn of_document(id: &str) -> Self {
        Self(Fnv::default().text(id).0)
    }

    /// The group of the rows that have these values, by their canonical texts: of one table, by its
    /// root's oid, or of all tables. Values of different types with the same text are equal.
    #[must_use]
    pub fn of_values<'a>(table: Option<u32>, values: impl IntoIterator<Item = &'a str>) -> Self {
        // Apart from keys: a value that equals another row's key has nothing to do with it.
        let hash = Fnv::default().text("values").bytes(&[u8::from(table.is_some())]);
        let hash = hash.bytes(&table.unwrap_or_default().to_le_bytes());
        Self(values.into_iter().fold(hash, Fnv::text).0)
    }
}

/// The groups whose order a message must respect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Groups {
    /// No order: tables without a key.
    None,
    /// The usual one.
    One(GroupKey),
    /// Two different ones, as where the key itself changed: after everything of the old, before
    /// everything of the new.
    Two(GroupKey, GroupKey),
    /// More than two.
    Several(Several),
    /// After everything before it and before everything after it: truncate.
    All,
}

/// Three or four different groups: those of the old and the new row, by key and by columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Several([GroupKey; 3], Option<GroupKey>);

impl Groups {
    /// All of these, each once.
    #[must_use]
    pub fn among(keys: [Option<GroupKey>; 4]) -> Self {
        let mut different = [None; 4];
        for (place, key) in keys.iter().enumerate() {
            let known = keys.get(..place).is_some_and(|before| before.contains(key));
            if let (Some(slot), false) = (different.get_mut(place), known) {
                *slot = *key;
            }
        }
        let mut different = different.into_iter().flatten();
        match (different.next(), different.next(), different.next()) {
            (None, _, _) => Self::None,
            (Some(one), None, _) => Self::One(one),
            (Some(one), Some(two), None) => Self::Two(one, two),
            (Some(one), Some(two), Some(three)) => {
                Self::Several(Several([one, two, three], different.next()))
            }
        }
    }

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
        let keys = match self {
            Self::None | Self::All => [None; 4],
            Self::One(key) => [Some(key), None, None, None],
            Self::Two(old, new) => [Some(old), Some(new), None, None],
            Self::Several(Several([one, two, three], four)) => {
                [Some(one), Some(two), Some(three), four]
            }
        };
        keys.into_iter().flatten()
    }
}

/// The group of a row, if its table has a key. The partitions of one table share its groups: an
/// update that moves a row to another of them is a delete here and an insert there. An unknown key value counts as a value of its own.
fn group(relation: &Relation, row: &Row) -> Option<GroupKey> {
    let mut hash = Fnv::default().bytes(&relation.root_oid().to_le_bytes());
    let mut columns = 0_usize;
    for index in relation.key() {
        columns += 1;
        hash = match row.value(index) {
            Value::Null => hash.bytes(&[0]),
            Value::Unchanged => hash.bytes(&[1]),
            // With an end mark, so ("a:b", "c") and ("a", "b:c") differ.
            Value::Text(text) => hash.bytes(&[2]).text(text),
        };
    }
    (columns > 0).then_some(GroupKey(hash.0))
}

/// FNV-1a. Letters keep these keys, so they are the same in every version of ours.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }
}

impl Fnv {
    fn bytes(self, bytes: &[u8]) -> Self {
        let add =
            |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
        Self(bytes.iter().fold(self.0, add))
    }

    /// With an end mark, which is no byte of UTF-8.
    fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes()).bytes(&[0xFF])
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::page::Extent;
    use crate::relation::Ancestor;
    use crate::sample::Cell::{self, Null, Text};
    use crate::sample::{change, relation};

    fn insert(relation: &Arc<Relation>, cells: [Cell; 4]) -> Groups {
        Groups::of(&change(relation, Operation::Insert, None, Some(cells)))
    }

    #[test]
    fn rows_of_one_key_share_a_group_and_others_do_not() {
        let relation = relation(&["id"]);
        let first = insert(&relation, [Text("1"), Text("a"), Null, Null]);
        assert_eq!(first, insert(&relation, [Text("1"), Text("b"), Null, Null]));
        assert_ne!(first, insert(&relation, [Text("2"), Text("a"), Null, Null]));
        let old = (Extent::Key, [Text("1"), Null, Null, Null]);
        let delete = change(&relation, Operation::Delete, Some(old), None);
        assert_eq!(first, Groups::of(&delete));
    }

    #[test]
    fn b097_tables_with_equal_keys_are_independent() {
        let one = relation(&["id"]);
        let mut two = (*one).clone();
        two.oid = 8;
        let cells = || [Text("1"), Null, Null, Null];
        assert_ne!(insert(&one, cells()), insert(&Arc::new(two), cells()));
    }

    #[test]
    fn b087_a_row_that_moves_to_another_partition_stays_in_its_group() {
        let leaf = |oid| {
            let mut leaf = (*relation(&["id"])).clone();
            leaf.oid = oid;
            let root = Ancestor { oid: 9, schema: "camp".into(), table: "all".into() };
            leaf.ancestors = vec![root];
            Arc::new(leaf)
        };
        let old = (Extent::Key, [Text("1"), Null, Null, Null]);
        let left = Groups::of(&change(&leaf(7), Operation::Delete, Some(old), None));
        assert_eq!(left, insert(&leaf(8), [Text("1"), Null, Null, Null]));
    }

    #[test]
    fn values_of_a_compound_key_do_not_run_together() {
        let relation = relation(&["lang", "name"]);
        let cells = |lang, name| [Null, Text(lang), Text(name), Null];
        assert_ne!(insert(&relation, cells("a:b", "c")), insert(&relation, cells("a", "b:c")));
        assert_ne!(insert(&relation, cells("ab", "c")), insert(&relation, cells("a", "bc")));
    }

    #[test]
    fn b098_grouping_values_do_not_run_together_either() {
        let of = |values: &[&str]| GroupKey::of_values(None, values.iter().copied());
        assert_ne!(of(&["a:b", "c"]), of(&["a", "b:c"]));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_eq!(of(&["7"]), of(&["7"]));
        assert_ne!(of(&["7"]), GroupKey::of_values(Some(7), ["7"]));
        assert_ne!(GroupKey::of_values(Some(8), ["7"]), GroupKey::of_values(Some(7), ["7"]));
    }

    #[test]
    fn each_group_counts_once() {
        let key = |n| Some(GroupKey(n));
        assert_eq!(Groups::among([None; 4]), Groups::None);
        assert_eq!(Groups::among([None, key(1), key(1), None]), Groups::One(GroupKey(1)));
        let two = Groups::Two(GroupKey(1), GroupKey(2));
        assert_eq!(Groups::among([key(1), key(2), key(1), key(2)]), two);
        for keys in [[key(1), None, key(2), key(3)], [key(4), key(1), key(2), key(3)]] {
            assert!(Groups::among(keys).keys().eq(keys.into_iter().flatten()));
        }
    }

    #[test]
    fn a_key_change_belongs_to_both_groups_and_no_key_to_none() {
        let keyed = relation(&["id"]);
        let old = (Extent::Key, [Text("1"), Null, Null, Null]);
        let new = Some([Text("2"), Null, Null, Null]);
        let moved = Groups::of(&change(&keyed, Operation::Update, Some(old), new));
        let Groups::Two(from, to) = moved else { panic!("{moved:?}") };
        assert_eq!(insert(&keyed, [Text("1"), Null, Null, Null]), Groups::One(from));
        assert_eq!(insert(&keyed, [Text("2"), Null, Null, Null]), Groups::One(to));
        assert_eq!(insert(&relation(&[]), [Text("1"), Null, Null, Null]), Groups::None);
    }
}
