//! The value that a condition is about, in the row or in a JSON document of it.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::Mismatch;
use crate::page::{Extent, Row, Value};
use crate::path::pick;
use crate::relation::{Kind, Relation};

/// What stands there.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// Nothing is known of it.
    Unsent,
    Null,
    /// A scalar, as text.
    One(Cow<'a, str>),
    Many(Vec<Item<'a>>),
    Object,
}

/// An item of an array, as text; None is null.
pub(super) type Item<'a> = Option<Cow<'a, str>>;

/// # Errors
/// The table has no such column, or there is a path and no JSON.
pub(super) fn find<'a>(
    relation: &Relation,
    row: &'a Row,
    name: &str,
    path: &[Box<str>],
) -> Result<Found<'a>, Mismatch> {
    let index = relation.column(name).ok_or(Mismatch("nothing: the table has no such column"))?;
    let column = relation.columns.get(index).filter(|it| it.key || row.extent() == Extent::Full);
    let Some(column) = column else { return Ok(Found::Unsent) };
    match row.value(index) {
        Value::Unchanged => Ok(Found::Unsent),
        Value::Null => Ok(Found::Null),
        Value::Text(json) if column.kind == Kind::Json => at(json, path),
        Value::Text(text) if path.is_empty() => Ok(Found::One(text.into())),
        Value::Text(_) => Err(Mismatch("no JSON to follow a path in")),
    }
}

fn at<'a>(json: &'a str, path: &[Box<str>]) -> Result<Found<'a>, Mismatch> {
    let mut here = json.trim_start();
    for key in path {
        let found = if here.starts_with('[') {
            let items: Vec<&RawValue> = read(here)?;
            key.parse().ok().and_then(|index: usize| items.get(index).copied())
        } else {
            pick(here, key).map_err(|_| Mismatch("no JSON"))?
        };
        let Some(value) = found else { return Ok(Found::Null) };
        here = value.get();
    }
    Ok(match here.as_bytes().first() {
        Some(b'{') => Found::Object,
        Some(b'[') => {
            let items: Vec<&RawValue> = read(here)?;
            let items: Result<_, _> = items.into_iter().map(|item| scalar(item.get())).collect();
            Found::Many(items?)
        }
        _ => scalar(here)?.map_or(Found::Null, Found::One),
    })
}

/// What is nested in an array is compared as its JSON.
fn scalar(json: &str) -> Result<Item<'_>, Mismatch> {
    Ok(match json.as_bytes().first() {
        Some(b'n') => None,
        Some(b'"') => Some(Cow::Owned(read(json)?)),
        _ => Some(json.trim_end().into()),
    })
}

fn read<'a, T: serde::Deserialize<'a>>(json: &'a str) -> Result<T, Mismatch> {
    serde_json::from_str(json).map_err(|_| Mismatch("no JSON"))
}
