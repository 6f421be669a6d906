//! Changes read back from the messages that were made of them: the fixtures of plugins.
//!
//! A message that tells the types of its columns (`metadata.columns`, see
//! [`crate::envelope::Envelope::with_types`]) becomes the same change again. Without them a column's
//! kind is that of its JSON: a number is an integer or a float, an object or a list is JSON, and a
//! text a text, whatever it was in the database. Of the old row only what `changes` names is known.

use std::fmt;
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::change::{Change, Operation, Transaction};
use crate::lsn::Lsn;
use crate::page::{Builder, Extent, RowSpan};
use crate::position::Position;
use crate::relation::{Ancestor, Column, Identity, Kind, Relation, Rendered};

/// Reads messages one after another; equal tables share one relation.
#[derive(Debug, Default)]
pub struct Reader {
    relation: Option<Arc<Relation>>,
    /// Stands in for positions that messages do not tell.
    read: u64,
}

/// Why a text is no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no message of a change: {0}")]
pub struct NoMessage(String);

type Fields<'a> = Vec<(String, &'a RawValue)>;

impl Reader {
    /// The change of one message.
    ///
    /// # Errors
    /// If it is not JSON, or lacks `record`, `action`, `metadata.table_schema` or
    /// `metadata.table_name`.
    pub fn read(&mut self, message: &str) -> Result<Change, NoMessage> {
        let message = object(message)?;
        let required =
            |name: &str| field(&message, name).ok_or_else(|| no(format!("without `{name}`")));
        let record = object(required("record")?)?;
        let action = text(required("action")?)?;
        let metadata = object(required("metadata")?)?;
        let named = |name: &str| {
            let value = field(&metadata, name);
            text(value.ok_or_else(|| no(format!("without `metadata.{name}`")))?)
        };
        let (schema, table) = (named("table_schema")?, named("table_name")?);
        let operation = match action.as_str() {
            "insert" => Operation::Insert,
            "update" => Operation::Update,
            "delete" => Operation::Delete,
            "read" => Operation::Read,
            "truncate" => Operation::Truncate,
            other => return Err(no(format!("an action `{other}`"))),
        };
        let unchanged = match field(&metadata, "unchanged") {
            Some(names) => parse::<Vec<String>>(names)?,
            None => Vec::new(),
        };
        let changes = match field(&message, "changes") {
            None | Some("null") => Vec::new(),
            Some(changes) => object(changes)?,
        };
        let columns = match field(&metadata, "columns") {
            Some(columns) => told(columns)?,
            None => guessed(&record, &changes, &unchanged),
        };
        let relation = self.relation(schema, table, columns);
        self.read += 1;
        let number = |name: &str| field(&metadata, name).and_then(|text| text.parse::<u64>().ok());
        let commit_lsn = Lsn(number("commit_lsn").unwrap_or(self.read));
        let position = Position::new(commit_lsn, number("commit_idx").unwrap_or(0));
        let committed_at_us = field(&metadata, "commit_timestamp").and_then(microseconds);
        let committed_at_us = committed_at_us.unwrap_or_default();
        let transaction = Arc::new(Transaction::new(commit_lsn, 0, committed_at_us));
        let annotations =
            field(&metadata, "transaction_annotations").filter(|text| *text != "null");

        let mut builder = Builder::default();
        builder.annotate(annotations.map(Arc::from).as_ref());
        let (before, after) = match operation {
            Operation::Truncate => (None, None),
            Operation::Delete => {
                let extent = if only_key(&relation, &record) { Extent::Key } else { Extent::Full };
                (Some(row(&mut builder, &relation, &record, extent)?), None)
            }
            Operation::Insert | Operation::Update | Operation::Read => {
                let before = if changes.is_empty() {
                    None
                } else {
                    Some(row(&mut builder, &relation, &changes, Extent::Full)?)
                };
                (before, Some(row(&mut builder, &relation, &record, Extent::Full)?))
            }
        };
        builder.change(position, operation, relation, transaction, before, after);
        let enrichment = field(&metadata, "enrichment").filter(|text| *text != "null");
        let change = builder.finish().pop().ok_or_else(|| no("nothing in it"))?;
        Ok(Change { enrichment: enrichment.map(Arc::from), ..change })
    }

    /// The change of one message of a table that is known: as [`Reader::read`], and what `relation`
    /// (see [`table`]) says of the table beside.
    ///
    /// # Errors
    /// As of [`Reader::read`], or `relation` is not what [`table`] wrote.
    pub fn read_of(&mut self, message: &str, relation: &str) -> Result<Change, NoMessage> {
        let facts: Facts = parse(relation)?;
        let change = self.read(message)?;
        let mut relation = Relation::clone(&change.relation);
        relation.oid = facts.oid;
        relation.identity = match facts.identity {
            Some('i') => Identity::Index,
            Some('f') => Identity::Full,
            Some('n') => Identity::Nothing,
            _ => Identity::Default,
        };
        relation.ancestors = facts.above.into_iter().map(Above::ancestor).collect();
        Ok(Change { relation: Arc::new(relation), ..change })
    }

    fn relation(&mut self, schema: String, table: String, columns: Vec<Column>) -> Arc<Relation> {
        let (schema, table) = (schema.into(), table.into());
        let relation = Relation {
            oid: 0,
            schema,
            table,
            ancestors: Vec::new(),
            identity: Identity::Default,
            columns,
            rendered: Rendered::default(),
        };
        match &self.relation {
            Some(known) if **known == relation => Arc::clone(known),
            _ => Arc::clone(self.relation.insert(Arc::new(relation))),
        }
    }
}

/// What a message does not say of its table.
#[derive(serde::Serialize, serde::Deserialize)]
struct Facts {
    oid: u32,
    #[serde(default)]
    identity: Option<char>,
    #[serde(default)]
    above: Vec<Above>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Above {
    oid: u32,
    schema: String,
    table: String,
}

impl Above {
    fn ancestor(self) -> Ancestor {
        Ancestor { oid: self.oid, schema: self.schema.into(), table: self.table.into() }
    }
}

/// What a message does not say of its table, as JSON, for [`Reader::read_of`].
#[must_use]
pub fn table(relation: &Relation) -> String {
    let above = |above: &Ancestor| Above {
        oid: above.oid,
        schema: above.schema.to_string(),
        table: above.table.to_string(),
    };
    let identity = match relation.identity {
        Identity::Default => 'd',
        Identity::Index => 'i',
        Identity::Full => 'f',
        Identity::Nothing => 'n',
    };
    let above = relation.ancestors.iter().map(above).collect();
    let facts = Facts { oid: relation.oid, identity: Some(identity), above };
    serde_json::to_string(&facts).unwrap_or_default()
}

/// A row of these fields; a column that is not among them was not sent.
fn row(
    builder: &mut Builder,
    relation: &Relation,
    fields: &Fields<'_>,
    extent: Extent,
) -> Result<RowSpan, NoMessage> {
    let first = builder.begin_row();
    for column in &relation.columns {
        match field(fields, &column.name) {
            None => builder.unchanged(),
            Some("null") => builder.null(),
            Some(json) => builder.value(|out| {
                if json.starts_with('"') && column.kind != Kind::Json {
                    out.push_str(&text(json)?);
                } else {
                    out.push_str(json);
                }
                Ok(())
            })?,
        }
    }
    Ok(builder.end_row(first, extent))
}

/// Whether a deleted row is no more than its key: all else is null, which is what the message of a
/// delete under the default identity says.
fn only_key(relation: &Relation, record: &Fields<'_>) -> bool {
    let mut keys = 0;
    relation.columns.iter().all(|column| {
        keys += usize::from(column.key);
        column.key || field(record, &column.name).is_none_or(|value| value == "null")
    }) && keys > 0
}

fn told(columns: &str) -> Result<Vec<Column>, NoMessage> {
    let columns: Vec<&RawValue> = parse(columns)?;
    let column = |column: &RawValue| {
        let column = object(column.get())?;
        let wanted = |name: &str| {
            field(&column, name).ok_or_else(|| no(format!("`metadata.columns` without `{name}`")))
        };
        let kind = text(wanted("kind")?)?;
        let known = Kind::ALL.into_iter().find(|known| known.as_str() == kind);
        Ok(Column {
            name: text(wanted("name")?)?.into(),
            type_name: text(wanted("type")?)?.into(),
            kind: known.ok_or_else(|| no(format!("a column of kind `{kind}`")))?,
            key: wanted("key")? == "true",
        })
    };
    columns.into_iter().map(column).collect()
}

/// Columns as the JSON of a message has them.
fn guessed(record: &Fields<'_>, changes: &Fields<'_>, unchanged: &[String]) -> Vec<Column> {
    let mut columns: Vec<Column> = Vec::new();
    let given = record.iter().chain(changes).map(|(name, value)| (name.as_str(), value.get()));
    for (name, value) in given.chain(unchanged.iter().map(|name| (name.as_str(), "null"))) {
        if !columns.iter().any(|column| *column.name == *name) {
            let (kind, type_name) = guess(value);
            let (name, type_name) = (name.into(), type_name.into());
            columns.push(Column { name, kind, type_name, key: false });
        }
    }
    columns
}

fn guess(json: &str) -> (Kind, &'static str) {
    match json.bytes().next() {
        Some(b't' | b'f') => (Kind::Boolean, "bool"),
        Some(b'{' | b'[') => (Kind::Json, "jsonb"),
        Some(b'-' | b'0'..=b'9') if json.parse::<i64>().is_ok() => (Kind::Integer, "int8"),
        Some(b'-' | b'0'..=b'9') => (Kind::Float, "float8"),
        _ => (Kind::Text, "text"),
    }
}

fn microseconds(json: &str) -> Option<i64> {
    let time: jiff::Timestamp = text(json).ok()?.parse().ok()?;
    Some(time.as_microsecond())
}

fn field<'a>(fields: &Fields<'a>, name: &str) -> Option<&'a str> {
    fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.get())
}

fn text(json: &str) -> Result<String, NoMessage> {
    parse(json)
}

fn parse<'a, T: serde::Deserialize<'a>>(json: &'a str) -> Result<T, NoMessage> {
    serde_json::from_str(json).map_err(no)
}

fn no(reason: impl fmt::Display) -> NoMessage {
    NoMessage(reason.to_string())
}

/// The fields of an object in their order; None if it is none.
pub(crate) fn fields(json: &str) -> Option<Vec<(String, Box<RawValue>)>> {
    let fields = object(json).ok()?;
    Some(fields.into_iter().map(|(name, value)| (name, value.to_owned())).collect())
}

/// The fields of an object in their order, values as they stand.
fn object(json: &str) -> Result<Fields<'_>, NoMessage> {
    struct Object;
    impl<'de> serde::de::Visitor<'de> for Object {
        type Value = Fields<'de>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<M: serde::de::MapAccess<'de>>(
            self,
            mut map: M,
        ) -> Result<Self::Value, M::Error> {
            let mut fields = Vec::new();
            while let Some(field) = map.next_entry()? {
                fields.push(field);
            }
            Ok(fields)
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let fields = serde::Deserializer::deserialize_map(&mut deserializer, Object).map_err(no)?;
    deserializer.end().map_err(no)?;
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Consumer, Database, Envelope};
    use crate::page::{Row, Value};
    use crate::sample::Cell::{Null, Text, Unchanged};
    use crate::sample::{change, relation};

    fn envelope() -> Envelope {
        let consumer = Consumer { annotations: "{}", ..Consumer::default() };
        Envelope::new(&consumer, &Database { annotations: "{}", ..Database::default() })
    }

    fn message(envelope: &Envelope, change: &Change) -> String {
        let mut text = String::new();
        envelope.write(&mut text, change, None, &[]);
        text
    }

    fn values(row: Option<&Row>) -> Option<Vec<Value<'_>>> {
        row.map(|row| (0..4).map(|index| row.value(index)).collect())
    }

    #[test]
    fn a_message_with_types_becomes_the_same_change() {
        let relation = relation(&["id", "lang"]);
        let old = [Text("7"), Text("de"), Text("a\"\\ž"), Text("[1]")];
        let all = || [Text("7"), Text("de"), Text("a\"\\ž"), Text("[1]")];
        let key = [Text("7"), Text("de"), Null, Null];
        let mut annotated = change(&relation, Operation::Insert, None, Some(all()));
        annotated.annotations = Some("{\"by\": 7}".into());
        annotated.enrichment = Some("{\"stars\": [5, null]}".into());
        for change in [
            annotated,
            change(
                &relation,
                Operation::Read,
                None,
                Some([Text("-7"), Text(""), Null, Text("\"x\"")]),
            ),
            change(
                &relation,
                Operation::Update,
                None,
                Some([Text("7"), Text("null"), Unchanged, Null]),
            ),
            change(&relation, Operation::Delete, Some((Extent::Full, old)), None),
            change(&relation, Operation::Delete, Some((Extent::Key, key)), None),
            change(&relation, Operation::Truncate, None, None),
        ] {
            let text = message(&envelope().with_types(), &change);
            let found = Reader::default().read(&text).unwrap();
            assert_eq!(found.operation, change.operation);
            assert_eq!(found.position, change.position);
            assert_eq!(found.annotations, change.annotations);
            assert_eq!(found.enrichment, change.enrichment);
            assert_eq!(found.transaction.committed_at_us, change.transaction.committed_at_us);
            assert_eq!(found.relation.columns, relation.columns);
            assert_eq!(values(found.after.as_ref()), values(change.after.as_ref()), "{text}");
            assert_eq!(values(found.before.as_ref()), values(change.before.as_ref()), "{text}");
            let extent = |change: &Change| change.before.as_ref().map(Row::extent);
            assert_eq!(extent(&found), extent(&change));
            assert_eq!(message(&envelope().with_types(), &found), text, "and back");
        }
    }

    #[test]
    fn of_the_old_row_only_what_the_message_says_is_known() {
        let old = [Text("7"), Text("en"), Null, Text("[]")];
        let new = [Text("7"), Text("de"), Null, Text("[1]")];
        let relation = relation(&["id"]);
        let change = change(&relation, Operation::Update, Some((Extent::Full, old)), Some(new));
        let text = message(&envelope().with_types(), &change);
        let found = Reader::default().read(&text).unwrap();
        let expected = [Value::Unchanged, Value::Text("en"), Value::Unchanged, Value::Text("[]")];
        assert_eq!(values(found.before.as_ref()).unwrap(), expected);
    }

    #[test]
    fn without_types_columns_are_what_their_json_is() {
        let text = r#"{"record": {"a": true, "b": -1, "c": 1.5, "d": "1", "e": {"f": [1]}, "g": null,
            "h": 9223372036854775808}, "changes": {"d": "0"}, "action": "update",
            "metadata": {"table_schema": "s", "table_name": "t", "unchanged": ["i"]}}"#;
        let mut reader = Reader::default();
        let found = reader.read(text).unwrap();
        let kinds: Vec<_> = found.relation.columns.iter().map(|column| column.kind).collect();
        use Kind::{Boolean, Float, Integer, Json, Text};
        assert_eq!(kinds, [Boolean, Integer, Float, Text, Json, Text, Float, Text]);
        let after = found.after.as_ref().unwrap();
        assert_eq!(after.value(3), Value::Text("1"));
        assert_eq!(after.value(4), Value::Text("{\"f\": [1]}"));
        assert_eq!((after.value(5), after.value(7)), (Value::Null, Value::Unchanged));
        assert_eq!(found.before.as_ref().unwrap().value(3), Value::Text("0"));
        let again = reader.read(text).unwrap();
        assert!(Arc::ptr_eq(&again.relation, &found.relation));
        assert!(again.position > found.position, "each has a place of its own");
    }

    #[test]
    fn what_is_no_message_is_told() {
        for (text, reason) in [
            ("", "EOF"),
            ("[]", "expected an object"),
            ("{}", "without `record`"),
            (
                r#"{"record": {}, "action": "upsert", "metadata": {}}"#,
                "without `metadata.table_schema`",
            ),
            (
                r#"{"record": {}, "action": "x", "metadata": {"table_schema": "", "table_name": ""}}"#,
                "an action `x`",
            ),
            (r#"{"record": {}, "action": "insert", "metadata": {}} x"#, "trailing"),
        ] {
            let error = Reader::default().read(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
