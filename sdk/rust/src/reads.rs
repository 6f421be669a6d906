//! What a plugin reads of which tables.
//!
//! Columns that are not named here never cross the boundary, which is most of what a call costs.

use crate::bindings::lifecycle;

/// The metadata column of [`Row::commit_timestamp`](crate::Row::commit_timestamp).
pub const COMMIT_TIMESTAMP: &str = "commit_timestamp";
/// The metadata column of
/// [`Row::transaction_annotations`](crate::Row::transaction_annotations).
pub const TRANSACTION_ANNOTATIONS: &str = "transaction_annotations";
/// The metadata column of [`Row::idempotency_key`](crate::Row::idempotency_key).
pub const IDEMPOTENCY_KEY: &str = "idempotency_key";
/// The metadata column of [`Row::enrichment`](crate::Row::enrichment).
pub const ENRICHMENT: &str = "enrichment";

/// Every table, or every column.
const ALL: &str = "*";

/// What a plugin wants handed to it: of every table the same, or of some tables only.
///
/// ```
/// use sequin_plugin::{COMMIT_TIMESTAMP, Reads};
///
/// // Of every table.
/// let simple = Reads::columns(["name"]);
/// // Of two tables; the rows of others pass without a look at them.
/// let poi = Reads::columns(["name", "lang"]).old(["lang"]).of_table("public.poi");
/// let tables = poi.and(Reads::all().metadata([COMMIT_TIMESTAMP]).of_table("public.hotel"));
/// assert!(tables.covers("public", "hotel") && !tables.covers("public", "user"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    tables: Vec<Table>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Table {
    name: String,
    columns: Vec<String>,
    old: Vec<String>,
    metadata: Vec<String>,
}

impl Reads {
    /// These columns of every table. Of those that a table does not have, an access is an error.
    pub fn columns<T: AsRef<str>>(columns: impl IntoIterator<Item = T>) -> Self {
        let name = ALL.to_owned();
        let mut table = Table { name, columns: vec![], old: vec![], metadata: vec![] };
        add(&mut table.columns, columns);
        Self { tables: vec![table] }
    }

    /// All columns of every table, whatever they are.
    #[must_use]
    pub fn all() -> Self {
        Self::columns([ALL])
    }

    /// No column of any table: the plugin is called, and sees what happened where.
    #[must_use]
    pub fn nothing() -> Self {
        Self::columns([""; 0])
    }

    /// No table: the plugin is never called. Something to begin with for [`Reads::and`].
    #[must_use]
    pub fn no_table() -> Self {
        Self::default()
    }

    /// Of the row before an update, these columns too, for [`Row::old`](crate::Row::old).
    #[must_use]
    pub fn old<T: AsRef<str>>(mut self, columns: impl IntoIterator<Item = T> + Clone) -> Self {
        for table in &mut self.tables {
            add(&mut table.old, columns.clone());
        }
        self
    }

    /// These columns of metadata too: [`COMMIT_TIMESTAMP`], [`TRANSACTION_ANNOTATIONS`],
    /// [`IDEMPOTENCY_KEY`], [`ENRICHMENT`].
    #[must_use]
    pub fn metadata<T: AsRef<str>>(mut self, names: impl IntoIterator<Item = T> + Clone) -> Self {
        for table in &mut self.tables {
            add(&mut table.metadata, names.clone());
        }
        self
    }

    /// The same of this table only, named `schema.table`.
    #[must_use]
    pub fn of_table(self, name: impl Into<String>) -> Self {
        let name = name.into();
        let tables = self.tables.into_iter();
        tables.fold(Self::default(), |all, table| {
            all.and(Self { tables: vec![Table { name: name.clone(), ..table }] })
        })
    }

    /// Both. A table that has an entry of its own is not one of `every table`.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for table in other.tables {
            match self.tables.iter_mut().find(|known| known.name == table.name) {
                Some(known) => {
                    add(&mut known.columns, &table.columns);
                    add(&mut known.old, &table.old);
                    add(&mut known.metadata, &table.metadata);
                }
                None => self.tables.push(table),
            }
        }
        self
    }

    /// Whether the plugin is called with rows of this table.
    #[must_use]
    pub fn covers(&self, schema: &str, table: &str) -> bool {
        self.table(schema, table).is_some()
    }

    /// Whether this column of the new row is asked for.
    pub(crate) fn wants(&self, schema: &str, table: &str, part: Part, column: &str) -> bool {
        self.table(schema, table).is_some_and(|table| {
            let names = match part {
                Part::New => &table.columns,
                Part::Old => &table.old,
                Part::Metadata => &table.metadata,
            };
            names.iter().any(|name| name == ALL || name == column)
        })
    }

    pub(crate) fn into_wit(self) -> Vec<lifecycle::Reads> {
        let reads = |table: Table| {
            let Table { name, columns, old, metadata } = table;
            lifecycle::Reads { table: name, columns, old_columns: old, metadata }
        };
        self.tables.into_iter().map(reads).collect()
    }

    fn table(&self, schema: &str, table: &str) -> Option<&Table> {
        let is = |name: &str| {
            name.strip_prefix(schema).and_then(|rest| rest.strip_prefix('.')) == Some(table)
        };
        let named = self.tables.iter().find(|table| is(&table.name));
        named.or_else(|| self.tables.iter().find(|table| table.name == ALL))
    }
}

/// Of what a batch consists.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    New,
    Old,
    Metadata,
}

/// Adds the names that are not there yet.
fn add<T: AsRef<str>>(names: &mut Vec<String>, more: impl IntoIterator<Item = T>) {
    for name in more {
        if !names.iter().any(|known| known == name.as_ref()) {
            names.push(name.as_ref().to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_named_once_and_comes_before_every_table() {
        let reads = Reads::columns(["a", "b", "a"])
            .and(Reads::columns(["c"]).old(["d"]).of_table("public.t"))
            .and(Reads::columns(["e"]).metadata([IDEMPOTENCY_KEY]).of_table("public.t"))
            .and(Reads::columns(["b", "f"]));
        let wit = reads.clone().into_wit();
        assert_eq!(wit.len(), 2);
        assert_eq!((wit[0].table.as_str(), wit[0].columns.concat()), ("*", "abf".to_owned()));
        assert_eq!((wit[1].table.as_str(), wit[1].columns.concat()), ("public.t", "ce".to_owned()));
        assert_eq!(wit[1].old_columns, ["d"]);
        assert_eq!(wit[1].metadata, ["idempotency_key"]);
        assert!(reads.wants("public", "u", Part::New, "f"));
        assert!(!reads.wants("public", "t", Part::New, "f"), "it has an entry of its own");
        assert!(Reads::all().wants("public", "t", Part::New, "anything"));
        assert!(Reads::nothing().covers("public", "t") && !Reads::no_table().covers("public", "t"));
    }
}
