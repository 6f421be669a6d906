//! Which changes a sink wants, by table and action.

use model::change::Operation;
use model::relation::{Ancestor, Relation};

/// A sink's choice of changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Schemas and tables.
    pub tables: Tables,
    /// Actions.
    pub actions: Actions,
}

/// Schemas and tables. A table must pass both pairs.
///
/// A partition that Postgres publishes under its own name is also known by the names of the tables
/// above it: one of its names must be let in, and none kept out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Schemas.
    pub schemas: Names,
    /// Tables.
    pub tables: Names<Table>,
}

/// A table as somebody chose it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Table {
    /// Whichever has the name.
    Named {
        /// Its schema.
        schema: String,
        /// Its name in it.
        table: String,
    },
    /// This one, whatever its name is or will be.
    Oid(u32),
}

/// What a sink's choice says of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Wanted by its own name or oid.
    Wanted,
    /// Wanted as a partition of the table that is its ancestor of this index.
    Inherited(usize),
    /// Not among those that are let in.
    NotIncluded,
    /// Kept out.
    Excluded,
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
        matches!(self.choice(relation), Choice::Wanted | Choice::Inherited(_))
    }

    /// What it says of the table.
    #[must_use]
    pub fn choice(&self, relation: &Relation) -> Choice {
        let Tables { schemas, tables } = &self.tables;
        let own = Known { oid: relation.oid, schema: &relation.schema, table: &relation.table };
        let ancestors = relation.ancestors.iter();
        let ancestors =
            ancestors.map(|Ancestor { oid, schema, table }| Known { oid: *oid, schema, table });
        let excluded = |known: Known<'_>| {
            schemas.exclude(|name| **name == *known.schema) || tables.exclude(|it| it.is(known))
        };
        if excluded(own) || ancestors.clone().any(excluded) {
            return Choice::Excluded;
        }
        let included = |known: Known<'_>| {
            schemas.include(|name| **name == *known.schema) && tables.include(|it| it.is(known))
        };
        if included(own) {
            return Choice::Wanted;
        }
        ancestors.map(included).position(|it| it).map_or(Choice::NotIncluded, Choice::Inherited)
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

/// One of the tables that a relation is known as.
#[derive(Clone, Copy)]
struct Known<'a> {
    oid: u32,
    schema: &'a str,
    table: &'a str,
}

impl Table {
    /// Whether this is the table, or one that it is a partition of.
    pub(crate) fn is_of(&self, relation: &Relation) -> bool {
        let own = Known { oid: relation.oid, schema: &relation.schema, table: &relation.table };
        let ancestors = relation.ancestors.iter();
        let mut ancestors =
            ancestors.map(|Ancestor { oid, schema, table }| Known { oid: *oid, schema, table });
        self.is(own) || ancestors.any(|known| self.is(known))
    }

    fn is(&self, known: Known<'_>) -> bool {
        match self {
            Self::Named { schema, table } => schema == known.schema && table == known.table,
            Self::Oid(oid) => *oid == known.oid,
        }
    }
}

impl<T> Names<T> {
    fn include(&self, matches: impl Fn(&T) -> bool) -> bool {
        match self {
            Self::All | Self::Except(_) => true,
            Self::Only(names) => names.iter().any(matches),
        }
    }

    fn exclude(&self, matches: impl Fn(&T) -> bool) -> bool {
        match self {
            Self::All | Self::Only(_) => false,
            Self::Except(names) => names.iter().any(matches),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::relation::Identity;

    use super::*;

    fn relation(oid: u32, schema: &str, table: &str) -> Relation {
        let (schema, table) = (Arc::from(schema), Arc::from(table));
        let (ancestors, columns) = (Vec::new(), Vec::new());
        Relation {
            oid,
            schema,
            table,
            ancestors,
            identity: Identity::Default,
            columns,
            rendered: model::relation::Rendered::default(),
        }
    }

    fn named(schema: &str, table: &str) -> Table {
        Table::Named { schema: schema.to_owned(), table: table.to_owned() }
    }

    fn choice(schemas: Names, tables: Names<Table>, relation: &Relation) -> Choice {
        let selection =
            Selection { tables: Tables { schemas, tables }, actions: Actions::default() };
        selection.choice(relation)
    }

    #[test]
    fn exactly_the_chosen_tables_are_wanted() {
        use Choice::{Excluded, NotIncluded, Wanted};
        let poi = || named("public", "poi");
        let check = |schemas: Names, tables, schema, table, expected| {
            assert_eq!(choice(schemas, tables, &relation(1, schema, table)), expected);
        };
        check(Names::All, Names::All, "a", "b", Wanted);
        check(Names::All, Names::Only(vec![poi()]), "public", "poi", Wanted);
        check(Names::All, Names::Only(vec![poi()]), "other", "poi", NotIncluded);
        check(Names::All, Names::Except(vec![poi()]), "public", "poi", Excluded);
        check(Names::Only(vec!["x".into()]), Names::All, "public", "poi", NotIncluded);
        check(Names::Except(vec!["x".into()]), Names::All, "public", "poi", Wanted);
        check(Names::Except(vec!["x".into()]), Names::Only(vec![poi()]), "x", "poi", Excluded);
    }

    #[test]
    fn b079_an_oid_is_a_table_whatever_its_name() {
        let check = |tables, oid| choice(Names::All, tables, &relation(oid, "any", "name"));
        assert_eq!(check(Names::Only(vec![Table::Oid(7)]), 7), Choice::Wanted);
        assert_eq!(check(Names::Only(vec![Table::Oid(7)]), 8), Choice::NotIncluded);
        assert_eq!(check(Names::Except(vec![Table::Oid(7)]), 7), Choice::Excluded);
        assert_eq!(
            check(Names::Only(vec![Table::Oid(7), named("any", "name")]), 8),
            Choice::Wanted
        );
    }

    #[test]
    fn b085_a_partition_goes_where_the_tables_above_it_go() {
        let mut leaf = relation(3, "parts", "leaf");
        leaf.ancestors = [(2, "middle"), (1, "root")]
            .map(|(oid, table)| Ancestor { oid, schema: "public".into(), table: table.into() })
            .into();
        let tables = |tables| choice(Names::All, tables, &leaf);
        let root = || named("public", "root");
        assert_eq!(tables(Names::Only(vec![root()])), Choice::Inherited(1));
        assert_eq!(tables(Names::Only(vec![Table::Oid(2)])), Choice::Inherited(0));
        assert_eq!(tables(Names::Only(vec![root(), named("parts", "leaf")])), Choice::Wanted);
        assert_eq!(tables(Names::Except(vec![root()])), Choice::Excluded);
        assert_eq!(tables(Names::Only(vec![named("parts", "root")])), Choice::NotIncluded);
        let schemas = |schemas| choice(schemas, Names::Only(vec![root()]), &leaf);
        assert_eq!(schemas(Names::Only(vec!["public".into()])), Choice::Inherited(1));
        assert_eq!(schemas(Names::Only(vec!["parts".into()])), Choice::NotIncluded);
        assert_eq!(schemas(Names::Except(vec!["parts".into()])), Choice::Excluded);
    }
}
