//! One row, as plugins see it.
//!
//! A view onto the columns of a batch; nothing is copied. A column that was not asked for, or
//! that the table does not have, is an error and never a null.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::DeserializeSeed;

use crate::bindings::types::{self, Presence};
use crate::view::{Seen, Side, View};
use crate::{Error, reads};

/// One row's change.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    view: &'a View<'a>,
    side: &'a Side<'a>,
    index: usize,
}

/// One column of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Field<'a> {
    /// Its name.
    pub name: &'a str,
    /// Postgres' name of its type.
    pub type_name: &'a str,
    /// Whether it belongs to the table's key.
    pub key: bool,
    /// What it has for this row.
    pub value: Value<Datum<'a>>,
}

/// What one column has for one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<T> {
    /// This value.
    Known(T),
    /// SQL null.
    Null,
    /// Not sent: TOAST that an update did not touch, or a column outside the key in the old row of
    /// a delete. It is not null; it is not known.
    Unchanged,
}

/// A value of any type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Datum<'a> {
    /// A boolean.
    Bool(bool),
    /// A 64-bit integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// Text, and what has no type of its own here: numeric, uuid, dates.
    Text(&'a str),
    /// A JSON document: json, jsonb, arrays.
    Json(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
}

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A new row.
    Insert,
    /// A changed row.
    Update,
    /// A removed row: the columns hold what is known of the old one.
    Delete,
    /// Found by a backfill.
    Read,
}

/// Where a change stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// LSN of its transaction's commit record.
    pub commit_lsn: u64,
    /// Its number in the transaction, from 0.
    pub ordinal: u64,
}

impl<'a> Row<'a> {
    pub(crate) fn new(view: &'a View<'a>, index: usize) -> Self {
        Self { view, side: &view.new, index }
    }

    /// The schema of its table.
    #[must_use]
    pub fn schema(&self) -> &'a str {
        &self.view.batch.schema
    }

    /// Its table.
    #[must_use]
    pub fn table(&self) -> &'a str {
        &self.view.batch.table
    }

    /// What happened to it.
    #[must_use]
    pub fn action(&self) -> Action {
        match self.view.batch.actions[self.index] {
            types::Action::Insert => Action::Insert,
            types::Action::Update => Action::Update,
            types::Action::Delete => Action::Delete,
            types::Action::Read => Action::Read,
        }
    }

    /// Where the change stands.
    #[must_use]
    pub fn position(&self) -> Position {
        let types::Position { commit_lsn, ordinal } = self.view.batch.positions[self.index];
        Position { commit_lsn, ordinal }
    }

    /// The row before the update, of the columns asked for with [`Reads::old`](crate::Reads::old).
    /// What Postgres did not send of it, which without REPLICA IDENTITY FULL is nearly everything,
    /// is [`Value::Unchanged`].
    #[must_use]
    pub fn old(&self) -> Self {
        Self { side: &self.view.old, ..*self }
    }

    /// When its transaction was committed, in whole microseconds since 1970; None if the engine
    /// does not know. To be asked for as [`COMMIT_TIMESTAMP`](crate::COMMIT_TIMESTAMP).
    ///
    /// # Errors
    /// If it was not asked for.
    pub fn commit_timestamp(&self) -> Result<Option<i64>, Error> {
        Ok(self.metadata().int(reads::COMMIT_TIMESTAMP)?.known())
    }

    /// The JSON document that the transaction was annotated with; None if it was not. To be asked
    /// for as [`TRANSACTION_ANNOTATIONS`](crate::TRANSACTION_ANNOTATIONS).
    ///
    /// # Errors
    /// If it was not asked for, or is not of the form of `T`.
    pub fn transaction_annotations<T: Deserialize<'a>>(&self) -> Result<Option<T>, Error> {
        Ok(self.metadata().json(reads::TRANSACTION_ANNOTATIONS)?.known())
    }

    /// What names this change at every attempt and after every restart; None if the engine has no
    /// such name. To be asked for as [`IDEMPOTENCY_KEY`](crate::IDEMPOTENCY_KEY).
    ///
    /// # Errors
    /// If it was not asked for.
    pub fn idempotency_key(&self) -> Result<Option<&'a str>, Error> {
        Ok(self.metadata().text(reads::IDEMPOTENCY_KEY)?.known())
    }

    /// What the sink's `enrichment` found for the row: a JSON object with a field per column of its
    /// SQL. [`Value::Null`] if it found nothing, as for a row that is gone by then, or if the sink
    /// has no enrichment. To be asked for as [`ENRICHMENT`](crate::ENRICHMENT).
    ///
    /// # Errors
    /// If it was not asked for, the engine has no enrichments, or it is not of the form of `T`.
    pub fn enrichment<T: Deserialize<'a>>(&self) -> Result<Value<T>, Error> {
        self.enrichment_seed(PhantomData)
    }

    /// The same by a seed, which knows what to look for and need not build anything.
    ///
    /// # Errors
    /// As for [`Row::enrichment`].
    pub fn enrichment_seed<S: DeserializeSeed<'a>>(
        &self,
        seed: S,
    ) -> Result<Value<S::Value>, Error> {
        let metadata = self.metadata();
        if !metadata.has(reads::ENRICHMENT) {
            return Err(Error::new(
                "the enrichment was not handed over: the plugin did not ask for it with \
                 `Reads::metadata`, or the engine is of a version that has none",
            ));
        }
        metadata.json_seed(reads::ENRICHMENT, seed)
    }

    /// What is known of the change beside its row, by the names asked for with
    /// [`Reads::metadata`](crate::Reads::metadata).
    fn metadata(&self) -> Self {
        Self { side: &self.view.metadata, ..*self }
    }

    /// The columns that were asked for and that the table has, in the table's order if all were
    /// asked for.
    pub fn columns(&self) -> impl Iterator<Item = Field<'a>> + use<'a> {
        let index = self.index;
        self.side.columns().iter().map(move |seen| Field {
            name: &seen.column.name,
            type_name: &seen.column.type_name,
            key: seen.column.key,
            value: value(seen, index),
        })
    }

    /// One column with all that is known of it: what several of the calls below tell, in one.
    ///
    /// # Errors
    /// If there is no such column.
    pub fn field(&self, column: &str) -> Result<Field<'a>, Error> {
        let seen = self.find(column)?;
        Ok(Field {
            name: &seen.column.name,
            type_name: &seen.column.type_name,
            key: seen.column.key,
            value: value(seen, self.index),
        })
    }

    /// Whether the table has the column and it was asked for.
    #[must_use]
    pub fn has(&self, column: &str) -> bool {
        self.side.find(column).is_some()
    }

    /// Postgres' name of the column's type.
    ///
    /// # Errors
    /// If there is no such column.
    pub fn type_name(&self, column: &str) -> Result<&'a str, Error> {
        Ok(&self.find(column)?.column.type_name)
    }

    /// Whether the column belongs to the table's key.
    ///
    /// # Errors
    /// If there is no such column.
    pub fn is_key(&self, column: &str) -> Result<bool, Error> {
        Ok(self.find(column)?.column.key)
    }

    /// The value of any type.
    ///
    /// # Errors
    /// If there is no such column.
    pub fn get(&self, column: &str) -> Result<Value<Datum<'a>>, Error> {
        Ok(value(self.find(column)?, self.index))
    }

    /// The value of a boolean column.
    ///
    /// # Errors
    /// If there is no such column, or it is of another type.
    pub fn bool(&self, column: &str) -> Result<Value<bool>, Error> {
        self.typed(column, "a boolean", |datum| match datum {
            Datum::Bool(value) => Some(value),
            _ => None,
        })
    }

    /// The value of a column of whole numbers.
    ///
    /// # Errors
    /// If there is no such column, or it is of another type.
    pub fn int(&self, column: &str) -> Result<Value<i64>, Error> {
        self.typed(column, "an integer", |datum| match datum {
            Datum::Int(value) => Some(value),
            _ => None,
        })
    }

    /// The value of a float column.
    ///
    /// # Errors
    /// If there is no such column, or it is of another type.
    pub fn float(&self, column: &str) -> Result<Value<f64>, Error> {
        self.typed(column, "a float", |datum| match datum {
            Datum::Float(value) => Some(value),
            _ => None,
        })
    }

    /// The value of a column that comes as text: text, numeric, uuid, dates.
    ///
    /// # Errors
    /// If there is no such column, or it is of another type.
    pub fn text(&self, column: &str) -> Result<Value<&'a str>, Error> {
        self.typed(column, "a text", |datum| match datum {
            Datum::Text(value) => Some(value),
            _ => None,
        })
    }

    /// The value of a JSON or array column as it stands.
    ///
    /// # Errors
    /// If there is no such column, or it is of another type.
    pub fn json_text(&self, column: &str) -> Result<Value<&'a str>, Error> {
        self.typed(column, "JSON", |datum| match datum {
            Datum::Json(value) => Some(value),
            _ => None,
        })
    }

    /// The value of a JSON or array column, read into `T`. A struct with the fields of interest,
    /// borrowed where they can be, is read three times as fast as a `serde_json::Value`.
    ///
    /// # Errors
    /// If there is no such column, it is of another type, or the JSON is not of this form.
    pub fn json<T: Deserialize<'a>>(&self, column: &str) -> Result<Value<T>, Error> {
        self.json_seed(column, PhantomData)
    }

    /// The same by a seed, which knows what to look for and need not build anything.
    ///
    /// # Errors
    /// As for [`Row::json`].
    pub fn json_seed<S: DeserializeSeed<'a>>(
        &self,
        column: &str,
        seed: S,
    ) -> Result<Value<S::Value>, Error> {
        Ok(match self.json_text(column)? {
            Value::Null => Value::Null,
            Value::Unchanged => Value::Unchanged,
            Value::Known(text) => {
                let mut json = serde_json::Deserializer::from_str(text);
                let read = seed.deserialize(&mut json);
                let read = read.and_then(|value| json.end().map(|()| value));
                // Only the class and place: serde's own text quotes the value.
                Value::Known(read.map_err(|error| {
                    let (class, line, at) = (error.classify(), error.line(), error.column());
                    let what = "is not of the form expected";
                    Error::column(
                        column,
                        format!("its JSON {what} ({class:?} error at line {line} column {at})"),
                    )
                })?)
            }
        })
    }

    /// The value of a `bytea` column.
    ///
    /// # Errors
    /// If there is no such column, or it is of another type.
    pub fn bytes(&self, column: &str) -> Result<Value<&'a [u8]>, Error> {
        self.typed(column, "bytes", |datum| match datum {
            Datum::Bytes(value) => Some(value),
            _ => None,
        })
    }

    fn typed<T>(
        &self,
        column: &str,
        wanted: &str,
        read: impl FnOnce(Datum<'a>) -> Option<T>,
    ) -> Result<Value<T>, Error> {
        let seen = self.find(column)?;
        match value(seen, self.index) {
            Value::Null => Ok(Value::Null),
            Value::Unchanged => Ok(Value::Unchanged),
            Value::Known(datum) => read(datum).map(Value::Known).ok_or_else(|| {
                let type_name = &seen.column.type_name;
                Error::column(column, format!("it is of type {type_name}, not {wanted}"))
            }),
        }
    }

    fn find(&self, name: &str) -> Result<&'a Seen<'a>, Error> {
        self.side.find(name).ok_or_else(|| {
            let (schema, table) = (self.schema(), self.table());
            Error::new(format!(
                "table {schema}.{table} has no column {name}, or it was not asked for"
            ))
        })
    }
}

fn value<'a>(seen: &Seen<'a>, row: usize) -> Value<Datum<'a>> {
    match seen.presence(row) {
        Presence::Value => Value::Known(seen.datum(row)),
        Presence::Null => Value::Null,
        // A batch has no `absent`; what is not there is not known.
        Presence::Unchanged | Presence::Absent => Value::Unchanged,
    }
}

impl Datum<'_> {
    /// Appends the value as the engine writes it in JSON: floats that JSON does not have as texts of
    /// their names, bytes as the text `\\x` and hexadecimal digits.
    pub fn push_json(&self, out: &mut String) {
        match self {
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Int(value) => push(out, format_args!("{value}")),
            Self::Float(value) if value.is_finite() => push(out, format_args!("{value:?}")),
            Self::Float(value) if value.is_nan() => out.push_str(r#""NaN""#),
            Self::Float(value) if *value > 0.0 => out.push_str(r#""Infinity""#),
            Self::Float(_) => out.push_str(r#""-Infinity""#),
            Self::Text(value) => push_text(out, value),
            Self::Json(value) => out.push_str(value),
            Self::Bytes(value) => {
                out.push_str(r#""\\x"#);
                for byte in *value {
                    push(out, format_args!("{byte:02x}"));
                }
                out.push('"');
            }
        }
    }
}

fn push(out: &mut String, value: fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let written = fmt::Write::write_fmt(out, value);
    debug_assert!(written.is_ok());
}

fn push_text(out: &mut String, text: &str) {
    // Nor does writing a text as JSON.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

impl<T> Value<T> {
    /// The value, if there is one: null and not sent are the same to the caller.
    pub fn known(self) -> Option<T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Null | Self::Unchanged => None,
        }
    }

    /// The value, or None for null. A value that was not sent is an error of `column`: what is not
    /// known is not guessed.
    ///
    /// # Errors
    /// If the value was not sent.
    pub fn sent(self, column: &str) -> Result<Option<T>, Error> {
        match self {
            Self::Known(value) => Ok(Some(value)),
            Self::Null => Ok(None),
            Self::Unchanged => Err(Error::unchanged(column)),
        }
    }

    /// Makes something else of the value, if there is one.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Value<U> {
        match self {
            Self::Known(value) => Value::Known(make(value)),
            Self::Null => Value::Null,
            Self::Unchanged => Value::Unchanged,
        }
    }
}
