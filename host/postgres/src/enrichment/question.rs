//! The keys that are asked about, and the query that asks.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write as _;
use std::ops::Range;
use std::time::Duration;

use bytes::BytesMut;
use model::page::{Row, Value};
use model::relation::{Kind, Relation};
use tokio_postgres::Statement;
use tokio_postgres::types::{self, Format, IsNull, ToSql, Type};

use super::{Failure, type_of};
use crate::sql::{Parameter, Sql};

/// The array types of a table's columns.
const ARRAY_TYPES: &str = "
    select a.attname::text, t.typarray
    from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid
    where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped";

/// A mistake of the statement's owner, and what to do about it.
pub(super) type Wrong = (String, String);

/// Keys of rows, each once.
pub(super) struct Keys<'a> {
    relation: &'a Relation,
    /// The columns of the key, by name.
    columns: Vec<(&'a str, usize)>,
    /// The keys, each with a value per column.
    pub(super) distinct: Vec<Vec<&'a str>>,
    /// For each row, which key it has; None if that is not known.
    pub(super) places: Vec<Option<usize>>,
}

impl<'a> Keys<'a> {
    pub(super) fn of(relation: &'a Relation, rows: &'a [Row]) -> Result<Self, Wrong> {
        let mut columns: Vec<(&str, usize)> = Vec::new();
        for index in relation.key() {
            let Some(column) = relation.columns.get(index) else { continue };
            let is_json = matches!(&*column.type_name, "json" | "jsonb");
            if column.kind == Kind::Json && !is_json {
                let (name, kind) = (&column.name, &column.type_name);
                return Err((
                    format!("the key column {name} has type {kind}, which cannot be a parameter"),
                    "leave the table out of the enrichment".to_owned(),
                ));
            }
            columns.push((&column.name, index));
        }
        if columns.is_empty() {
            let Relation { schema, table, .. } = relation;
            return Err((
                format!(
                    "{schema}.{table} has no primary key, by which its rows could be asked about"
                ),
                "give it a primary key, or leave it out of the enrichment".to_owned(),
            ));
        }
        columns.sort_unstable();
        let mut known: HashMap<Vec<&str>, usize> = HashMap::new();
        let mut distinct = Vec::new();
        let key = |row: &'a Row| -> Option<Vec<&'a str>> {
            columns.iter().map(|(_, index)| text(row.value(*index))).collect()
        };
        let places = rows
            .iter()
            .map(|row| {
                let key = key(row)?;
                let place = known.entry(key).or_insert_with_key(|key| {
                    distinct.push(key.clone());
                    distinct.len() - 1
                });
                Some(*place)
            })
            .collect();
        Ok(Self { relation, columns, distinct, places })
    }

    /// `id = 7, lang = de`.
    pub(super) fn name(&self, distinct: usize) -> String {
        let values = self.distinct.get(distinct).into_iter().flatten();
        let named = self.columns.iter().zip(values);
        let named: Vec<String> =
            named.map(|((name, _), value)| format!("{name} = {value}")).collect();
        named.join(", ")
    }

    /// Where the statement's columns have the key's; None for one that is not there.
    pub(super) fn found_in(&self, statement: &Statement) -> Vec<Option<usize>> {
        let of = |name: &str| statement.columns().iter().position(|it| it.name() == name);
        self.columns.iter().map(|(name, _)| of(name)).collect()
    }

    /// An array of values for each column.
    pub(super) fn parameters(&self, range: Range<usize>) -> Vec<TextArray> {
        let keys = self.distinct.get(range).unwrap_or_default();
        let values = |column| keys.iter().filter_map(move |key| key.get(column).copied());
        (0..self.columns.len()).map(|column| TextArray::of(values(column))).collect()
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        names.join(", ")
    }
}

fn text(value: Value<'_>) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        Value::Null | Value::Unchanged => None,
    }
}

/// An array in the form in which Postgres reads it as text, whatever its type.
#[derive(Debug)]
pub(super) struct TextArray(String);

impl TextArray {
    fn of<'a>(values: impl Iterator<Item = &'a str>) -> Self {
        let mut text = String::from("{");
        for (n, value) in values.enumerate() {
            text.push_str(if n > 0 { ",\"" } else { "\"" });
            for character in value.chars() {
                if matches!(character, '"' | '\\') {
                    text.push('\\');
                }
                text.push(character);
            }
            text.push('"');
        }
        text.push('}');
        Self(text)
    }
}

impl ToSql for TextArray {
    fn to_sql(
        &self,
        _ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_ty: &Type) -> bool {
        true
    }

    fn encode_format(&self, _ty: &Type) -> Format {
        Format::Text
    }

    types::to_sql_checked!();
}

/// The statement as the server understands it now, and the query around it.
pub(super) struct Prepared {
    pub(super) statement: Statement,
    /// Gives each column's text.
    pub(super) query: String,
}

impl Prepared {
    /// Where the server cannot tell the types of parameters from the statement, they are those of the
    /// key's columns.
    pub(super) async fn make(
        sql: &mut Sql,
        text: &str,
        keys: Option<&Keys<'_>>,
        limit: Duration,
    ) -> Result<Self, Failure> {
        let statement = match (sql.prepare(text, &[], limit).await, keys) {
            (Ok(statement), _) => statement,
            (Err(error), Some(keys)) if lacks_types(error.code()) => {
                let types = array_types(sql, keys).await?;
                sql.prepare(text, &types, limit).await.map_err(Failure::Statement)?
            }
            (Err(error), _) => return Err(Failure::Statement(error)),
        };
        let query = around(text, statement.columns().len());
        Ok(Self { statement, query })
    }

    /// Whether the statement keeps to its contract.
    pub(super) fn check(&self, keys: &Keys<'_>) -> Result<(), Wrong> {
        let Relation { schema, table, .. } = keys.relation;
        let (names, count) = (keys.names(), keys.columns.len());
        let parameters = self.statement.params();
        if parameters.len() != count {
            return Err((
                format!(
                    "it has {} parameters, but the key of {schema}.{table} has {count} columns \
                     ({names})",
                    parameters.len()
                ),
                format!(
                    "use a parameter for each of them, in this order: `$1` is an array with the \
                     values of {names}",
                    names = names.split(", ").next().unwrap_or_default()
                ),
            ));
        }
        let scalar = (1..).zip(parameters).find(|(_, kind)| !is_array(kind));
        if let Some((n, kind)) = scalar {
            return Err((
                format!(
                    "${n} is used as {}, but it is an array, with a value for each row",
                    kind.name()
                ),
                format!("write `= any(${n})` instead of `= ${n}`"),
            ));
        }
        let lacking = keys.columns.iter().zip(keys.found_in(&self.statement));
        if let Some(((name, _), _)) = lacking.into_iter().find(|(_, found)| found.is_none()) {
            return Err((
                format!("it gives no column {name}, which is of the key of {schema}.{table}"),
                format!("select the columns of the key too: {names}"),
            ));
        }
        let columns = self.statement.columns();
        let twice = columns.iter().enumerate().find(|(at, column)| {
            columns.iter().take(*at).any(|before| before.name() == column.name())
        });
        if let Some((_, column)) = twice {
            return Err((
                format!("it gives two columns of the name {}", column.name()),
                "give one of them another name (`as`)".to_owned(),
            ));
        }
        Ok(())
    }
}

/// Whether a statement was refused because the types of its parameters are not known: functions and
/// operators that take several types.
pub(super) fn lacks_types(code: &str) -> bool {
    // ambiguous_function, indeterminate_datatype, datatype_mismatch, undefined_function.
    matches!(code, "42725" | "42P18" | "42804" | "42883")
}

fn is_array(kind: &Type) -> bool {
    matches!(kind.kind(), types::Kind::Array(_))
}

async fn array_types(sql: &mut Sql, keys: &Keys<'_>) -> Result<Vec<Type>, Failure> {
    let parameters: [Parameter<'_>; 1] = [(&keys.relation.oid, Type::OID)];
    let rows = sql.rows(ARRAY_TYPES, &parameters).await.map_err(Failure::Query)?;
    let mut types: HashMap<String, u32> = HashMap::new();
    for row in &rows {
        let told = |error: tokio_postgres::Error| Failure::Query(error.into());
        types.insert(row.try_get(0).map_err(told)?, row.try_get(1).map_err(told)?);
    }
    // Of a column that is gone: the server finds out by itself, or says that it cannot.
    let unknown = 0;
    let oid = |name: &str| types.get(name).copied().unwrap_or(unknown);
    Ok(keys.columns.iter().map(|(name, _)| type_of(oid(name))).collect())
}

/// The query that gives each value as its type's output function writes it. `offset 0` keeps the
/// planner from working a value out twice.
fn around(statement: &str, columns: usize) -> String {
    let mut query = String::from("select ");
    for n in 1..=columns {
        let comma = if n > 1 { ", " } else { "" };
        // `is null` would also be true of a composite value that is all nulls. Writing to a string
        // does not fail.
        write!(
            query,
            "{comma}case when e.c{n} is not distinct from null then null else \
             pg_catalog.format('%s', e.c{n}) end"
        )
        .ok();
    }
    let statement = statement.trim_end_matches(|it: char| it == ';' || it.is_whitespace());
    // On lines of its own: it may end with a comment.
    query.push_str(" from (select * from (\n");
    query.push_str(statement);
    query.push_str("\n) s offset 0) e");
    for n in 1..=columns {
        let begin = if n > 1 { ", " } else { " (" };
        write!(query, "{begin}c{n}").ok();
    }
    if columns > 0 {
        query.push(')');
    }
    query
}

/// ` at line 2, column 7: where id = any($1)`, of a position in characters from 1.
pub(super) fn place(sql: &str, position: u32) -> String {
    let position = position as usize;
    let mut begin = 1;
    for (line, text) in (1_usize..).zip(sql.split('\n')) {
        let length = text.chars().count() + 1;
        if position < begin + length {
            let shown: String = text.trim().chars().take(80).collect();
            return format!(" at line {line}, column {}: {shown}", position + 1 - begin);
        }
        begin += length;
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_found_in_the_text() {
        let sql = "select ž,\n  nme\nfrom t";
        assert_eq!(place(sql, 8), " at line 1, column 8: select ž,");
        assert_eq!(place(sql, 13), " at line 2, column 3: nme");
        assert_eq!(place(sql, 17), " at line 3, column 1: from t");
        assert_eq!(place(sql, 99), "");
    }

    #[test]
    fn an_array_takes_any_text() {
        let of = |values: &[&str]| TextArray::of(values.iter().copied()).0;
        assert_eq!(of(&[]), "{}");
        assert_eq!(of(&["", "NULL", "a,b"]), r#"{"","NULL","a,b"}"#);
        assert_eq!(of(&[r#"{"a\b"}"#]), r#"{"{\"a\\b\"}"}"#);
    }
}
