//! From rows of an answer to JSON objects, by the key of each.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

use model::json;
use model::page::Value;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Row, Statement};

use super::Failure;
use super::question::Keys;
use crate::sql::Sql;
use crate::value::Form;
use crate::value::form::builtin;
use crate::{catalog, error};

/// What was found about one key.
#[derive(Clone, Debug)]
pub(super) enum Found {
    None,
    One(Arc<str>),
    /// So many.
    Many(usize),
    /// The statement fails on it.
    Refused(String),
}

/// Knows how values are read, by the oid of their type.
#[derive(Debug, Default)]
pub(super) struct Reader {
    forms: HashMap<u32, Form>,
}

impl Reader {
    /// Adds what these rows say. Returns how many have a key that was not asked for.
    pub(super) async fn read(
        &mut self,
        sql: &mut Sql,
        statement: &Statement,
        keys: &Keys<'_>,
        rows: &[Row],
        found: &mut [Found],
    ) -> Result<usize, Failure> {
        let types: Vec<u32> =
            statement.columns().iter().map(|column| column.type_().oid()).collect();
        self.learn(sql, &types).await?;
        let forms = types.iter().map(|oid| self.forms.get(oid).cloned().unwrap_or(Form::Text));
        let forms: Vec<Form> = forms.collect();
        let asked: HashMap<&[&str], usize> =
            keys.distinct.iter().map(Vec::as_slice).zip(0..).collect();
        let key_columns: Vec<usize> = keys.found_in(statement).into_iter().flatten().collect();
        let mut strangers = 0;
        for row in rows {
            let values = values(row, &forms)?;
            let key: Option<Vec<&str>> =
                key_columns.iter().map(|at| values.get(*at)?.as_deref()).collect();
            let place = key.and_then(|key| asked.get(key.as_slice()));
            let Some(slot) = place.and_then(|place| found.get_mut(*place)) else {
                strangers += 1;
                continue;
            };
            *slot = match slot {
                Found::None => Found::One(object(statement, &forms, &values).into()),
                Found::One(_) => Found::Many(2),
                Found::Many(rows) => Found::Many(*rows + 1),
                Found::Refused(error) => Found::Refused(std::mem::take(error)),
            };
        }
        Ok(strangers)
    }

    async fn learn(&mut self, sql: &mut Sql, types: &[u32]) -> Result<(), Failure> {
        let unknown = types.iter().filter(|oid| !self.forms.contains_key(oid));
        let unknown: Vec<u32> = unknown.copied().collect();
        let of_users: Vec<u32> =
            unknown.iter().copied().filter(|oid| builtin(*oid).is_none()).collect();
        let facts = catalog::types(sql, &of_users).await.map_err(Failure::Query)?;
        self.forms.extend(unknown.into_iter().map(|oid| (oid, Form::of(oid, &facts).0)));
        Ok(())
    }
}

/// The canonical texts of a row's values.
fn values(row: &Row, forms: &[Form]) -> Result<Vec<Option<String>>, Failure> {
    let mut values = Vec::with_capacity(forms.len());
    for (at, form) in forms.iter().enumerate() {
        let told = |error: tokio_postgres::Error| Failure::Query(error.into());
        let value = row.try_get::<_, Option<Bytes<'_>>>(at).map_err(told)?;
        let text = value.map(|Bytes(bytes)| {
            let mut text = String::new();
            form.write_bytes(bytes, &mut text).map(|_| text)
        });
        // Of another type than a moment ago.
        let changed = |error| Failure::Source(error::transient(format!("an answer has {error}")));
        values.push(text.transpose().map_err(changed)?);
    }
    Ok(values)
}

fn object(statement: &Statement, forms: &[Form], values: &[Option<String>]) -> String {
    let mut out = String::from("{");
    let fields = statement.columns().iter().zip(forms).zip(values);
    for (n, ((column, form), value)) in fields.enumerate() {
        if n > 0 {
            out.push(',');
        }
        json::string(&mut out, column.name());
        out.push(':');
        let value = value.as_deref().map_or(Value::Null, Value::Text);
        json::value(&mut out, form.kind(), value);
    }
    out.push('}');
    out
}

/// The bytes of a text, which need not be UTF-8 in a database without an encoding.
struct Bytes<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Bytes<'a> {
    fn from_sql(_ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TEXT
    }
}
