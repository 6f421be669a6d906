//! One row, as plugins see it.
//!
//! A view onto the columns of a batch; nothing is copied. A column that was not asked for in
//! `columns`, or that the table does not have, is an error and never a null.

use crate::Error;
use crate::bindings::types::{self, Batch, Column, Data, Presence};

/// One row's change.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    batch: &'a Batch,
    columns: &'a [Column],
    index: usize,
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
    pub(crate) fn new(batch: &'a Batch, index: usize) -> Self {
        Self { batch, columns: &batch.columns, index }
    }

    /// The schema of its table.
    #[must_use]
    pub fn schema(&self) -> &'a str {
        &self.batch.schema
    }

    /// Its table.
    #[must_use]
    pub fn table(&self) -> &'a str {
        &self.batch.table
    }

    /// What happened to it.
    #[must_use]
    pub fn action(&self) -> Action {
        match self.batch.actions[self.index] {
            types::Action::Insert => Action::Insert,
            types::Action::Update => Action::Update,
            types::Action::Delete => Action::Delete,
            types::Action::Read => Action::Read,
        }
    }

    /// Where the change stands.
    #[must_use]
    pub fn position(&self) -> Position {
        let types::Position { commit_lsn, ordinal } = self.batch.positions[self.index];
        Position { commit_lsn, ordinal }
    }

    /// The row before the update, of the columns asked for in `old_columns`. What Postgres did not
    /// send of it, which without REPLICA IDENTITY FULL is nearly everything, is
    /// [`Value::Unchanged`].
    #[must_use]
    pub fn old(&self) -> Self {
        Self { columns: &self.batch.old, ..*self }
    }

    /// Whether the table has the column and it was asked for.
    #[must_use]
    pub fn has(&self, column: &str) -> bool {
        self.find(column).is_ok()
    }

    /// Postgres' name of the column's type.
    ///
    /// # Errors
    /// If there is no such column.
    pub fn type_name(&self, column: &str) -> Result<&'a str, Error> {
        Ok(&self.find(column)?.type_name)
    }

    /// The value of any type.
    ///
    /// # Errors
    /// If there is no such column.
    pub fn get(&self, column: &str) -> Result<Value<Datum<'a>>, Error> {
        let column = self.find(column)?;
        Ok(match column.presence[self.index] {
            Presence::Null => Value::Null,
            Presence::Unchanged => Value::Unchanged,
            Presence::Value => Value::Known(match &column.data {
                Data::Booleans(values) => Datum::Bool(values[self.index]),
                Data::Integers(values) => Datum::Int(values[self.index]),
                Data::Floats(values) => Datum::Float(values[self.index]),
                Data::Texts(values) => Datum::Text(&values[self.index]),
                Data::Json(values) => Datum::Json(&values[self.index]),
                Data::Bytes(values) => Datum::Bytes(&values[self.index]),
            }),
        })
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

    /// The value of a JSON or array column, read into `T`. A struct with the fields of interest is
    /// read three times as fast as a `serde_json::Value`.
    ///
    /// # Errors
    /// If there is no such column, it is of another type, or the JSON is not of this form.
    pub fn json<T: serde::Deserialize<'a>>(&self, column: &str) -> Result<Value<T>, Error> {
        Ok(match self.json_text(column)? {
            Value::Null => Value::Null,
            Value::Unchanged => Value::Unchanged,
            Value::Known(text) => Value::Known(serde_json::from_str(text).map_err(|error| {
                // Only the class and place: serde's own text quotes the value.
                let (line, at) = (error.line(), error.column());
                Error::new(format!(
                    "column {column} does not hold JSON of the form expected ({:?} error at line \
                     {line} column {at})",
                    error.classify()
                ))
            })?),
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
        match self.get(column)? {
            Value::Null => Ok(Value::Null),
            Value::Unchanged => Ok(Value::Unchanged),
            Value::Known(datum) => read(datum).map(Value::Known).ok_or_else(|| {
                let type_name = self.type_name(column).unwrap_or("unknown");
                Error::new(format!("column {column} is of type {type_name}, not {wanted}"))
            }),
        }
    }

    fn find(&self, name: &str) -> Result<&'a Column, Error> {
        self.columns.iter().find(|column| column.name == name).ok_or_else(|| {
            let Batch { schema, table, .. } = self.batch;
            Error::new(format!(
                "table {schema}.{table} has no column {name}, or it was not asked for"
            ))
        })
    }
}

impl<T> Value<T> {
    /// The value, if there is one: null and not sent are the same to the caller.
    pub fn known(self) -> Option<T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Null | Self::Unchanged => None,
        }
    }
}
