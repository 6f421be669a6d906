//! Messages without what is nobody's business: for recordings that leave the database's realm.
//!
//! Guarantees: of a table with rules no ruled value is left in the record, in the old values or in
//! the key; what is beside the row (enrichment, annotations of the transaction) goes unless it is
//! kept by name; and a rule for a column that the table lacks is an error, since a slip of the pen
//! must not publish a column.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use sha2::{Digest as _, Sha256};

/// What is done to a value. Null stays null, and what was not sent stays so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// It becomes null.
    Null,
    /// Another value of the type, the same for the same value within a recording, so that rows
    /// still refer to each other.
    Hash,
    /// Something of the same shape, without the letters and digits.
    Fake,
    /// As it is: for what would go otherwise.
    Keep,
}

/// The rules of one recording: for `schema.table`, or `*` for all others, what is done to which
/// column.
#[derive(Debug)]
pub struct Scrub {
    rules: BTreeMap<String, BTreeMap<String, Rule>>,
    /// Of this recording alone: else a list of likely values would undo the hashes.
    salt: [u8; 16],
}

/// Why a message cannot be scrubbed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScrubError {
    /// The rules are none.
    #[error("the rules are no object of tables with columns and null, hash, fake or keep: {0}")]
    Rules(String),
    /// It is no message with types.
    #[error("a message cannot be scrubbed: {0}")]
    Message(String),
    /// A column that is not there.
    #[error("there is a rule for the column `{column}`, which {table} does not have")]
    NoColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A value that cannot be hashed.
    #[error("`{column}` of {table} is of type {kind}, which has no hash: use `fake` or `null`")]
    NoHash {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Its type.
        kind: String,
    },
    /// A key that is null.
    #[error("`{column}` belongs to the key of {table} and cannot be null: use `hash`")]
    Key {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
}

/// What stands beside the row and is text of whoever wrote it.
const BESIDE: [&str; 2] = ["enrichment", "transaction_annotations"];

#[derive(Deserialize)]
struct Column {
    name: String,
    #[serde(rename = "type")]
    type_name: String,
    kind: String,
    key: bool,
}

/// The fields of an object in their order.
type Fields = serde_json::Map<String, Value>;

impl Scrub {
    /// Rules as JSON: `{"public.users": {"email": "hash", "name": "fake", "@enrichment": "keep"}}`.
    ///
    /// # Errors
    /// If they are none.
    pub fn new(rules: &str, salt: [u8; 16]) -> Result<Self, ScrubError> {
        let rules = serde_json::from_str(rules);
        Ok(Self { rules: rules.map_err(|error| ScrubError::Rules(error.to_string()))?, salt })
    }

    /// A message without what the rules forbid; as it is if its table has none.
    ///
    /// # Errors
    /// If it has no types, or the rules do not fit its table. It must not be used then.
    pub fn apply(&self, text: &str) -> Result<String, ScrubError> {
        let no = |error: serde_json::Error| ScrubError::Message(error.to_string());
        #[derive(Deserialize, Serialize)]
        struct Message<'a> {
            #[serde(borrow)]
            record: BTreeMap<String, &'a RawValue>,
            #[serde(borrow)]
            changes: Option<BTreeMap<String, &'a RawValue>>,
            action: String,
            metadata: Fields,
        }
        let mut message: Message<'_> = serde_json::from_str(text).map_err(no)?;
        let named = |name: &str| message.metadata.get(name).and_then(Value::as_str);
        let (Some(schema), Some(name)) = (named("table_schema"), named("table_name")) else {
            return Err(ScrubError::Message("it does not tell its table".to_owned()));
        };
        let table = format!("{schema}.{name}");
        let own = self.rules.get(&table);
        let Some(rules) = own.or_else(|| self.rules.get("*")) else {
            return Ok(text.to_owned());
        };
        let columns = message.metadata.get("columns").cloned().unwrap_or_default();
        let columns: Vec<Column> = serde_json::from_value(columns).map_err(no)?;
        let mut pks = message.metadata.remove("record_pks");
        let mut made: Vec<(bool, String, Box<RawValue>)> = Vec::new();
        for (column, rule) in rules {
            if column.starts_with('@') {
                continue;
            }
            let Some(known) = columns.iter().find(|known| known.name == *column) else {
                if own.is_none() {
                    continue;
                }
                return Err(ScrubError::NoColumn { table, column: column.clone() });
            };
            if known.key && *rule == Rule::Null {
                return Err(ScrubError::Key { table, column: column.clone() });
            }
            for (is_new, fields) in
                [(true, Some(&message.record)), (false, message.changes.as_ref())]
            {
                let Some(value) = fields.and_then(|fields| fields.get(column)) else { continue };
                let value: Value = serde_json::from_str(value.get()).map_err(no)?;
                let scrubbed = self.value(*rule, known, &value, &table)?;
                if is_new && known.key {
                    rekey(&mut pks, &value, &scrubbed);
                }
                made.push((is_new, column.clone(), to_raw_value(&scrubbed).map_err(no)?));
            }
        }
        for (is_new, column, value) in &made {
            let fields = if *is_new { Some(&mut message.record) } else { message.changes.as_mut() };
            if let Some(fields) = fields {
                fields.insert(column.clone(), value);
            }
        }
        if let Some(pks) = pks {
            message.metadata.insert("record_pks".to_owned(), pks);
        }
        for beside in BESIDE {
            let kept = rules.get(&format!("@{beside}")) == Some(&Rule::Keep);
            if !kept && let Some(value) = message.metadata.get_mut(beside) {
                *value = Value::Null;
            }
        }
        serde_json::to_string(&message).map_err(no)
    }

    fn value(
        &self,
        rule: Rule,
        column: &Column,
        value: &Value,
        table: &str,
    ) -> Result<Value, ScrubError> {
        if value.is_null() {
            return Ok(Value::Null);
        }
        let no_hash = || ScrubError::NoHash {
            table: table.to_owned(),
            column: column.name.clone(),
            kind: column.type_name.clone(),
        };
        match rule {
            Rule::Keep => Ok(value.clone()),
            Rule::Null => Ok(Value::Null),
            Rule::Fake => Ok(fake(column, value)),
            Rule::Hash => self.hash(column, value).ok_or_else(no_hash),
        }
    }

    fn hash(&self, column: &Column, value: &Value) -> Option<Value> {
        let mut digest = Sha256::new();
        digest.update(self.salt);
        digest.update(value.to_string());
        let hex: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let number = u64::from_str_radix(hex.get(..15)?, 16).ok()?;
        let part = |range| hex.get(range).unwrap_or_default();
        Some(match (&*column.kind, &*column.type_name) {
            // Never zero, and within what the type can hold; a JSON number is exact up to 2^53.
            ("integer", "int2") => Value::from(number % 32_767 + 1),
            ("integer", "int4") => Value::from(number % 2_147_483_647 + 1),
            ("integer", _) => Value::from(number % (1 << 53)),
            ("text", "uuid") => Value::from(format!(
                "{}-{}-4{}-8{}-{}",
                part(0..8),
                part(8..12),
                part(13..16),
                part(17..20),
                part(20..32)
            )),
            ("text", "numeric") => Value::from(number.to_string()),
            ("text", "text" | "varchar" | "bpchar" | "citext" | "name") => {
                Value::from(format!("h{}", part(0..16)))
            }
            ("bytes", _) => Value::from(format!("\\x{}", part(0..32))),
            _ => return None,
        })
    }
}

/// Something of the type and, for texts, of the same length.
fn fake(column: &Column, value: &Value) -> Value {
    let text = |text: &str| -> String {
        let mask = |letter: char| match letter {
            letter if letter.is_numeric() => '9',
            letter if letter.is_uppercase() => 'X',
            letter if letter.is_alphabetic() => 'x',
            other => other,
        };
        text.chars().map(mask).collect()
    };
    match (&*column.kind, &*column.type_name) {
        ("boolean", _) => Value::from(false),
        ("integer", _) => Value::from(1),
        ("float", _) => Value::from(1.5),
        ("bytes", _) => Value::from("\\x00"),
        ("json", name) if name.starts_with('_') => Value::from(Vec::<Value>::new()),
        ("json", _) => Value::Object(Fields::new()),
        (_, "date") => Value::from("2000-01-01"),
        (_, "timestamp") => Value::from("2000-01-01T00:00:00.000000"),
        (_, "timestamptz") => Value::from("2000-01-01T00:00:00.000000Z"),
        (_, "time" | "timetz") => Value::from("00:00:00"),
        (_, "uuid") => Value::from("00000000-0000-4000-8000-000000000000"),
        _ => value.as_str().map_or(Value::Null, |it| Value::from(text(it))),
    }
}

/// The same value in the key, which is a list of texts.
fn rekey(pks: &mut Option<Value>, value: &Value, scrubbed: &Value) {
    let as_text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let (from, to) = (as_text(value), as_text(scrubbed));
    for pk in pks.as_mut().and_then(Value::as_array_mut).into_iter().flatten() {
        if *pk == from {
            *pk = Value::from(to.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message() -> Value {
        let column = |name: &str, type_name: &str, kind: &str| json!({"name": name, "type": type_name, "kind": kind, "key": name == "id"});
        json!({
            "record": {"id": "anna", "age": 7, "name": "Anna-Lena 12", "born": "1990-02-03", "x": null},
            "changes": {"name": "Berta"}, "action": "update",
            "metadata": {
                "table_schema": "public", "table_name": "users", "record_pks": ["anna"],
                "enrichment": {"mail": "a@b"}, "transaction_annotations": {"by": "anna"},
                "columns": [column("id", "text", "text"), column("age", "int2", "integer"),
                    column("name", "text", "text"), column("born", "date", "text"),
                    column("x", "text", "text")],
            },
        })
    }

    fn scrubbed(rules: &Value, salt: u8) -> Result<Value, ScrubError> {
        let text = Scrub::new(&rules.to_string(), [salt; 16])?.apply(&message().to_string())?;
        Ok(serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn no_ruled_value_is_left() {
        let rules = json!({"public.users": {
            "id": "hash", "age": "hash", "name": "fake", "born": "null", "x": "hash",
        }});
        let found = scrubbed(&rules, 1).unwrap();
        let text = found.to_string();
        for gone in ["anna", "Anna", "Berta", "1990", "a@b"] {
            assert!(!text.contains(gone), "{gone} in {text}");
        }
        assert_eq!(found["record"]["name"], "Xxxx-Xxxx 99");
        assert_eq!(found["changes"]["name"], "Xxxxx");
        assert_eq!(found["metadata"]["record_pks"][0], found["record"]["id"]);
        assert_eq!((&found["record"]["born"], &found["record"]["x"]), (&Value::Null, &Value::Null));
        assert!((1..=32_767).contains(&found["record"]["age"].as_u64().unwrap()));
        assert_eq!(found, scrubbed(&rules, 1).unwrap(), "the same within a recording");
        assert_ne!(found["record"]["id"], scrubbed(&rules, 2).unwrap()["record"]["id"]);
    }

    #[test]
    fn what_is_not_ruled_stays_and_what_is_ruled_must_be_there() {
        assert_eq!(scrubbed(&json!({}), 1), Ok(message()));
        let kept = json!({"*": {"elsewhere": "null", "@enrichment": "keep"}});
        let found = scrubbed(&kept, 1).unwrap();
        assert_eq!(found["record"], message()["record"]);
        assert_eq!(found["metadata"]["enrichment"], message()["metadata"]["enrichment"]);
        assert_eq!(found["metadata"]["transaction_annotations"], Value::Null);
        for (rules, said) in [
            (json!({"public.users": {"nmae": "null"}}), "column `nmae`"),
            (json!({"public.users": {"born": "hash"}}), "no hash"),
            (json!({"public.users": {"id": "null"}}), "cannot be null"),
            (json!({"public.users": {"name": "sahh"}}), "the rules"),
        ] {
            let error = scrubbed(&rules, 1).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
