//! Runs plugins over rows written down in a unit test, natively.
//!
//! ```
//! # use sequin_plugin::{Error, Output, Row, Transform, Value};
//! # struct Upper;
//! # #[derive(serde::Deserialize)]
//! # struct Config { column: String }
//! # impl Transform for Upper {
//! #     type Config = Config;
//! #     fn columns(config: &Config) -> Vec<String> { vec![config.column.clone()] }
//! #     fn transform(config: &Config, row: &Row<'_>, out: &mut Output) -> Result<(), Error> {
//! #         if let Value::Known(text) = row.text(&config.column)? {
//! #             out.set_text("upper", text.to_uppercase());
//! #         }
//! #         Ok(())
//! #     }
//! # }
//! use sequin_plugin::testing::{Cell, Outcome, row, transform};
//!
//! let rows = [row([("name", "abc".into())]), row([("name", Cell::Unchanged)])];
//! let outcomes = transform::<Upper>(r#"{"column": "name"}"#, &rows).unwrap();
//! assert_eq!(outcomes[0], Ok(Outcome::Set(vec![("upper".into(), "ABC".into())])));
//! assert_eq!(outcomes[1], Ok(Outcome::Keep));
//! ```

use crate::bindings::types::{self, Batch, Column, Data, Presence};
use crate::{Action, Error, Filter, Position, Transform, Verdict, role};

/// A literal row of the table `public.test`.
#[derive(Clone, Debug, PartialEq)]
pub struct Literal {
    /// What happened to it.
    pub action: Action,
    /// Where the change stands.
    pub position: Position,
    /// Its columns. One that no row has is one that the table does not have.
    pub columns: Vec<(String, Cell)>,
    /// The columns of the row before the update.
    pub old: Vec<(String, Cell)>,
}

/// What stands in one column of a literal row.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// SQL null.
    Null,
    /// Not sent.
    Unchanged,
    /// A boolean.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A float.
    Float(f64),
    /// A text.
    Text(String),
    /// A JSON document or an array.
    Json(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// What a transform made of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It goes on as it is.
    Keep,
    /// It goes on with these columns set, in this order.
    Set(Vec<(String, Cell)>),
    /// It is of no interest.
    Drop,
    /// It is outside the set.
    Evict,
    /// This JSON goes on in its place.
    Replace(String),
    /// These go on in its place.
    Many(Vec<String>),
}

/// An inserted row.
pub fn row<'a>(columns: impl IntoIterator<Item = (&'a str, Cell)>) -> Literal {
    Literal {
        action: Action::Insert,
        position: Position { commit_lsn: 1, ordinal: 0 },
        columns: columns.into_iter().map(|(name, cell)| (name.to_owned(), cell)).collect(),
        old: Vec::new(),
    }
}

/// A JSON cell.
pub fn json(text: &str) -> Cell {
    Cell::Json(text.to_owned())
}

impl Literal {
    /// The same row, updated from this one.
    #[must_use]
    pub fn updated<'a>(mut self, old: impl IntoIterator<Item = (&'a str, Cell)>) -> Self {
        self.action = Action::Update;
        self.old = old.into_iter().map(|(name, cell)| (name.to_owned(), cell)).collect();
        self
    }
}

/// Configures a filter and runs it over the rows, all in one batch.
///
/// # Errors
/// What the plugin has against the configuration.
pub fn filter<T: Filter>(
    config: &str,
    rows: &[Literal],
) -> Result<Vec<Result<Verdict, Error>>, String> {
    let config = role::parse::<T::Config>(config)?;
    T::check(&config).map_err(Error::into_text)?;
    let batch = batch(rows, &T::columns(&config), &T::old_columns(&config));
    let reply = role::filter::<T>(&config, &batch);
    let outcome = |(row, verdict): (usize, &types::Verdict)| match verdict {
        types::Verdict::Keep => Ok(Verdict::Keep),
        types::Verdict::Drop => Ok(Verdict::Drop),
        types::Verdict::Evict => Ok(Verdict::Evict),
        _ => Err(Error::new(texts(&reply.errors, row).concat())),
    };
    Ok(reply.verdicts.iter().enumerate().map(outcome).collect())
}

/// Configures a transform and runs it over the rows, all in one batch.
///
/// # Errors
/// What the plugin has against the configuration.
pub fn transform<T: Transform>(
    config: &str,
    rows: &[Literal],
) -> Result<Vec<Result<Outcome, Error>>, String> {
    let config = role::parse::<T::Config>(config)?;
    T::check(&config).map_err(Error::into_text)?;
    let batch = batch(rows, &T::columns(&config), &T::old_columns(&config));
    let reply = role::transform::<T>(&config, &batch);
    let outcome = |(row, verdict): (usize, &types::Verdict)| match verdict {
        types::Verdict::Keep => {
            let set: Vec<_> = reply.columns.iter().filter_map(|column| cell(column, row)).collect();
            Ok(if set.is_empty() { Outcome::Keep } else { Outcome::Set(set) })
        }
        types::Verdict::Drop => Ok(Outcome::Drop),
        types::Verdict::Evict => Ok(Outcome::Evict),
        types::Verdict::Replace => Ok(Outcome::Replace(texts(&reply.documents, row).concat())),
        types::Verdict::Many => Ok(Outcome::Many(texts(&reply.documents, row))),
        types::Verdict::Error => Err(Error::new(texts(&reply.errors, row).concat())),
    };
    Ok(reply.verdicts.iter().enumerate().map(outcome).collect())
}

impl From<bool> for Cell {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Cell {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Cell {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for Cell {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

fn texts(list: &[(u32, String)], row: usize) -> Vec<String> {
    list.iter().filter(|(of, _)| *of as usize == row).map(|(_, text)| text.clone()).collect()
}

/// The batch that the host would make of the rows.
fn batch(rows: &[Literal], names: &[String], old: &[String]) -> Batch {
    let columns = |names: &[String], of: fn(&Literal) -> &Vec<(String, Cell)>| {
        names.iter().filter_map(|name| column(name, rows.iter().map(of))).collect()
    };
    Batch {
        schema: "public".to_owned(),
        table: "test".to_owned(),
        actions: rows
            .iter()
            .map(|row| match row.action {
                Action::Insert => types::Action::Insert,
                Action::Update => types::Action::Update,
                Action::Delete => types::Action::Delete,
                Action::Read => types::Action::Read,
            })
            .collect(),
        positions: rows
            .iter()
            .map(|Literal { position: Position { commit_lsn, ordinal }, .. }| types::Position {
                commit_lsn: *commit_lsn,
                ordinal: *ordinal,
            })
            .collect(),
        columns: columns(names, |row| &row.columns),
        old: columns(old, |row| &row.old),
    }
}

/// The column of this name, of the type that the first value has; none if no row has it.
fn column<'a>(
    name: &str,
    rows: impl Iterator<Item = &'a Vec<(String, Cell)>> + Clone,
) -> Option<Column> {
    let cells = rows.map(|row| row.iter().find(|(of, _)| of == name).map(|(_, cell)| cell));
    cells.clone().flatten().next()?;
    let cells: Vec<&Cell> = cells.map(|cell| cell.unwrap_or(&Cell::Unchanged)).collect();
    let valued = |cell: &&&Cell| !matches!(cell, Cell::Null | Cell::Unchanged);
    macro_rules! data {
        ($case:ident, $cell:ident, $type_name:literal) => {{
            let values = cells.iter().map(|cell| match cell {
                Cell::$cell(value) => value.clone(),
                Cell::Null | Cell::Unchanged => Default::default(),
                other => panic!("column {name} holds {other:?} among values of another type"),
            });
            (Data::$case(values.collect()), $type_name)
        }};
    }
    let (data, type_name) = match cells.iter().find(valued) {
        Some(Cell::Bool(_)) => data!(Booleans, Bool, "bool"),
        Some(Cell::Int(_)) => data!(Integers, Int, "int8"),
        Some(Cell::Float(_)) => data!(Floats, Float, "float8"),
        Some(Cell::Json(_)) => data!(Json, Json, "jsonb"),
        Some(Cell::Bytes(_)) => data!(Bytes, Bytes, "bytea"),
        Some(Cell::Text(_) | Cell::Null | Cell::Unchanged) | None => data!(Texts, Text, "text"),
    };
    let presence = cells.iter().map(|cell| match cell {
        Cell::Null => Presence::Null,
        Cell::Unchanged => Presence::Unchanged,
        _ => Presence::Value,
    });
    let presence = presence.collect();
    Some(Column { name: name.to_owned(), type_name: type_name.to_owned(), presence, data })
}

/// What a column of a reply has for a row.
fn cell(column: &Column, row: usize) -> Option<(String, Cell)> {
    let cell = match column.presence[row] {
        Presence::Unchanged => return None,
        Presence::Null => Cell::Null,
        Presence::Value => match &column.data {
            Data::Booleans(values) => Cell::Bool(values[row]),
            Data::Integers(values) => Cell::Int(values[row]),
            Data::Floats(values) => Cell::Float(values[row]),
            Data::Texts(values) => Cell::Text(values[row].clone()),
            Data::Json(values) => Cell::Json(values[row].clone()),
            Data::Bytes(values) => Cell::Bytes(values[row].clone()),
        },
    };
    Some((column.name.clone(), cell))
}
