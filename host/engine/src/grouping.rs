//! Which messages of a sink keep their order.
//!
//! By default those of one row, by its key. A table may name columns instead: rows with equal values
//! in them keep their order among each other, across keys, and across tables if the sink says so.
//!
//! What it rests on, with grouping columns:
//! - A message also belongs to the group of its row (at a state sink: of its document), unless the
//!   columns are part of the key, where that follows. So a row's own changes keep their order
//!   whatever is known of the columns.
//! - A change of a value waits for what came before in the old group, and what comes later in the new
//!   one waits for it. The old value is known if the columns are part of the key, or under replica
//!   identity full. Elsewhere only the new value counts, and a deleted row only has its key; that is
//!   a warning of the sink.
//! - A row with a null in one of the columns, with a value that was not sent, or without the column,
//!   is in the group of its key alone.
//! - Values are compared as canonical text: across tables, `7` as a number and as a text are equal.

use model::change::{Change, Operation};
use model::groups::{GroupKey, Groups};
use model::page::{Row, Value};
use model::relation::{Identity, Relation};

use crate::select::Table;

/// A grouping column is not there: a stable code for operators.
pub(crate) const MISSING: &str = "group_column_missing";

/// The old values of grouping columns are not sent.
pub(crate) const UNKNOWN: &str = "group_change_unknown";

/// Which messages of a sink keep their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// None but truncates: as fast as it goes.
    Off,
    /// Those of one row, and those that have equal values in the columns of their tables.
    On {
        /// Whether equal values of different tables are one group.
        scope: Scope,
        /// The tables that have grouping columns: the first that names a table counts. Tables that
        /// are not among them are grouped by key.
        tables: Vec<GroupColumns>,
    },
}

impl Default for Grouping {
    fn default() -> Self {
        Self::On { scope: Scope::Table, tables: Vec::new() }
    }
}

/// How far a group reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// One table, with its partitions.
    #[default]
    Table,
    /// All tables of the sink that have grouping columns.
    Sink,
}

/// The grouping columns of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupColumns {
    /// Which table.
    pub table: Table,
    /// Their names, unquoted, in the order in which values are compared. None: the table is grouped
    /// by key.
    pub columns: Vec<String>,
}

impl Grouping {
    /// The groups of a change at a log sink.
    pub(crate) fn of_event(&self, change: &Change) -> Groups {
        // A truncate keeps its place among the rows also where rows have no order among themselves.
        if change.operation == Operation::Truncate {
            return Groups::All;
        }
        if *self == Self::Off {
            return Groups::None;
        }
        let by_key = Groups::of(change);
        let Some(by_columns) = self.columns(&change.relation) else { return by_key };
        let (old, new) = by_columns.groups(change);
        // Equal keys have equal values then.
        if by_columns.within_key() && new.is_some() {
            return Groups::among([old, new, None, None]);
        }
        let mut rows = by_key.keys();
        Groups::among([rows.next(), rows.next(), old, new])
    }

    /// The groups of a change of this document at a state sink.
    pub(crate) fn of_document(&self, change: &Change, id: &str) -> Groups {
        if *self == Self::Off {
            return Groups::None;
        }
        let by_columns = self.columns(&change.relation);
        let (old, new) = by_columns.map_or((None, None), |columns| columns.groups(change));
        Groups::among([Some(GroupKey::of_document(id)), old, new, None])
    }

    /// What the owner should know about the order of rows of a table: code and text.
    pub(crate) fn doubt(&self, changes: &[Change]) -> Doubt {
        let Some(relation) = changes.first().map(|change| &*change.relation) else {
            return Doubt::Unasked;
        };
        let Some(columns) = self.columns(relation) else { return Doubt::Unasked };
        let table = format!("{}.{}", relation.schema, relation.table);
        let names = columns.names.join(", ");
        if columns.names.iter().any(|name| relation.column(name).is_none()) {
            let columns: Vec<_> = relation.columns.iter().map(|column| &*column.name).collect();
            let problem = format!(
                "{table} has no such grouping columns as ({names}), but ({}): its rows are grouped \
                 by key. Correct `group_column_names`",
                columns.join(", ")
            );
            return Doubt::Is { code: MISSING, table, problem };
        }
        let is_told = columns.within_key() || relation.identity == Identity::Full;
        let has_old =
            |change: &Change| matches!(change.operation, Operation::Update | Operation::Delete);
        if !is_told && changes.iter().any(has_old) {
            let problem = format!(
                "Postgres does not send the old values of ({names}) with updates and deletes of \
                 {table}: such a change keeps the order of its row and of the new group, but not \
                 that of the old one. To have that: REPLICA IDENTITY FULL on the table, or group by \
                 columns of its key"
            );
            return Doubt::Is { code: UNKNOWN, table, problem };
        }
        if is_told { Doubt::None { table } } else { Doubt::Unasked }
    }

    fn columns<'a>(&'a self, relation: &'a Relation) -> Option<ByColumns<'a>> {
        let Self::On { scope, tables } = self else { return None };
        let found = tables.iter().find(|columns| columns.table.is_of(relation))?;
        let within = (*scope == Scope::Table).then(|| relation.root_oid());
        let names = &*found.columns;
        (!names.is_empty()).then_some(ByColumns { relation, names, within })
    }
}

/// What is to be said about the order of rows of a table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// They have no grouping columns, or nothing depends on what is not known.
    Unasked,
    /// All is known.
    None { table: String },
    /// Something is not.
    Is { code: &'static str, table: String, problem: String },
}

/// The grouping columns of one version of a table.
struct ByColumns<'a> {
    relation: &'a Relation,
    names: &'a [String],
    /// The table within which values are compared; None: across tables.
    within: Option<u32>,
}

impl ByColumns<'_> {
    /// Whether a row's key tells its group.
    fn within_key(&self) -> bool {
        let is_key = |name: &String| {
            let index = self.relation.column(name);
            index.and_then(|index| self.relation.columns.get(index)).is_some_and(|it| it.key)
        };
        self.names.iter().all(is_key)
    }

    /// The group before the change, if it is known to have been another one, and after it.
    fn groups(&self, change: &Change) -> (Option<GroupKey>, Option<GroupKey>) {
        let old = match (&change.before, &change.after) {
            (Some(before), Some(_)) => self.group(before),
            _ => None,
        };
        (old, change.row().and_then(|row| self.group(row)))
    }

    fn group(&self, row: &Row) -> Option<GroupKey> {
        // In a row that is no more than its key, the other columns are null.
        let value = |name: &String| match row.value(self.relation.column(name)?) {
            Value::Text(text) => Some(text),
            Value::Null | Value::Unchanged => None,
        };
        let values: Option<Vec<&str>> = self.names.iter().map(value).collect();
        Some(GroupKey::of_values(self.within, values?))
    }
}

#[cfg(test)]
mod tests;
