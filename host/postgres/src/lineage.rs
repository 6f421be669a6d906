//! Which tables a partition belongs to, at the place of its rows.
//!
//! The stream never says it, and the catalog says only how it is now. A partition that was detached
//! or dropped since then is still known here if it was met before, on this connection or an earlier
//! one; if it was not, that is said, for a sink that names its root would miss the rows in silence.
//! In doubt a row counts as its former root's: a row too many is seen, a row too few is not.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

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

/// What was learned of partitions; outlives a connection.
#[derive(Debug, Default)]
pub(crate) struct Lineages(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Ancestors of partitions.
    ancestors: HashMap<u32, Vec<Ancestor>>,
    /// Tables of which it was said that nobody can tell.
    told: HashSet<u32>,
}

impl Lineages {
    /// The ancestors of a table for rows of the transaction `xid`, if one is open.
    pub(crate) fn of(
        &self,
        definition: &Definition,
        xid: Option<u32>,
        facts: &Facts,
    ) -> Vec<Ancestor> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let oid = definition.oid;
        let place = facts.places.get(&oid);
        if let Some(Place { ancestors, .. }) = place
            && !ancestors.is_empty()
        {
            if known.ancestors.len() >= TABLES_MAX {
                known.ancestors.clear();
            }
            known.ancestors.insert(oid, ancestors.clone());
            return ancestors.clone();
        }
        let is_past = match (place, xid) {
            // Dropped.
            (None, _) => true,
            (Some(place), Some(xid)) => precedes(xid, place.changed_by),
            (Some(_), None) => false,
        };
        if !is_past {
            known.ancestors.remove(&oid);
            return Vec::new();
        }
        if let Some(ancestors) = known.ancestors.get(&oid) {
            return ancestors.clone();
        }
        if known.told.len() >= TABLES_MAX {
            known.told.clear();
        }
        if facts.leaves_published && known.told.insert(oid) {
            tracing::warn!(
                schema = definition.schema,
                table = definition.table,
                "the table was changed or dropped after these rows: whether it was a partition of \
                 another table then cannot be told, and a sink that names that table does not get \
                 them; set publish_via_partition_root = true on the publication, then Postgres \
                 itself says it"
            );
        }
        Vec::new()
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

    /// What is answered for a row of transaction 100; `place` is ancestors and the last change.
    fn ask(lineages: &Lineages, place: Option<(Vec<Ancestor>, u32)>) -> Vec<Ancestor> {
        let (schema, table) = ("public".to_owned(), "leaf".to_owned());
        let columns = Vec::new();
        let definition = Definition { oid: 7, schema, table, identity: Identity::Default, columns };
        let place = place.map(|(ancestors, changed_by)| (7, Place { ancestors, changed_by }));
        let facts = Facts { places: place.into_iter().collect(), ..Facts::default() };
        lineages.of(&definition, Some(100), &facts)
    }

    #[test]
    fn b086_a_partition_that_left_is_known_for_the_rows_before() {
        let lineages = Lineages::default();
        assert_eq!(ask(&lineages, Some((vec![], 101))), [], "nothing is known of it");
        assert_eq!(ask(&lineages, Some((root(), 90))), root());
        assert_eq!(ask(&lineages, Some((vec![], 101))), root(), "detached after this row");
        assert_eq!(ask(&lineages, None), root(), "dropped");
        assert_eq!(ask(&lineages, Some((vec![], 99))), [], "detached before this row");
        assert_eq!(ask(&lineages, None), [], "and then dropped");
    }

    #[test]
    fn transactions_are_compared_over_the_circle() {
        assert!(precedes(100, 101) && precedes(u32::MAX, 3));
        assert!(!precedes(100, 100) && !precedes(101, 100) && !precedes(3, u32::MAX));
        assert!(!precedes(u32::MAX - 5, 2), "frozen");
    }
}
