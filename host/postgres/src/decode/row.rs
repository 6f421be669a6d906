//! One row into the page.

use model::page::{Builder, Extent, RowSpan};

use super::{Fault, protocol};
use crate::pgoutput::{Tuple, Value};
use crate::relation::Table;
use crate::value::Written;
use crate::wire::cursor::Malformed;

/// A control character of one byte becomes six in JSON: no text grows more.
const GROWTH_MAX: usize = 6;

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
    let most = bytes.saturating_mul(GROWTH_MAX).saturating_add(builder.bytes());
    if most > Builder::TEXT_BYTES_MAX {
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
        let text = std::str::from_utf8(text)
            .map_err(|_| Fault::Encoding { table: name(), column: column.name.to_string() })?;
        builder.value(|out| match form.write(text, out) {
            Ok(Written::AsIs) => Ok(()),
            Ok(Written::AsText) => {
                if !std::mem::replace(warned, true) {
                    tracing::warn!(
                        table = name(),
                        column = %column.name,
                        kind = %column.type_name,
                        "a value does not have the form of its type and is passed on as text; \
                         said once for this column"
                    );
                }
                Ok(())
            }
            Err(_) => Err(Malformed::new("row", format!("no {} in {}", column.type_name, name()))),
        })?;
    }
    Ok(builder.end_row(first, extent))
}
