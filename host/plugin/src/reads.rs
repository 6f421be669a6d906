//! What a plugin reads of a table: from the names it asked for to columns of one relation.

use std::collections::HashSet;
use std::sync::Arc;

use model::plugin::TableReads;
use model::relation::Relation;

use crate::bindings::{self, Requirements};

/// Every table, or every column.
const ALL: &str = "*";

/// Columns and tables that a plugin may ask for: as many as a table of Postgres can have.
const NAMES_MAX: usize = 1600;

/// What a configured plugin wants handed to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    tables: Vec<bindings::Reads>,
    pub(crate) packed: bool,
}

/// What is known of a change beside its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metadata {
    CommitTimestamp,
    TransactionAnnotations,
    IdempotencyKey,
    Enrichment,
}

/// The columns of a relation that a plugin reads, by index, without repeats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    /// Of the new row, or of the old one of a delete.
    pub(crate) columns: Vec<usize>,
    /// Of the row before an update.
    pub(crate) old: Vec<usize>,
    pub(crate) metadata: Vec<Metadata>,
    /// Whether texts go in one piece.
    pub(crate) packed: bool,
}

impl Metadata {
    const EVERY: [Self; 4] = [
        Self::CommitTimestamp,
        Self::TransactionAnnotations,
        Self::IdempotencyKey,
        Self::Enrichment,
    ];

    /// As in messages.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::CommitTimestamp => "commit_timestamp",
            Self::TransactionAnnotations => "transaction_annotations",
            Self::IdempotencyKey => "idempotency_key",
            Self::Enrichment => "enrichment",
        }
    }
}

impl Wanted {
    /// Says what is wrong with the requirements.
    pub(crate) fn new(requirements: Requirements) -> Result<Self, String> {
        let Requirements { reads: tables, packed, .. } = requirements;
        let mut known = HashSet::new();
        if let Some(twice) = tables.iter().find(|reads| !known.insert(reads.table.as_str())) {
            return Err(format!("it says twice what it reads of table {}", twice.table));
        }
        let bare = |table: &str| table != ALL && !table.contains('.');
        if let Some(bare) = tables.iter().find(|reads| bare(&reads.table)) {
            return Err(format!("it reads table {}, which is no `schema.table`", bare.table));
        }
        let names = tables.iter().flat_map(|reads| [&reads.columns, &reads.old_columns]);
        if tables.len() > NAMES_MAX || names.into_iter().any(|names| names.len() > NAMES_MAX) {
            return Err(format!("it asks for more than {NAMES_MAX} columns or tables"));
        }
        Ok(Self { tables, packed })
    }

    /// The columns that it names of tables which it names.
    pub(crate) fn named(&self, function: &Arc<str>) -> Vec<TableReads> {
        let named = |reads: &bindings::Reads| {
            let (schema, table) = reads.table.split_once('.')?;
            let mut columns: Vec<String> = Vec::new();
            for name in reads.columns.iter().chain(&reads.old_columns).filter(|it| *it != ALL) {
                if !columns.contains(name) {
                    columns.push(name.clone());
                }
            }
            let (function, schema) = (Arc::clone(function), schema.to_owned());
            Some(TableReads { function, schema, table: table.to_owned(), columns })
        };
        self.tables.iter().filter_map(named).filter(|it| !it.columns.is_empty()).collect()
    }

    /// What it reads of this table; None if that is none of its business.
    pub(crate) fn of(&self, relation: &Relation) -> Option<Reads> {
        let Relation { schema, table, .. } = relation;
        let this = |reads: &&bindings::Reads| {
            reads.table.strip_prefix(&**schema).and_then(|rest| rest.strip_prefix('.'))
                == Some(&**table)
        };
        let named = self.tables.iter().find(this);
        let reads = named.or_else(|| self.tables.iter().find(|reads| reads.table == ALL))?;
        let metadata = Metadata::EVERY.into_iter();
        Some(Reads {
            columns: indexes(relation, &reads.columns),
            old: indexes(relation, &reads.old_columns),
            metadata: metadata.filter(|it| reads.metadata.iter().any(|n| n == it.name())).collect(),
            packed: self.packed,
        })
    }
}

/// The columns of these names, in the order of the names; those that the table has.
fn indexes(relation: &Relation, names: &[String]) -> Vec<usize> {
    if names.iter().any(|name| name == ALL) {
        return (0..relation.columns.len()).collect();
    }
    let mut known = HashSet::new();
    let indexes = names.iter().filter_map(|name| relation.column(name));
    indexes.filter(|index| known.insert(*index)).collect()
}

#[cfg(test)]
mod tests {
    use model::relation::{Column, Identity, Kind};

    use super::*;

    fn relation(schema: &str, table: &str) -> Relation {
        let column = |name: &str| Column {
            name: name.into(),
            kind: Kind::Text,
            type_name: "text".into(),
            key: false,
        };
        Relation {
            rendered: model::relation::Rendered::default(),
            ancestors: Vec::new(),
            oid: 1,
            schema: schema.into(),
            table: table.into(),
            identity: Identity::Default,
            columns: ["a", "b", "c"].map(column).into(),
        }
    }

    fn reads(table: &str, columns: &[&str], old: &[&str], metadata: &[&str]) -> bindings::Reads {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        bindings::Reads {
            table: table.to_owned(),
            columns: names(columns),
            old_columns: names(old),
            metadata: names(metadata),
        }
    }

    fn wanted(reads: Vec<bindings::Reads>) -> Result<Wanted, String> {
        Wanted::new(Requirements { reads, packed: true, _extra: Vec::new() })
    }

    #[test]
    fn each_table_has_columns_of_its_own_and_others_pass() {
        let one =
            wanted(vec![reads("s.t", &["c", "gone", "a", "c"], &["*"], &["idempotency_key"])]);
        let one = one.unwrap();
        let found = one.of(&relation("s", "t")).unwrap();
        assert_eq!((found.columns, found.old), (vec![2, 0], vec![0, 1, 2]));
        assert_eq!(found.metadata, [Metadata::IdempotencyKey]);
        for (schema, table) in [("s", "u"), ("S", "t"), ("s.t", "t"), ("", "t")] {
            assert_eq!(one.of(&relation(schema, table)), None, "{schema}.{table}");
        }
        let all = wanted(vec![reads("*", &["a"], &[], &["later"]), reads("s.t", &[], &[], &[])]);
        let all = all.unwrap();
        assert_eq!(all.of(&relation("s", "u")).unwrap().columns, [0]);
        assert!(all.of(&relation("s", "u")).unwrap().metadata.is_empty(), "not known here");
        let own = all.of(&relation("s", "t")).unwrap();
        assert!(own.columns.is_empty(), "an entry of its own");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = |reads, text: &str| {
            let error = wanted(reads).unwrap_err();
            assert!(error.contains(text), "{error}");
        };
        refused(vec![reads("s.t", &[], &[], &[]), reads("s.t", &[], &[], &[])], "twice");
        refused(vec![reads("t", &[], &[], &[])], "no `schema.table`");
        refused(vec![reads("*", &["a"; NAMES_MAX + 1], &[], &[])], "more than 1600");
        assert_eq!(wanted(Vec::new()).unwrap().of(&relation("s", "t")), None);
    }
}
