//! Runs plugins over rows written down in a unit test, natively.
//!
//! ```
//! # use sequin_plugin::prelude::*;
//! # sequin_plugin::transform! {
//! #     pub struct Upper { column: String }
//! #     reads(self) { Reads::columns([&self.column]) }
//! #     transform(self, row, out) {
//! #         if let Value::Known(text) = row.text(&self.column)? {
//! #             out.set_text("upper", text.to_uppercase());
//! #         }
//! #         Ok(())
//! #     }
//! # }
//! # fn main() {
//! use sequin_plugin::testing::{Cell, Outcome, row, transform};
//!
//! let rows = [row([("name", "abc".into())]), row([("name", Cell::Unchanged)])];
//! let outcomes = transform::<Upper>(r#"{"column": "name"}"#, &rows).unwrap();
//! assert_eq!(outcomes[0], Ok(Outcome::Set(vec![("upper".into(), "ABC".into())])));
//! assert_eq!(outcomes[1], Ok(Outcome::Keep));
//! # }
//! ```

mod batch;
#[cfg(not(target_arch = "wasm32"))]
pub mod outside;
pub mod recorded;
#[cfg(test)]
mod tests;

use crate::bindings::types::{self, Batch, Reply};
use crate::{
    Action, ConfigError, Effect, Error, Filter, Plugin, Position, Reads, Route, Transform, Verdict,
    role,
};

/// A literal row.
#[derive(Clone, Debug, PartialEq)]
pub struct Literal {
    /// Its schema.
    pub schema: String,
    /// Its table. Rows of one table that follow each other are one batch.
    pub table: String,
    /// What happened to it.
    pub action: Action,
    /// Where the change stands.
    pub position: Position,
    /// Its columns. One that no row of a batch has is one that the table does not have.
    pub columns: Vec<(String, Cell)>,
    /// The columns of the row before the update.
    pub old: Vec<(String, Cell)>,
    /// What is known of the change beside its row, by its names in the contract.
    pub metadata: Vec<(String, Cell)>,
    /// Postgres' types of columns, where they matter.
    pub types: Vec<(String, String)>,
    /// The columns of the key.
    pub key: Vec<String>,
}

/// What stands in one column of a literal row, or of what was made of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// SQL null.
    Null,
    /// Not sent.
    Unchanged,
    /// Only of what was made of a row: it goes on without this column.
    Absent,
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
    /// It goes on with these columns set or taken away, in this order; last those that
    /// [`Transform::only`] takes away.
    Set(Vec<(String, Cell)>),
    /// It is of no interest.
    Drop,
    /// It is outside the set.
    Evict,
    /// This JSON goes on in its place.
    Replace(String),
    /// These go on in its place.
    Many(Vec<String>),
    /// One or more go on in its place, with effects that are not the usual one.
    Sent(Vec<(Effect, String)>),
}

/// The routing keys that a router set for a row, or why it could not.
pub type Routed = Result<Vec<(String, Cell)>, Error>;

/// An inserted row of the table `public.test`.
pub fn row<'a>(columns: impl IntoIterator<Item = (&'a str, Cell)>) -> Literal {
    Literal {
        schema: "public".to_owned(),
        table: "test".to_owned(),
        action: Action::Insert,
        position: Position { commit_lsn: 1, ordinal: 0 },
        columns: owned(columns),
        old: Vec::new(),
        metadata: Vec::new(),
        types: Vec::new(),
        key: Vec::new(),
    }
}

/// A JSON cell.
#[must_use]
pub fn json(text: &str) -> Cell {
    Cell::Json(text.to_owned())
}

impl Literal {
    /// The same row, updated from this one.
    #[must_use]
    pub fn updated<'a>(mut self, old: impl IntoIterator<Item = (&'a str, Cell)>) -> Self {
        self.action = Action::Update;
        self.old = owned(old);
        self
    }

    /// The same row, deleted.
    #[must_use]
    pub fn deleted(mut self) -> Self {
        self.action = Action::Delete;
        self
    }

    /// The same row, found by a backfill.
    #[must_use]
    pub fn read(mut self) -> Self {
        self.action = Action::Read;
        self
    }

    /// The same row, of this table, named `schema.table`.
    #[must_use]
    pub fn of_table(mut self, name: &str) -> Self {
        let (schema, table) = name.split_once('.').unwrap_or(("public", name));
        self.schema = schema.to_owned();
        self.table = table.to_owned();
        self
    }

    /// The same row, with a column of this type of Postgres; of itself a text is of type `text`.
    #[must_use]
    pub fn typed(mut self, column: &str, type_name: &str) -> Self {
        self.types.push((column.to_owned(), type_name.to_owned()));
        self
    }

    /// The same row, with this column in the key.
    #[must_use]
    pub fn keyed(mut self, column: &str) -> Self {
        self.key.push(column.to_owned());
        self
    }

    /// The same row, with this known beside it, such as
    /// [`COMMIT_TIMESTAMP`](crate::COMMIT_TIMESTAMP).
    #[must_use]
    pub fn with(mut self, metadata: &str, cell: Cell) -> Self {
        self.metadata.push((metadata.to_owned(), cell));
        self
    }
}

/// Configures a plugin.
///
/// # Errors
/// All that the plugin has against the configuration.
pub fn configure<T: Plugin>(config: &str) -> Result<T, Vec<ConfigError>> {
    role::parse(config)
}

/// The JSON Schema of the plugin's configuration.
#[must_use]
pub fn schema<T: Plugin>() -> String {
    role::schema::<T>()
}

/// Configures a filter and runs it over the rows. Deletes, which never come to a filter, and rows
/// of tables that it does not read are kept.
///
/// # Errors
/// All that the plugin has against the configuration.
///
/// # Panics
/// If rows do not go together, such as cells of one column of several types.
pub fn filter<T: Filter>(
    config: &str,
    rows: &[Literal],
) -> Result<Vec<Result<Verdict, Error>>, Vec<ConfigError>> {
    let plugin = role::parse::<T>(config)?;
    Ok(each_batch(rows, &plugin.reads(), |rows, batch| {
        let Some(batch) = batch else { return rows.iter().map(|_| Ok(Verdict::Keep)).collect() };
        let reply = role::filter(&plugin, &batch).expect("the batch of literal rows is sound");
        let outcome = |(row, verdict): (usize, &types::Verdict)| match verdict {
            _ if rows[row].action == Action::Delete => Ok(Verdict::Keep),
            types::Verdict::Keep => Ok(Verdict::Keep),
            types::Verdict::Drop => Ok(Verdict::Drop),
            types::Verdict::Evict => Ok(Verdict::Evict),
            _ => Err(error(&reply, row)),
        };
        reply.verdicts.iter().enumerate().map(outcome).collect()
    }))
}

/// Configures a router and runs it over the rows, on their way to a sink of this kind: the routing
/// keys that are set for each.
///
/// # Errors
/// All that the plugin has against the configuration.
///
/// # Panics
/// If rows do not go together, such as cells of one column of several types.
pub fn route<T: Route>(
    config: &str,
    sink: &str,
    rows: &[Literal],
) -> Result<Vec<Routed>, Vec<ConfigError>> {
    let plugin = role::parse::<T>(config)?;
    Ok(each_batch(rows, &plugin.reads(), |rows, batch| {
        let Some(batch) = batch else { return rows.iter().map(|_| Ok(Vec::new())).collect() };
        let reply = role::route(&plugin, sink, &batch).expect("the batch of literal rows is sound");
        let outcome = |(row, verdict): (usize, &types::Verdict)| match verdict {
            types::Verdict::Error => Err(error(&reply, row)),
            _ => Ok(set(&reply, row)),
        };
        reply.verdicts.iter().enumerate().map(outcome).collect()
    }))
}

/// Configures a transform and runs it over the rows. Rows of tables that it does not read are kept.
///
/// # Errors
/// All that the plugin has against the configuration.
///
/// # Panics
/// If rows do not go together, such as cells of one column of several types.
pub fn transform<T: Transform>(
    config: &str,
    rows: &[Literal],
) -> Result<Vec<Result<Outcome, Error>>, Vec<ConfigError>> {
    let plugin = role::parse::<T>(config)?;
    Ok(each_batch(rows, &plugin.reads(), |rows, batch| {
        let Some(batch) = batch else { return rows.iter().map(|_| Ok(Outcome::Keep)).collect() };
        let reply = role::transform(&plugin, &batch).expect("the batch of literal rows is sound");
        let verdicts = reply.verdicts.iter().zip(rows).enumerate();
        verdicts.map(|(row, (verdict, literal))| outcome(&reply, row, *verdict, literal)).collect()
    }))
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

fn owned<'a>(columns: impl IntoIterator<Item = (&'a str, Cell)>) -> Vec<(String, Cell)> {
    columns.into_iter().map(|(name, cell)| (name.to_owned(), cell)).collect()
}

/// Calls with each batch; without one for rows that the plugin never sees.
fn each_batch<R>(
    rows: &[Literal],
    reads: &Reads,
    mut run: impl FnMut(&[Literal], Option<Batch>) -> Vec<R>,
) -> Vec<R> {
    let same = |a: &Literal, b: &Literal| a.schema == b.schema && a.table == b.table;
    let run = |rows: &[Literal]| {
        let seen = reads.covers(&rows[0].schema, &rows[0].table);
        run(rows, seen.then(|| batch::batch(rows, reads, true)))
    };
    rows.chunk_by(same).flat_map(run).collect()
}

fn outcome(
    reply: &Reply,
    row: usize,
    verdict: types::Verdict,
    literal: &Literal,
) -> Result<Outcome, Error> {
    let sent = || reply.documents.iter().filter(|document| document.row as usize == row);
    let documents = || sent().map(|document| document.json.clone()).collect::<Vec<_>>();
    let usual = || sent().all(|document| Effect::from(document.effect) == Effect::Usual);
    Ok(match verdict {
        types::Verdict::Keep => {
            let mut set = set(reply, row);
            if let Some(only) = &reply.only {
                for (name, _) in &literal.columns {
                    let goes = only.contains(name) || set.iter().any(|(known, _)| known == name);
                    if !goes {
                        set.push((name.clone(), Cell::Absent));
                    }
                }
            }
            if set.is_empty() { Outcome::Keep } else { Outcome::Set(set) }
        }
        types::Verdict::Drop => Outcome::Drop,
        types::Verdict::Evict => Outcome::Evict,
        types::Verdict::Replace | types::Verdict::Many if !usual() => {
            let sent = sent().map(|document| (document.effect.into(), document.json.clone()));
            Outcome::Sent(sent.collect())
        }
        types::Verdict::Replace => Outcome::Replace(documents().concat()),
        types::Verdict::Many => Outcome::Many(documents()),
        types::Verdict::Error => return Err(error(reply, row)),
    })
}

fn set(reply: &Reply, row: usize) -> Vec<(String, Cell)> {
    reply.columns.iter().filter_map(|column| batch::cell(column, row)).collect()
}

fn error(reply: &Reply, row: usize) -> Error {
    let error = reply.errors.iter().find(|error| error.row as usize == row);
    error.map_or_else(|| Error::new(""), Error::read)
}
