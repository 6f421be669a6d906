//! From changes to columns.
//!
//! Guarantees that only columns that the plugin asked for and the table has are handed over, that
//! texts are borrowed from their page, and that what is not known of a row is `unchanged`, never
//! null. A value that is not of its column's kind, which the source rules out, fails its row.

use model::change::{Change, Operation};
use model::message::idempotency_key;
use model::page::{Extent, Row, Value};
use model::relation::{Column, Kind, Relation};

use crate::bindings::{Action, Batch, ColumnIn, DataIn, Packed, Position, Presence};
use crate::reads::{Metadata, Reads};

/// A value that is not of its column's kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// Whose it is.
    pub(crate) row: usize,
    /// What is wrong with it.
    pub(crate) message: String,
}

/// Texts that a batch borrows and no page holds: the idempotency keys, if they are asked for.
pub(crate) fn keys(changes: &[Change], reads: &Reads) -> Vec<Box<str>> {
    if !reads.metadata.contains(&Metadata::IdempotencyKey) {
        return Vec::new();
    }
    changes.iter().map(|change| idempotency_key(change.position, 0)).collect()
}

/// The batch of these changes, each of which has a row, with their [`keys`].
pub(crate) fn batch<'a>(
    relation: &'a Relation,
    changes: &'a [Change],
    keys: &'a [Box<str>],
    reads: &Reads,
) -> (Batch<'a>, Vec<Malformed>) {
    let mut malformed = Vec::new();
    let mut columns = |indexes: &[usize], row: fn(&'a Change) -> Option<&'a Row>| {
        let column = |index: &usize| {
            let column = relation.columns.get(*index)?;
            let rows = changes.iter().map(row);
            Some(convert(column, *index, rows, reads.packed, &mut malformed))
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
        metadata: metadata(changes, keys, reads),
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
    packed: bool,
    malformed: &mut Vec<Malformed>,
) -> ColumnIn<'a> {
    let mut presence = Vec::with_capacity(rows.len());
    let texts = rows.map(|row| value(column, index, row));
    let mut filled = Filled { column, presence: &mut presence, malformed };
    let data = match column.kind {
        Kind::Text if packed => DataIn::PackedTexts(filled.packed(texts)),
        Kind::Json if packed => DataIn::PackedJson(filled.packed(texts)),
        Kind::Boolean => DataIn::Booleans(filled.values(texts, boolean)),
        Kind::Integer => DataIn::Integers(filled.values(texts, |text| text.parse().ok())),
        Kind::Float => DataIn::Floats(filled.values(texts, |text| text.parse().ok())),
        Kind::Text => DataIn::Texts(filled.values(texts, Some)),
        Kind::Json => DataIn::Json(filled.values(texts, Some)),
        Kind::Bytes => DataIn::Bytes(filled.values(texts, bytes)),
    };
    let Column { name, type_name, key, .. } = column;
    ColumnIn { name, type_name, key: *key, presence, data }
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
    fn packed<'a>(&mut self, texts: impl Iterator<Item = Value<'a>>) -> Packed {
        pack(texts.map(|value| {
            let (presence, text) = match value {
                Value::Null => (Presence::Null, ""),
                Value::Unchanged => (Presence::Unchanged, ""),
                Value::Text(text) => (Presence::Value, text),
            };
            self.presence.push(presence);
            text
        }))
    }

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

impl Packed {
    /// The text of a row ends here. A batch is far below 4 GiB: its rows are cut by bytes.
    fn end(&mut self) {
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
    }
}

/// What is known of changes beside their rows.
fn metadata<'a>(changes: &'a [Change], keys: &'a [Box<str>], reads: &Reads) -> Vec<ColumnIn<'a>> {
    let column = |name: &Metadata| {
        let (type_name, texts): (_, Vec<Option<&str>>) = match name {
            Metadata::CommitTimestamp => {
                let times = changes.iter().map(|change| change.transaction.committed_at_us);
                let data = DataIn::Integers(times.collect());
                let presence = vec![Presence::Value; changes.len()];
                return ColumnIn {
                    name: name.name(),
                    type_name: "int8",
                    key: false,
                    presence,
                    data,
                };
            }
            Metadata::TransactionAnnotations => {
                ("jsonb", changes.iter().map(|change| change.annotations.as_deref()).collect())
            }
            Metadata::Enrichment => {
                ("jsonb", changes.iter().map(|change| change.enrichment.as_deref()).collect())
            }
            Metadata::IdempotencyKey => ("text", keys.iter().map(|key| Some(&**key)).collect()),
        };
        let presence = texts.iter().map(|text| match text {
            Some(_) => Presence::Value,
            None => Presence::Null,
        });
        let presence = presence.collect();
        let texts = texts.into_iter().map(Option::unwrap_or_default);
        let data = match (name, reads.packed) {
            (Metadata::TransactionAnnotations | Metadata::Enrichment, true) => {
                DataIn::PackedJson(pack(texts))
            }
            (Metadata::TransactionAnnotations | Metadata::Enrichment, false) => {
                DataIn::Json(texts.collect())
            }
            (_, true) => DataIn::PackedTexts(pack(texts)),
            (_, false) => DataIn::Texts(texts.collect()),
        };
        ColumnIn { name: name.name(), type_name, key: false, presence, data }
    };
    reads.metadata.iter().map(column).collect()
}

fn pack<'a>(texts: impl Iterator<Item = &'a str>) -> Packed {
    let mut packed = Packed::default();
    for text in texts {
        packed.bytes.extend_from_slice(text.as_bytes());
        packed.end();
    }
    packed
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
            rendered: model::relation::Rendered::default(),
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
        let transaction = Transaction::new(model::lsn::Lsn(7), 1, 0);
        let position = model::position::Position::new(transaction.commit_lsn, 3);
        builder.change(position, operation, relation(), Arc::new(transaction), before, after);
        builder.finish()
    }

    fn all() -> Reads {
        Reads { columns: (0..6).collect(), ..Reads::default() }
    }

    #[test]
    fn each_kind_becomes_its_type() {
        let relation = relation();
        let texts = TEXTS.map(|(_, text)| Some(text));
        let changes = change(Operation::Insert, Extent::Full, &[texts]);
        let (batch, malformed) = batch(&relation, &changes, &[], &all());
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
            let (batch, _) = batch(&relation, changes, &[], &all());
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
    fn only_what_is_asked_for_is_handed_over() {
        let relation = relation();
        // `Text`, and of the old row `Integer`.
        let reads = Reads { columns: vec![3], old: vec![1], ..Reads::default() };
        let old = [None, Some("1"), None, Some("old"), None, None];
        let new = [None, Some("2"), None, Some("new"), None, None];
        let changes = change(Operation::Update, Extent::Full, &[old, new]);
        let (batch, _) = batch(&relation, &changes, &[], &reads);
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
            let (batch, malformed) = batch(&relation, &changes, &[], &all());
            assert_eq!(malformed.len(), wrong, "{text}: {malformed:?}");
            assert_eq!(batch.columns[0].presence, [Presence::Unchanged]);
        }
    }

    #[test]
    fn texts_go_in_one_piece_to_those_that_ask_for_it() {
        let relation = relation();
        let texts = TEXTS.map(|(_, text)| Some(text));
        let mut changes = change(Operation::Insert, Extent::Full, &[texts]);
        changes.extend(change(Operation::Insert, Extent::Full, &[[None; 6]]));
        changes.extend(change(Operation::Insert, Extent::Full, &[texts]));
        changes[1].annotations = Some("[7]".into());
        let reads = Reads {
            columns: vec![3, 4],
            metadata: vec![
                Metadata::CommitTimestamp,
                Metadata::TransactionAnnotations,
                Metadata::IdempotencyKey,
            ],
            packed: true,
            ..Reads::default()
        };
        let keys = keys(&changes, &reads);
        let (batch, malformed) = batch(&relation, &changes, &keys, &reads);
        assert_eq!(malformed, []);
        let packed = |text: &str, ends: [u32; 3]| Packed { bytes: text.into(), ends: ends.into() };
        assert_eq!(batch.columns[0].data, DataIn::PackedTexts(packed("1.101.10", [4, 4, 8])));
        assert_eq!(batch.columns[1].data, DataIn::PackedJson(packed("[1][1]", [3, 3, 6])));
        let presence = [Presence::Value, Presence::Null, Presence::Value];
        assert_eq!(batch.columns[1].presence, presence);
        let [time, annotations, key] = &batch.metadata[..] else { panic!("{batch:?}") };
        assert_eq!(time.data, DataIn::Integers(vec![0; 3]));
        assert_eq!(annotations.data, DataIn::PackedJson(packed("[7]", [0, 3, 3])));
        assert_eq!(annotations.presence, [Presence::Null, Presence::Value, Presence::Null]);
        // base64 of `7:3`, three times.
        assert_eq!(key.data, DataIn::PackedTexts(packed("NzozNzozNzoz", [4, 8, 12])));
    }
}
