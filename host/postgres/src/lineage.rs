//! Which tables a partition belongs to, at the place of its rows.
//!
//! If the publication publishes via roots, Postgres itself says it: the row of a partition comes as
//! its root's, and a row that comes as the table's own is that.
//!
//! Otherwise the stream does not say it, and the catalog says only how it is now; between the two
//! lies what is still to be read. In doubt a row counts as its root's: a sink that names the root may get a row
//! too many, which is seen, but none too few, which is not. So
//!
//! - a table that is a partition now counts as one from here on, even for rows that were written
//!   shortly before it became one;
//! - one that was met as a partition, on this connection or an earlier one, and is none any more or
//!   was dropped, counts as one for every transaction up to the moment when that was found out;
//! - one that was not met before may have been anything; if it was changed since the row, that is
//!   said.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use model::lsn::Lsn;
use model::relation::Ancestor;

use crate::pgoutput::Definition;
use crate::relation::Facts;

/// Tables remembered, partitions or such as were complained about. Far more than a database has;
/// past it the memory is emptied and fills again.
const TABLES_MAX: usize = 100_000;

/// Transaction ids are compared over a circle; the tables of a backlog were changed within a
/// quarter of it, or long before.
const NEWER_MAX: u32 = 1 << 30;

/// Where a table stands now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The partitioned tables above it, the nearest first.
    pub(crate) ancestors: Vec<Ancestor>,
    /// The transaction that changed the table's definition last (`xmin` of its row in `pg_class`).
    pub(crate) changed_by: u32,
}

/// The transaction whose rows are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) commit_lsn: Lsn,
    pub(crate) xid: u32,
}

/// Whose partition a table is for rows at some place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lineage {
    pub(crate) ancestors: Vec<Ancestor>,
    /// Behind this commit it is none any more.
    pub(crate) until: Option<Lsn>,
}

/// What was learned of partitions; outlives a connection.
#[derive(Debug, Default)]
pub(crate) struct Lineages(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    partitions: HashMap<u32, Lineage>,
    /// Tables of which it was said that nobody can tell.
    told: HashSet<u32>,
}

impl Lineages {
    /// The lineage of a table, by what the catalog says now.
    pub(crate) fn of(&self, definition: &Definition, at: Option<At>, facts: &Facts) -> Lineage {
        // A publication that was changed since the row may have published in another way then.
        let is_exact = |since| at.is_some_and(|at| !precedes(at.xid, since));
        if facts.via_root_since.is_some_and(is_exact) {
            return Lineage::default();
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let oid = definition.oid;
        let place = facts.places.get(&oid);
        if let Some(Place { ancestors, .. }) = place
            && !ancestors.is_empty()
        {
            let lineage = Lineage { ancestors: ancestors.clone(), until: None };
            if known.partitions.len() >= TABLES_MAX {
                known.partitions.clear();
            }
            known.partitions.insert(oid, lineage.clone());
            return lineage;
        }
        // Without a transaction there is no row.
        let Some(At { commit_lsn, xid }) = at else { return Lineage::default() };
        let was_changed = place.is_none_or(|place| precedes(xid, place.changed_by));
        if let Some(lineage) = known.partitions.get_mut(&oid) {
            let is_over = lineage.until.is_some_and(|until| commit_lsn > until);
            if is_over && !was_changed {
                known.partitions.remove(&oid);
                return Lineage::default();
            }
            if is_over || lineage.until.is_none() {
                // What the catalog shows was committed before it was asked. After the last answer
                // it may have been a partition once more, if it was changed since.
                lineage.until = Some(facts.asked_at);
            }
            return lineage.clone();
        }
        if was_changed && facts.leaves_published {
            if known.told.len() >= TABLES_MAX {
                known.told.clear();
            }
            if known.told.insert(oid) {
                tracing::warn!(
                    schema = definition.schema,
                    table = definition.table,
                    "the table was changed or dropped after these rows: whether it was a partition \
                     of another table then cannot be told, and a sink that names that table does \
                     not get them; set publish_via_partition_root = true on the publication, then \
                     Postgres itself says it"
                );
            }
        }
        Lineage::default()
    }
}

/// Whether transaction `xid` began before the transaction `other`.
fn precedes(xid: u32, other: u32) -> bool {
    // Ids below 3 are no transactions: what they made has always been there.
    other >= 3 && (1..NEWER_MAX).contains(&other.wrapping_sub(xid))
}

#[cfg(test)]
mod tests {
    use model::relation::Identity;

    use super::*;

    fn root() -> Vec<Ancestor> {
        vec![Ancestor { oid: 9, schema: "public".into(), table: "root".into() }]
    }

    fn definition() -> Definition {
        let (schema, table) = ("public".to_owned(), "leaf".to_owned());
        Definition { oid: 7, schema, table, identity: Identity::Default, columns: Vec::new() }
    }

    /// What is answered for a row that committed at `lsn` in a transaction of the same number, if
    /// the catalog says this of the ancestors and of the last change when it is asked at `asked_at`.
    fn ask(
        lineages: &Lineages,
        lsn: u32,
        asked_at: u64,
        now: Option<(Vec<Ancestor>, u32)>,
    ) -> Lineage {
        let place = now.map(|(ancestors, changed_by)| (7, Place { ancestors, changed_by }));
        let places = place.into_iter().collect();
        let facts = Facts { places, asked_at: Lsn(asked_at), ..Facts::default() };
        let at = At { commit_lsn: Lsn(lsn.into()), xid: lsn };
        lineages.of(&definition(), Some(at), &facts)
    }

    #[test]
    fn b086_a_partition_that_left_is_one_for_the_rows_before() {
        let lineages = Lineages::default();
        let none = Lineage::default();
        let is = Lineage { ancestors: root(), until: None };
        let was = |until: u64| Lineage { ancestors: root(), until: Some(Lsn(until)) };
        assert_eq!(ask(&lineages, 10, 15, Some((vec![], 9))), none, "never met");
        assert_eq!(ask(&lineages, 20, 25, Some((root(), 15))), is);
        assert_eq!(ask(&lineages, 30, 50, Some((vec![], 40))), was(50), "detached, but when?");
        assert_eq!(ask(&lineages, 45, 55, Some((vec![], 40))), was(50), "known by then");
        assert_eq!(ask(&lineages, 51, 60, Some((vec![], 40))), none);
        assert_eq!(ask(&lineages, 61, 65, Some((root(), 60))), is, "attached again");
        assert_eq!(ask(&lineages, 66, 70, None), was(70), "dropped");
    }

    #[test]
    fn b086_a_partition_that_came_and_went_unseen_is_in_doubt() {
        let lineages = Lineages::default();
        let was = |until: u64| Lineage { ancestors: root(), until: Some(Lsn(until)) };
        ask(&lineages, 20, 25, Some((root(), 15)));
        assert_eq!(ask(&lineages, 30, 50, Some((vec![], 40))), was(50));
        assert_eq!(ask(&lineages, 60, 90, Some((vec![], 80))), was(90), "changed since this row");
        assert_eq!(ask(&lineages, 91, 95, Some((vec![], 80))), Lineage::default());
    }

    #[test]
    fn b086_postgres_says_it_itself_if_it_publishes_via_roots() {
        let place = Place { ancestors: root(), changed_by: 90 };
        let places = HashMap::from([(7, place)]);
        let facts = Facts { places, via_root_since: Some(100), ..Facts::default() };
        let of = |xid| {
            let at = Some(At { commit_lsn: Lsn(1), xid });
            Lineages::default().of(&definition(), at, &facts).ancestors
        };
        assert_eq!(of(100), []);
        assert_eq!(of(101), []);
        assert_eq!(of(99), root(), "the publication was changed after this row");
    }

    #[test]
    fn transactions_are_compared_over_the_circle() {
        assert!(precedes(100, 101) && precedes(u32::MAX, 3));
        assert!(!precedes(100, 100) && !precedes(101, 100) && !precedes(3, u32::MAX));
        assert!(!precedes(u32::MAX - 5, 2), "frozen");
    }
}
