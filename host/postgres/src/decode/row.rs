//! One row into the page.

use model::page::{Builder, Extent, NotText, RowSpan};
use model::relation::Relation;

use super::{Fault, protocol};
use crate::pgoutput::{Tuple, Value};
use crate::relation::Table;
use crate::value::{FACTOR_MAX, Form, Unreadable, Written};
use crate::wire::cursor::Malformed;

/// The most bytes that a row's values are written with.
fn most(tuple: &Tuple<'_>, forms: &[Form]) -> usize {
    let mut most = 0_usize;
    for (value, form) in tuple.values().zip(forms) {
        if let Value::Text(text) = value {
            most = most.saturating_add(form.most(text.len()));
        }
    }
    most
}

/// What is used for one row after the other.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    row: Vec<u8>,
    composed: String,
}

/// Up to so much is written at once and copied into the page; of a longer row the few checks of its
/// values cost nothing, and its memory is not needed twice.
const TOGETHER_BYTES_MAX: usize = 64 * 1024;

/// Appends a row in canonical text.
pub(super) fn write(
    builder: &mut Builder,
    table: &mut Table,
    tuple: &Tuple<'_>,
    extent: Extent,
    scratch: &mut Scratch,
) -> Result<RowSpan, Fault> {
    write_within(Builder::TEXT_BYTES_MAX, builder, table, tuple, extent, scratch)
}

/// The same into a page whose text may have so many bytes.
fn write_within(
    text_bytes_max: usize,
    builder: &mut Builder,
    table: &mut Table,
    tuple: &Tuple<'_>,
    extent: Extent,
    scratch: &mut Scratch,
) -> Result<RowSpan, Fault> {
    if tuple.len() != table.forms.len() {
        let (name, got, due) = (name(&table.relation), tuple.len(), table.forms.len());
        return Err(protocol(format!("a row of {name} has {got} columns instead of {due}")));
    }
    // Checked once per row, before anything is written.
    let bytes = tuple.bytes();
    let room = text_bytes_max.saturating_sub(builder.bytes());
    if bytes.saturating_mul(FACTOR_MAX) > room && most(tuple, &table.forms) > room {
        return Err(too_large(&table.relation, tuple));
    }
    if bytes <= TOGETHER_BYTES_MAX
        && let Ok(row) = together(text_bytes_max, builder, table, tuple, extent, scratch)?
    {
        return Ok(row);
    }
    one_by_one(text_bytes_max, builder, table, tuple, extent)
}

/// Writes a row whose values are checked together.
fn together(
    text_bytes_max: usize,
    builder: &mut Builder,
    table: &mut Table,
    tuple: &Tuple<'_>,
    extent: Extent,
    scratch: &mut Scratch,
) -> Result<Result<RowSpan, NotText>, Fault> {
    let Scratch { row, composed } = scratch;
    let Table { relation, forms, warned } = table;
    let mut row = builder.raw_row(row, tuple.len());
    for (index, (value, form)) in tuple.values().zip(forms).enumerate() {
        let text = match value {
            Value::Null => {
                row.null();
                continue;
            }
            Value::Unchanged => {
                row.unchanged();
                continue;
            }
            Value::Text(text) => text,
        };
        let mut written = Written::Plain;
        let appended = row.value(|out| {
            written = form.append(text, out, composed)?;
            Ok(())
        });
        appended.map_err(|error| unreadable(error, relation, index))?;
        // Texts that no server prints may grow more than its own do.
        if row.text_end() > text_bytes_max {
            return Err(too_large(relation, tuple));
        }
        if written != Written::Plain {
            warn(relation, warned, index, written);
        }
    }
    Ok(row.end(extent))
}

/// Writes a row value by value: one of them may be no text, or all are large.
fn one_by_one(
    text_bytes_max: usize,
    builder: &mut Builder,
    table: &mut Table,
    tuple: &Tuple<'_>,
    extent: Extent,
) -> Result<RowSpan, Fault> {
    let Table { relation, forms, warned } = table;
    let first = builder.begin_row();
    for (index, (value, form)) in tuple.values().zip(forms).enumerate() {
        let text = match value {
            Value::Null => {
                builder.null();
                continue;
            }
            Value::Unchanged => {
                builder.unchanged();
                continue;
            }
            Value::Text(text) => text,
        };
        let mut written = Written::Plain;
        builder.value(|out| {
            written =
                form.write_bytes(text, out).map_err(|error| unreadable(error, relation, index))?;
            if out.len() > text_bytes_max { Err(too_large(relation, tuple)) } else { Ok(()) }
        })?;
        if written != Written::Plain {
            warn(relation, warned, index, written);
        }
    }
    Ok(builder.end_row(first, extent))
}

fn name(relation: &Relation) -> String {
    format!("{}.{}", relation.schema, relation.table)
}

#[cold]
fn too_large(relation: &Relation, tuple: &Tuple<'_>) -> Fault {
    Fault::RowTooLarge { table: name(relation), bytes: tuple.bytes() }
}

#[cold]
fn unreadable(_: Unreadable, relation: &Relation, index: usize) -> Fault {
    let kind = relation.columns.get(index).map_or("value", |column| &*column.type_name);
    Malformed::new("row", format!("no {kind} in {}", name(relation))).into()
}

/// Says once for each column that a value is not passed on as its type has it.
#[cold]
fn warn(relation: &Relation, warned: &mut [bool], index: usize, written: Written) {
    let Some(warned) = warned.get_mut(index) else { return };
    if std::mem::replace(warned, true) {
        return;
    }
    let reason = match written {
        Written::Hexadecimal => "is not UTF-8 and is passed on as \\x and digits",
        Written::Plain | Written::Quoted => {
            "does not have the form of its type and is passed on as text"
        }
    };
    let Some(column) = relation.columns.get(index) else { return };
    tracing::warn!(
        table = name(relation),
        column = %column.name,
        kind = %column.type_name,
        "a value {reason}; said once for this column"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::tests::{insert, relation};
    use crate::pgoutput::Message;
    use crate::relation::Facts;

    /// What becomes of one value in a page of so many bytes.
    fn write(type_oid: u32, text: &str, text_bytes_max: usize) -> Result<(), Fault> {
        let definition = relation(7, b'd', &[("v", type_oid, false)]);
        let Ok(Message::Relation(definition)) = Message::parse(&definition) else { panic!() };
        let mut table = Table::new(&definition, &Facts::default(), Vec::new());
        let row = insert(7, &[Some(text)]);
        let Ok(Message::Insert { new, .. }) = Message::parse(&row) else { panic!() };
        let builder = &mut Builder::default();
        let scratch = &mut Scratch::default();
        write_within(text_bytes_max, builder, &mut table, &new, Extent::Full, scratch).map(drop)
    }

    #[test]
    fn b034_a_row_that_outgrows_the_page_is_refused_before_or_behind() {
        let large = |text: &str| {
            Err(Fault::RowTooLarge { table: "public.t".to_owned(), bytes: 5 + text.len() })
        };
        // Twice its bytes, and eight for what comes once.
        assert_eq!(write(25, "four", 17), Ok(()));
        assert_eq!(write(25, "four", 15), large("four"));
        let intervals = format!("{{{}}}", ["9:9:9"; 100].join(","));
        assert_eq!(write(1187, &intervals, 10_000), Ok(()));
        assert_eq!(write(1187, &intervals, 4_000), large(&intervals), "4901 bytes of JSON");
    }
}
