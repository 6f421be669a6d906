//! Which changes a sink wants, by table and action.

use model::change::Operation;
use model::relation::Relation;

/// A sink's choice of changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Schemas and tables.
    pub tables: Tables,
    /// Actions.
    pub actions: Actions,
}

/// Schemas and tables by name. A table must pass both pairs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Schemas.
    pub schemas: Names,
    /// Tables.
    pub tables: Names<Table>,
}

/// A table by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its schema.
    pub schema: String,
    /// Its name in it.
    pub table: String,
}

/// A set of names that is let in or kept out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Names<T = String> {
    /// Every name.
    #[default]
    All,
    /// These only.
    Only(Vec<T>),
    /// All but these.
    Except(Vec<T>),
}

/// Which actions a sink wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actions {
    /// Inserts.
    pub insert: bool,
    /// Updates.
    pub update: bool,
    /// Deletes.
    pub delete: bool,
    /// Truncates. Not unless asked for: the predecessor's consumers know no such message.
    pub truncate: bool,
}

impl Default for Actions {
    fn default() -> Self {
        Self { insert: true, update: true, delete: true, truncate: false }
    }
}

impl Selection {
    /// Whether a sink with this choice wants changes of the table at all.
    #[must_use]
    pub fn wants_table(&self, relation: &Relation) -> bool {
        let schemas = self.tables.schemas.admit(|name| **name == *relation.schema);
        let tables = self
            .tables
            .tables
            .admit(|name| *name.schema == *relation.schema && *name.table == *relation.table);
        schemas && tables
    }

    /// Whether it wants the action. Backfill reads are always asked for.
    #[must_use]
    pub fn wants(&self, operation: Operation) -> bool {
        match operation {
            Operation::Insert => self.actions.insert,
            Operation::Update => self.actions.update,
            Operation::Delete => self.actions.delete,
            Operation::Read => true,
            Operation::Truncate => self.actions.truncate,
        }
    }
}

impl<T> Names<T> {
    fn admit(&self, matches: impl Fn(&T) -> bool) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.iter().any(matches),
            Self::Except(names) => !names.iter().any(matches),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::relation::Identity;

    use super::*;

    fn relation(schema: &str, table: &str) -> Relation {
        let (schema, table) = (Arc::from(schema), Arc::from(table));
        Relation { oid: 1, schema, table, identity: Identity::Default, columns: Vec::new() }
    }

    #[test]
    fn exactly_the_chosen_tables_are_wanted() {
        let poi = || Table { schema: "public".to_owned(), table: "poi".to_owned() };
        let check = |schemas: Names, tables, schema, table| {
            let selection =
                Selection { tables: Tables { schemas, tables }, actions: Actions::default() };
            selection.wants_table(&relation(schema, table))
        };
        assert!(check(Names::All, Names::All, "a", "b"));
        assert!(check(Names::All, Names::Only(vec![poi()]), "public", "poi"));
        assert!(!check(Names::All, Names::Only(vec![poi()]), "other", "poi"));
        assert!(!check(Names::All, Names::Except(vec![poi()]), "public", "poi"));
        assert!(!check(Names::Only(vec!["x".into()]), Names::All, "public", "poi"));
        assert!(check(Names::Except(vec!["x".into()]), Names::All, "public", "poi"));
    }
}
