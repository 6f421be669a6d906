//! Tables on a terminal.

use serde_json::Value;

/// A value in a cell: without what would move the cursor.
pub(crate) fn cell(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.chars().filter(|char| !char.is_control()).collect(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

/// Rows under their heads, the columns as wide as they have to be.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let head = head.map(str::to_owned);
    let all = || std::iter::once(&head).chain(rows);
    let mut widths = [0; N];
    for row in all() {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let lines = all().map(|row| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_have_to_be() {
        let (name, null) = (json!("a\u{1b}[2Jé"), Value::Null);
        let rows = [[Some(&name), Some(&json!(7))].map(cell), [Some(&null), None].map(cell)];
        assert_eq!(table(["name", "n"], &rows), "name   n\na[2Jé  7\n\n");
    }
}
