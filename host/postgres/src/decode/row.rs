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
    let Table { relation, forms, warned } = table;
    let name = || format!("{}.{}", relation.schema, relation.table);
    if tuple.len() != forms.len() {
        let (table, got, due) = (name(), tuple.len(), forms.len());
        return Err(protocol(format!("a row of {table} has {got} columns instead of {due}")));
    }
    // Checked once per row, so that no value can outgrow the page.
    let bytes = tuple.bytes();
    let room = Builder::TEXT_BYTES_MAX.saturating_sub(builder.bytes());
    if bytes.saturating_mul(FACTOR_MAX) > room && most(tuple, forms)? > room {
        return Err(Fault::RowTooLarge { table: name(), bytes });
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
            Err(_) => Err(Malformed::new("row", format!("no {} in {}", column.type_name, name()))),
        })?;
    }
    Ok(builder.end_row(first, extent))
}
