//! Tables as the stream defines them, completed by what only the catalog knows.
//!
//! Names, types and the replica identity come from the stream and belong to its place in it. The
//! catalog shows the present, so it is asked only for what the stream never says: whose partition a
//! table is, the primary key behind another identity, and what stands behind types that are not
//! built in.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use model::lsn::Lsn;
use model::relation::{Ancestor, Column, Identity, Relation};

use crate::lineage::Place;
use crate::pgoutput::Definition;
use crate::value::Form;
use crate::value::form::{TypeFact, builtin};

/// A table as rows need it.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) relation: Arc<Relation>,
    /// How each column's text is read.
    pub(crate) forms: Vec<Form>,
    /// Whether the log already says that a column had a value we could not read.
    pub(crate) warned: Vec<bool>,
}

/// What the catalog is to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Question {
    /// The tables that wait for the answer; their places among partitions are always asked for.
    pub(crate) waiting: Vec<u32>,
    /// Those of them whose primary key is needed.
    pub(crate) tables: Vec<u32>,
    /// Types that are not built in.
    pub(crate) types: Vec<u32>,
}

/// What the catalog said. A table or type that is gone is missing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Names of the primary key's columns by table.
    pub(crate) primary_keys: HashMap<u32, HashSet<String>>,
    /// The types asked for, and those they are made of.
    pub(crate) types: HashMap<u32, TypeFact>,
    /// Where the waiting tables stand.
    pub(crate) places: HashMap<u32, Place>,
    /// Whether rows of partitions may come under the partitions' own names: there are partitioned
    /// tables, and the publication does not publish via their roots.
    pub(crate) leaves_published: bool,
    /// The transaction that changed the publication last (`xmin` of its row), if it publishes via
    /// roots.
    pub(crate) via_root_since: Option<u32>,
    /// No transaction that these facts show committed behind this position.
    pub(crate) asked_at: Lsn,
}

impl Question {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds what is needed for a table.
    pub(crate) fn add(&mut self, definition: &Definition) {
        self.waiting.push(definition.oid);
        if !key_is_told(definition) {
            self.tables.push(definition.oid);
        }
        let types = definition.columns.iter().map(|column| column.type_oid);
        self.types.extend(types.filter(|oid| builtin(*oid).is_none()));
    }
}

/// Whether the stream itself tells the key. Under the default identity the primary key's columns
/// are the flagged ones, as of the row's own time; without any flag there may be a deferrable key.
/// Under the identity of an index they are the index': old rows carry nothing else, so nothing else
/// can tell one row's changes together.
pub(crate) fn key_is_told(definition: &Definition) -> bool {
    let told = matches!(definition.identity, Identity::Default | Identity::Index);
    told && definition.columns.iter().any(|column| column.identity)
}

impl Table {
    /// Completes a definition.
    pub(crate) fn new(definition: &Definition, facts: &Facts, ancestors: Vec<Ancestor>) -> Self {
        let key = key(definition, facts);
        let (columns, forms) = definition
            .columns
            .iter()
            .zip(key)
            .map(|(column, key)| {
                let (form, type_name) = Form::of(column.type_oid, &facts.types);
                let name = Arc::from(column.name.as_str());
                (Column { name, kind: form.kind(), type_name, key }, form)
            })
            .unzip::<_, _, Vec<_>, Vec<_>>();
        let warned = vec![false; columns.len()];
        let relation = Arc::new(Relation {
            rendered: model::relation::Rendered::default(),
            oid: definition.oid,
            schema: definition.schema.as_str().into(),
            table: definition.table.as_str().into(),
            ancestors,
            identity: definition.identity,
            columns,
        });
        Self { relation, forms, warned }
    }
}

/// Which columns are the key: what old rows are known by, else the primary key, else none.
fn key(definition: &Definition, facts: &Facts) -> Vec<bool> {
    let columns = &definition.columns;
    let flags = || columns.iter().map(|column| column.identity).collect();
    if key_is_told(definition) {
        return flags();
    }
    if let Some(names) = facts.primary_keys.get(&definition.oid) {
        let key: Vec<bool> = columns.iter().map(|column| names.contains(&column.name)).collect();
        // Half a key would let two rows pass for one: a column of it is not published, or has
        // another name by now.
        if key.iter().filter(|key| **key).count() == names.len() {
            return key;
        }
        tracing::warn!(
            schema = definition.schema,
            table = definition.table,
            "the primary key is not among the published columns, or a column of it was renamed \
             after these changes: they are delivered without a key"
        );
    }
    match definition.identity {
        Identity::Default | Identity::Index => flags(),
        Identity::Full | Identity::Nothing => vec![false; columns.len()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pgoutput::ColumnDefinition;

    fn definition(identity: Identity, flags: [bool; 2]) -> Definition {
        let columns = ["a", "b"].into_iter().zip(flags);
        let columns = columns.map(|(name, identity)| ColumnDefinition {
            name: name.to_owned(),
            type_oid: 23,
            type_modifier: -1,
            identity,
        });
        let (schema, table) = ("public".to_owned(), "t".to_owned());
        Definition { oid: 7, schema, table, identity, columns: columns.collect() }
    }

    fn check(identity: Identity, flags: [bool; 2], primary: Option<&[&str]>, expected: [bool; 2]) {
        let names = primary.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        let primary_keys = names.map(|names| (7, names)).into_iter().collect();
        let facts = Facts { primary_keys, ..Facts::default() };
        assert_eq!(key(&definition(identity, flags), &facts), expected, "{identity:?} {flags:?}");
    }

    #[test]
    fn b007_the_key_is_the_primary_key_or_the_identity_index() {
        use Identity::{Default, Full, Index, Nothing};
        check(Default, [true, false], Some(&["b"]), [true, false]); // the stream's own time wins
        check(Default, [false, false], Some(&["b"]), [false, true]); // deferrable key
        check(Default, [false, false], None, [false, false]);
        check(Index, [false, true], Some(&["a"]), [false, true]); // old rows carry the index alone
        check(Index, [false, true], None, [false, true]); // also b080: the table is gone
        check(Full, [true, true], Some(&["a", "b"]), [true, true]);
        check(Full, [true, true], None, [false, false]);
        check(Full, [true, true], Some(&["a", "renamed"]), [false, false]);
        check(Nothing, [false, false], Some(&["a"]), [true, false]);
    }

    #[test]
    fn b080_the_catalog_is_asked_only_for_what_the_stream_does_not_say() {
        let ask = |definition: &Definition| {
            let mut question = Question::default();
            assert!(question.is_empty());
            question.add(definition);
            question
        };
        let question = |tables, types| Question { waiting: vec![7], tables, types };
        let told = definition(Identity::Default, [true, false]);
        assert_eq!(ask(&told), question(vec![], vec![]), "but whose partition it is");
        assert_eq!(ask(&definition(Identity::Full, [true, true])), question(vec![7], vec![]));
        let mut custom = told;
        custom.columns[1].type_oid = 99_999;
        assert_eq!(ask(&custom), question(vec![], vec![99_999]));
    }
}
