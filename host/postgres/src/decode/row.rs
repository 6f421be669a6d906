//! One row into the page.

use model::page::{Builder, Extent, RowSpan};

use super::{Fault, protocol};
use crate::pgoutput::{Tuple, Value};
use crate::relation::Table;
use crate::value::{FACTOR_MAX, Form, Written};
use crate::wire::cursor::Malformed;

/// The most bytes that a row's values are written with.
fn most(tuple: &Tuple<'_>, forms: &[Form]) -> Result<usize, Malformed> {
    let mut most = 0_usize;
    for (value, form) in tuple.values().zip(forms) {
        if let Value::Text(text) = value? {
            most = most.saturating_add(form.most(text.len()));
        }
    }
    Ok(most)
}

/// Appends a row in canonical text.
pub(super) fn write(
    builder: &mut Builder,
    table: &mut Table,
    tuple: &Tuple<'_>,
    extent: Extent,
) -> Result<RowSpan, Fault> {
    write_within(Builder::TEXT_BYTES_MAX, builder, table, tuple, extent)
}

/// The same into a page whose text may have so many bytes.
fn write_within(
    text_bytes_max: usize,
    builder: &mut Builder,
    table: &mut Table,
    tuple: &Tuple<'_>,
    extent: Extent,
) -> Result<RowSpan, Fault> {
    let Table { relation, forms, warned } = table;
    let name = || format!("{}.{}", relation.schema, relation.table);
    if tuple.len() != forms.len() {
        let (table, got, due) = (name(), tuple.len(), forms.len());
        return Err(protocol(format!("a row of {table} has {got} columns instead of {due}")));
    }
    // Checked once per row, before anything is written.
    let bytes = tuple.bytes();
    let room = text_bytes_max.saturating_sub(builder.bytes());
    let too_large = || Fault::RowTooLarge { table: name(), bytes };
    if bytes.saturating_mul(FACTOR_MAX) > room && most(tuple, forms)? > room {
        return Err(too_large());
    }
    let first = builder.begin_row();
    let columns = relation.columns.iter().zip(forms).zip(warned);
    for (value, ((column, form), warned)) in tuple.values().zip(columns) {
        let text = match value? {
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
        builder.value(|out| match form.write_bytes(text, out) {
            // Texts that no server prints may grow more than its own do.
            Ok(_) if out.len() > text_bytes_max => Err(too_large()),
            Ok(Written::Plain) => Ok(()),
            Ok(written) => {
                if !std::mem::replace(warned, true) {
                    let reason = match written {
                        Written::Hexadecimal => "is not UTF-8 and is passed on as \\x and digits",
                        Written::Plain | Written::Quoted => {
                            "does not have the form of its type and is passed on as text"
                        }
                    };
                    tracing::warn!(
                        table = name(),
                        column = %column.name,
                        kind = %column.type_name,
                        "a value {reason}; said once for this column"
                    );
                }
                Ok(())
            }
            Err(_) => {
                let reason = format!("no {} in {}", column.type_name, name());
                Err(Malformed::new("row", reason).into())
            }
        })?;
    }
    Ok(builder.end_row(first, extent))
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
        write_within(text_bytes_max, builder, &mut table, &new, Extent::Full).map(drop)
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
