//! A table with a column of each kind, rows of it, and outcomes as text.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::change::{Operation, Transaction};
use model::lsn::Lsn;
use model::page::{Builder, Extent, RowSpan};
use model::plugin::{Document, Fate, Outcome, PluginError, Rows};
use model::position::Position;
use model::relation::{Column, Identity, Kind, Relation, Rendered};

/// The columns: name, kind, Postgres' name of the type. The first is the key.
pub(crate) const COLUMNS: [(&str, Kind, &str); 7] = [
    ("id", Kind::Integer, "int8"),
    ("say", Kind::Text, "text"),
    ("flag", Kind::Boolean, "bool"),
    ("ratio", Kind::Float, "float8"),
    ("wide", Kind::Text, "numeric"),
    ("tree", Kind::Json, "jsonb"),
    ("raw", Kind::Bytes, "bytea"),
];

/// What stands in a column.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cell {
    Null,
    Unchanged,
    Text(&'static str),
}

pub(crate) use Cell::{Null, Text, Unchanged};

pub(crate) type Cells = [Cell; COLUMNS.len()];

/// A change and its rows.
#[derive(Clone)]
pub(crate) struct Change {
    pub(crate) operation: Operation,
    pub(crate) position: (u64, u64),
    pub(crate) row: Cells,
    pub(crate) extent: Extent,
    pub(crate) before: Option<Cells>,
    pub(crate) annotations: Option<&'static str>,
}

/// An inserted row that says something and has otherwise only its key.
pub(crate) fn said(say: &'static str) -> Change {
    insert([Text("1"), Text(say), Null, Null, Null, Null, Null])
}

pub(crate) fn insert(row: Cells) -> Change {
    Change {
        operation: Operation::Insert,
        position: (0x16_B374_D848, 0),
        row,
        extent: Extent::Full,
        before: None,
        annotations: None,
    }
}

pub(crate) fn all_said(says: &[&'static str]) -> Vec<Change> {
    says.iter().map(|say| said(say)).collect()
}

/// Rows of `public.all`.
pub(crate) fn rows(changes: &[Change]) -> Rows {
    rows_of("public", "all", changes)
}

pub(crate) fn rows_of(schema: &str, table: &str, changes: &[Change]) -> Rows {
    let column = |(name, kind, type_name): (&str, Kind, &str)| Column {
        name: name.into(),
        kind,
        type_name: type_name.into(),
        key: name == "id",
    };
    let relation = Arc::new(Relation {
        oid: 16_384,
        schema: schema.into(),
        table: table.into(),
        ancestors: Vec::new(),
        identity: Identity::Default,
        columns: COLUMNS.map(column).into(),
        rendered: Rendered::default(),
    });
    let mut builder = Builder::default();
    for change in changes {
        let before = change.before.map(|cells| build(&mut builder, &cells, Extent::Full));
        let row = build(&mut builder, &change.row, change.extent);
        let (before, after) = match change.operation {
            Operation::Delete => (Some(row), None),
            _ => (before, Some(row)),
        };
        let (lsn, ordinal) = change.position;
        let transaction = Transaction::new(Lsn(lsn), 700, COMMITTED_AT_US);
        builder.annotate(change.annotations.map(Arc::from).as_ref());
        let position = Position::new(Lsn(lsn), ordinal);
        let (relation, transaction) = (Arc::clone(&relation), Arc::new(transaction));
        builder.change(position, change.operation, relation, transaction, before, after);
    }
    Rows { relation, changes: builder.finish() }
}

/// When every transaction was committed: before 1970, and as far as a JavaScript Number is exact.
pub(crate) const COMMITTED_AT_US: i64 = -9_007_199_254_740_991;

fn build(builder: &mut Builder, cells: &Cells, extent: Extent) -> RowSpan {
    let first = builder.begin_row();
    for cell in cells {
        match cell {
            Null => builder.null(),
            Unchanged => builder.unchanged(),
            Text(text) => {
                let write = |out: &mut String| {
                    out.push_str(text);
                    Ok::<_, ()>(())
                };
                builder.value(write).unwrap();
            }
        }
    }
    builder.end_row(first, extent)
}

/// What a patch sets, as JSON by name.
pub(crate) fn set(outcome: &Result<Outcome, PluginError>) -> BTreeMap<String, String> {
    let Ok(Outcome::Set(patch)) = outcome else { panic!("not columns: {outcome:?}") };
    let json = |column: &model::plugin::SetColumn| {
        let mut json = String::new();
        column.write_json(&mut json, patch.row);
        (column.name.to_string(), json)
    };
    patch.set().map(json).collect()
}

/// Each outcome as text, without the stack of a trap.
pub(crate) fn told(outcomes: &[Result<Outcome, PluginError>]) -> Vec<String> {
    let document = |document: &Document| format!("{:?} {}", document.effect, document.json);
    let one = |outcome: &Result<Outcome, PluginError>| match outcome {
        Ok(Outcome::Set(patch)) => {
            let only = patch.only.as_ref().map(|only| format!("only {} ", only.join(",")));
            let absent =
                if matches!(patch.fate("say"), Fate::Absent) { " without say" } else { "" };
            format!("{}{:?}{absent}", only.unwrap_or_default(), set(outcome))
        }
        Ok(Outcome::Replace(one)) => document(one),
        Ok(Outcome::Many(many)) => many.iter().map(document).collect::<Vec<_>>().join(", "),
        Ok(other) => format!("{other:?}"),
        Err(error) => {
            format!("{}: {}", error.fault.as_str(), error.message.lines().next().unwrap())
        }
    };
    outcomes.iter().map(one).collect()
}
