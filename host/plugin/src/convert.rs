//! From changes to columns.
//!
//! Guarantees that only columns that the plugin asked for and the table has are handed over, that
//! texts are borrowed from their page, and that what is not known of a row is `unchanged`, never
//! null. A value that is not of its column's kind, which the source rules out, fails its row.

use model::change::{Change, Operation};
use model::page::{Extent, Row, Value};
use model::relation::{Column, Kind, Relation};

use crate::bindings::{Action, Batch, ColumnIn, DataIn, Position, Presence};

/// The columns of a relation that a plugin reads, by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reads {
    /// Of the new row, or of the old one of a delete.
    pub(crate) columns: Vec<usize>,
    /// Of the row before an update.
    pub(crate) old: Vec<usize>,
}

impl Reads {
    pub(crate) fn new(relation: &Relation, columns: &[String], old: &[String]) -> Self {
        let indexes = |names: &[String]| {
            names.iter().filter_map(|name| relation.column(name)).collect::<Vec<_>>()
        };
        Self { columns: indexes(columns), old: indexes(old) }
    }
}

/// A value that is not of its column's kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// Whose it is.
    pub(crate) row: usize,
    /// What is wrong with it.
    pub(crate) message: String,
}

/// The batch of these changes, each of which has a row.
pub(crate) fn batch<'a>(
    relation: &'a Relation,
    changes: &'a [Change],
    reads: &Reads,
) -> (Batch<'a>, Vec<Malformed>) {
    let mut malformed = Vec::new();
    let mut columns = |indexes: &[usize], row: fn(&'a Change) -> Option<&'a Row>| {
        let column = |index: &usize| {
            let column = relation.columns.get(*index)?;
            Some(convert(column, *index, changes.iter().map(row), &mut malformed))
        };
        indexes.iter().filter_map(column).collect()
    };
    let new = columns(&reads.columns, Change::row);
    let old = columns(&reads.old, |change| match change.operation {
        Operation::Update => change.before.as_ref(),
        // The old row of a delete is its row.
        Operation::Insert | Operation::Delete | Operation::Read | Operation::Truncate => None,
    });
    let batch = Batch {
        schema: &relation.schema,
        table: &relation.table,
        actions: changes.iter().map(|change| action(change.operation)).collect(),
        positions: changes.iter().map(|change| position(change.position)).collect(),
        columns: new,
        old,
    };
    (batch, malformed)
}

fn action(operation: Operation) -> Action {
    match operation {
        Operation::Insert => Action::Insert,
        Operation::Update => Action::Update,
        Operation::Delete => Action::Delete,
        // A truncate has no row and is cut out before.
        Operation::Read | Operation::Truncate => Action::Read,
    }
}

fn position(position: model::position::Position) -> Position {
    Position { commit_lsn: position.commit_lsn.0, ordinal: position.ordinal }
}

fn convert<'a>(
    column: &'a Column,
    index: usize,
    rows: impl ExactSizeIterator<Item = Option<&'a Row>>,
    malformed: &mut Vec<Malformed>,
) -> ColumnIn<'a> {
    let mut presence = Vec::with_capacity(rows.len());
    let texts = rows.map(|row| value(column, index, row));
    let mut filled = Filled { column, presence: &mut presence, malformed };
    let data = match column.kind {
        Kind::Boolean => DataIn::Booleans(filled.values(texts, boolean)),
        Kind::Integer => DataIn::Integers(filled.values(texts, |text| text.parse().ok())),
        Kind::Float => DataIn::Floats(filled.values(texts, |text| text.parse().ok())),
        Kind::Text => DataIn::Texts(filled.values(texts, Some)),
        Kind::Json => DataIn::Json(filled.values(texts, Some)),
        Kind::Bytes => DataIn::Bytes(filled.values(texts, bytes)),
    };
    ColumnIn { name: &column.name, type_name: &column.type_name, presence, data }
}

/// What is known of a column: of a row that is no more than its key, only key columns.
fn value<'a>(column: &Column, index: usize, row: Option<&'a Row>) -> Value<'a> {
    match row {
        None => Value::Unchanged,
        Some(row) if row.extent() == Extent::Key && !column.key => Value::Unchanged,
        Some(row) => row.value(index),
    }
}

struct Filled<'b, 'a> {
    column: &'a Column,
    presence: &'b mut Vec<Presence>,
    malformed: &'b mut Vec<Malformed>,
}

impl Filled<'_, '_> {
    fn values<'a, T: Default>(
        &mut self,
        texts: impl Iterator<Item = Value<'a>>,
        parse: impl Fn(&'a str) -> Option<T>,
    ) -> Vec<T> {
        let entry = |(row, value)| {
            let (presence, entry) = match value {
                Value::Null => (Presence::Null, None),
                Value::Unchanged => (Presence::Unchanged, None),
                Value::Text(text) => match parse(text) {
                    Some(value) => (Presence::Value, Some(value)),
                    None => {
                        let Column { name, kind, .. } = self.column;
                        let message = format!("the value of column {name} is no {kind:?}");
                        self.malformed.push(Malformed { row, message });
                        (Presence::Unchanged, None)
                    }
                },
            };
            self.presence.push(presence);
            entry.unwrap_or_default()
        };
        texts.enumerate().map(entry).collect()
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// `\x` and two hexadecimal digits per byte.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x")?.as_bytes();
    let (pairs, rest) = digits.as_chunks::<2>();
    let digit =
        |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |&[high, low]: &[u8; 2]| Some(digit(high)? << 4 | digit(low)?);
    rest.is_empty().then(|| pairs.iter().map(byte).collect())?
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::change::Transaction;
    use model::page::Builder;
    use model::relation::Identity;

    use super::*;

    const TEXTS: [(Kind, &str); 6] = [
        (Kind::Boolean, "true"),
        (Kind::Integer, "-9223372036854775808"),
        (Kind::Float, "-Infinity"),
        (Kind::Text, "1.10"),
        (Kind::Json, "[1]"),
        (Kind::Bytes, "\\x00fF"),
    ];

    fn relation() -> Arc<Relation> {
        let column = |(kind, _): (Kind, &str)| Column {
            name: format!("{kind:?}").into(),
            kind,
            type_name: "type".into(),
            key: kind == Kind::Boolean, // the first column
        };
        Arc::new(Relation {
            oid: 1,
            schema: "public".into(),
            table: "t".into(),
            ancestors: Vec::new(),
            identity: Identity::Default,
            columns: TEXTS.map(column).into(),
        })
    }

    /// Rows of these texts; a change has the last as its new row, and the first of two as its old.
    fn change(operation: Operation, extent: Extent, rows: &[[Option<&str>; 6]]) -> Vec<Change> {
        let mut builder = Builder::default();
        let mut spans = Vec::new();
        for row in rows {
            let first = builder.begin_row();
            for text in row {
                match text {
                    None => builder.null(),
                    Some("unchanged") => builder.unchanged(),
                    Some(text) => builder
                        .value(|out| {
                            out.push_str(text);
                            Ok::<_, ()>(())
                        })
                        .unwrap(),
                }
            }
            spans.push(builder.end_row(first, extent));
        }
        let (before, after) = match spans[..] {
            [row] if operation == Operation::Delete => (Some(row), None),
            [row] => (None, Some(row)),
            _ => (Some(spans[0]), Some(spans[1])),
        };
        let transaction =
            Transaction { commit_lsn: model::lsn::Lsn(7), xid: 1, committed_at_us: 0 };
        let position = model::position::Position::new(transaction.commit_lsn, 3);
        builder.change(position, operation, relation(), Arc::new(transaction), before, after);
        builder.finish()
    }

    fn all() -> Reads {
        Reads { columns: (0..6).collect(), old: Vec::new() }
    }

    #[test]
    fn each_kind_becomes_its_type() {
        let relation = relation();
        let texts = TEXTS.map(|(_, text)| Some(text));
        let changes = change(Operation::Insert, Extent::Full, &[texts]);
        let (batch, malformed) = batch(&relation, &changes, &all());
        assert_eq!(malformed, []);
        assert_eq!(batch.actions, [Action::Insert]);
        assert_eq!(batch.positions, [Position { commit_lsn: 7, ordinal: 3 }]);
        let data: Vec<&DataIn<'_>> = batch.columns.iter().map(|column| &column.data).collect();
        let expected = [
            DataIn::Booleans(vec![true]),
            DataIn::Integers(vec![i64::MIN]),
            DataIn::Floats(vec![f64::NEG_INFINITY]),
            DataIn::Texts(vec!["1.10"]),
            DataIn::Json(vec!["[1]"]),
            DataIn::Bytes(vec![vec![0, 0xff]]),
        ];
        assert_eq!(data, expected.iter().collect::<Vec<_>>());
        assert!(batch.columns.iter().all(|column| column.presence == [Presence::Value]));
    }

    #[test]
    fn what_is_not_known_is_unchanged_and_never_null() {
        let relation = relation();
        let presence = |changes: &[Change]| {
            let (batch, _) = batch(&relation, changes, &all());
            batch.columns.iter().map(|column| column.presence[0]).collect::<Vec<_>>()
        };
        let toast = [None, None, Some("unchanged"), None, Some("unchanged"), None];
        let found = presence(&change(Operation::Update, Extent::Full, &[toast]));
        use Presence::{Null, Unchanged, Value};
        assert_eq!(found, [Null, Null, Unchanged, Null, Unchanged, Null]);
        let key = [Some("true"), None, None, None, None, None];
        let found = presence(&change(Operation::Delete, Extent::Key, &[key]));
        assert_eq!(found, [Value, Unchanged, Unchanged, Unchanged, Unchanged, Unchanged]);
    }

    #[test]
    fn only_what_is_asked_for_and_exists_is_handed_over() {
        let relation = relation();
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let reads = Reads::new(&relation, &names(&["Text", "gone"]), &names(&["Integer"]));
        let old = [None, Some("1"), None, Some("old"), None, None];
        let new = [None, Some("2"), None, Some("new"), None, None];
        let changes = change(Operation::Update, Extent::Full, &[old, new]);
        let (batch, _) = batch(&relation, &changes, &reads);
        let [text] = &batch.columns[..] else { panic!("{batch:?}") };
        assert_eq!((text.name, &text.data), ("Text", &DataIn::Texts(vec!["new"])));
        let [old] = &batch.old[..] else { panic!("{batch:?}") };
        assert_eq!((old.name, &old.data), ("Integer", &DataIn::Integers(vec![1])));
    }

    #[test]
    fn a_value_that_is_not_of_its_kind_is_told() {
        let relation = relation();
        for (text, wrong) in [("t", 4), ("\\x0", 4), ("\\xgg", 4), ("1", 2)] {
            let changes = change(Operation::Insert, Extent::Full, &[[Some(text); 6]]);
            let (batch, malformed) = batch(&relation, &changes, &all());
            assert_eq!(malformed.len(), wrong, "{text}: {malformed:?}");
            assert_eq!(batch.columns[0].presence, [Presence::Unchanged]);
        }
    }
}
