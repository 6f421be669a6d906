//! The document of a row in a state sink: its record, with a text `id`.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::envelope::{Fields, record_fields};
use crate::json::{self, Timestamps};
use crate::page::{Row, Value};
use crate::plugin::Patch;
use crate::relation::Relation;

/// The field that names a document.
const ID: &str = "id";

/// A document and its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// What the destination knows it by.
    pub id: Box<str>,
    /// JSON object whose `id` is that text.
    pub json: Box<str>,
}

/// Why a row or a transform's result is no document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Neither an `id` nor a key.
    #[error("the document has no `id`, and table {table} has no primary key to make one from")]
    NoId {
        /// The table.
        table: String,
    },
    /// The transform did not return a JSON object with a usable `id`.
    #[error("the transform must return a JSON object whose `id` is a text or a number: {reason}")]
    NotADocument {
        /// What is wrong with it.
        reason: String,
    },
}

/// The document of a row. Its id is the key, which every change of the row knows, also a delete:
/// the value of a single column, or the values of several joined so that different keys never
/// collide. Only a table without a key is known by its column `id`.
///
/// # Errors
/// The row has no identity.
pub fn of_row(
    relation: &Relation,
    row: &Row,
    patch: Option<&Patch>,
    timestamps: Timestamps,
) -> Result<Document, DocumentError> {
    let id = id_of_row(relation, row, patch)?;
    // Names and quotes beside the values: enough for nearly all, so that it does not grow step by step.
    let values = row.bytes();
    let mut text = String::with_capacity(values + values / 2 + 512);
    text.push('{');
    let mut fields = Fields::new(timestamps);
    fields.name(&mut text, ID);
    json::string(&mut text, &id);
    record_fields(&mut text, &mut fields, relation, row, patch, Some(ID));
    text.push('}');
    Ok(Document { id: id.into(), json: text.into() })
}

/// The document of a row whose fields are those of a JSON object. Its id is the row's, whatever `id`
/// the object has: a delete knows no other.
///
/// # Errors
/// The row has no identity, or it is no object.
pub fn of_object(
    relation: &Relation,
    row: &Row,
    patch: Option<&Patch>,
    object: &str,
) -> Result<Document, DocumentError> {
    let id = id_of_row(relation, row, patch)?;
    let mut fields = parse(object)?;
    fields.remove(ID);
    Ok(with_id(id, fields))
}

/// The document that a transform returned. A numeric `id` becomes text.
///
/// # Errors
/// It is not a JSON object with a usable `id`.
pub fn of_json(text: &str) -> Result<Document, DocumentError> {
    let mut object = parse(text)?;
    let given = object.remove(ID).ok_or_else(|| not("`id` is missing"))?.get();
    let id = match given.as_bytes().first() {
        Some(b'"') => serde_json::from_str::<String>(given).unwrap_or_default(),
        Some(b'-' | b'0'..=b'9') => given.to_owned(),
        _ => return Err(not("`id` is neither")),
    };
    if id.is_empty() {
        return Err(not("`id` is empty"));
    }
    Ok(with_id(id, object))
}

/// The fields of a JSON object. Raw values: what stands there is sent as it stands, no number is
/// rounded.
fn parse(text: &str) -> Result<BTreeMap<String, &RawValue>, DocumentError> {
    serde_json::from_str(text).map_err(|error| not(&error.to_string()))
}

fn not(reason: &str) -> DocumentError {
    DocumentError::NotADocument { reason: reason.to_owned() }
}

fn with_id(id: String, object: BTreeMap<String, &RawValue>) -> Document {
    let mut json = String::from("{");
    let mut fields = Fields::default();
    fields.name(&mut json, ID);
    json::string(&mut json, &id);
    for (name, value) in object {
        fields.name(&mut json, &name);
        json.push_str(value.get());
    }
    json.push('}');
    Document { id: id.into(), json: json.into() }
}

fn id_of_row(
    relation: &Relation,
    row: &Row,
    patch: Option<&Patch>,
) -> Result<String, DocumentError> {
    if let Some(set) = patch.and_then(|patch| patch.value(ID)) {
        let mut text = String::new();
        set.write_json(&mut text);
        return of_json(&format!("{{\"id\":{text}}}")).map(|document| document.id.into());
    }
    let key: Vec<&str> = relation
        .key()
        .map(|index| match row.value(index) {
            Value::Text(text) => text,
            Value::Null | Value::Unchanged => "",
        })
        .collect();
    match key.as_slice() {
        [] => id_column(relation, row),
        [""] => Err(DocumentError::NoId { table: relation.table.to_string() }),
        [single] => Ok((*single).to_owned()),
        several => {
            let escaped = several.iter().map(|part| part.replace('\\', "\\\\").replace(':', "\\:"));
            Ok(escaped.collect::<Vec<_>>().join(":"))
        }
    }
}

/// The column `id` of a table without a key.
fn id_column(relation: &Relation, row: &Row) -> Result<String, DocumentError> {
    match relation.column(ID).map(|index| row.value(index)) {
        Some(Value::Text(id)) if !id.is_empty() => Ok(id.to_owned()),
        Some(Value::Text(_) | Value::Null | Value::Unchanged) | None => {
            Err(DocumentError::NoId { table: relation.table.to_string() })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::change::Operation;
    use crate::sample::Cell::{self, Null, Text, Unchanged};
    use crate::sample::{change, relation};

    fn row_document(keys: &[&str], cells: [Cell; 4]) -> Result<Document, DocumentError> {
        let relation = relation(keys);
        let change = change(&relation, Operation::Insert, None, Some(cells));
        of_row(&relation, change.after.as_ref().unwrap(), None, Timestamps::Iso8601)
    }

    fn parsed(document: &Document) -> serde_json::Value {
        serde_json::from_str(&document.json).unwrap()
    }

    #[test]
    fn the_id_is_text_and_unchanged_values_are_left_out() {
        let cells = [Text("7"), Text("de"), Null, Unchanged];
        let document = row_document(&["id"], cells).unwrap();
        assert_eq!(&*document.id, "7");
        assert_eq!(parsed(&document), json!({"id": "7", "lang": "de", "name": null}));
    }

    #[test]
    fn b098_keys_of_several_columns_never_collide() {
        let key = |lang, name| {
            let cells = [Null, Text(lang), Text(name), Null];
            row_document(&["lang", "name"], cells).unwrap().id
        };
        assert_eq!(&*key("a", "b"), "a:b");
        assert_ne!(key("a:b", "c"), key("a", "b:c"));
        assert_ne!(key("a\\", ":b"), key("a", "\\:b"));
        assert_ne!(key("a\\:b", "c"), key("a\\", "b:c"));
    }

    #[test]
    fn the_key_names_the_document_even_beside_a_column_id() {
        let cells = || [Text("7"), Text("de"), Text("a"), Null];
        assert_eq!(&*row_document(&["lang"], cells()).unwrap().id, "de");
        assert_eq!(&*row_document(&["id", "lang"], cells()).unwrap().id, "7:de");
        let keyless = row_document(&[], cells()).unwrap();
        assert_eq!(&*keyless.id, "7", "only without a key");
        assert_eq!(parsed(&keyless)["name"], "a");
    }

    #[test]
    fn a_row_without_identity_is_no_document() {
        let error = row_document(&[], [Null, Text("a"), Null, Null]).unwrap_err();
        assert!(error.to_string().contains("table poi has no primary key"), "{error}");
    }

    #[test]
    fn a_transforms_document_keeps_its_text() {
        let document = of_json(r#"{"b": 1e400, "id": 12, "a": [1.10]}"#).unwrap();
        assert_eq!(&*document.id, "12");
        assert_eq!(&*document.json, r#"{"id":"12","a":[1.10],"b":1e400}"#);
        for bad in ["[]", "1", "{}", r#"{"id":null}"#, r#"{"id":""}"#, r#"{"id":{}}"#, "{"] {
            assert!(of_json(bad).is_err(), "{bad}");
        }
    }
}
