//! The query for a page.
//!
//! The keyset is inside, bounded by the number of rows that are looked at; what leaves rows out is
//! decided on those. So a page of a table of which hardly any row is wanted costs no more than
//! another, and a shorter page is always a quicker one.

use std::fmt::Write as _;

use super::place::{By, Reached};
use super::table::{Nulls, OrderColumn};

/// Blocks that one page looks at by their place, at most: 128 MB.
const BLOCKS_MAX: u32 = 16_384;

/// Rows in a block of which nothing is known.
const DENSITY: f64 = 50.0;

/// The table behind a query, and what is wanted of it.
pub(super) struct Target<'a> {
    /// Schema and name, quoted.
    pub(super) name: &'a str,
    /// The name by which the owner's condition knows it, unquoted.
    pub(super) alias: &'a str,
    /// The columns to be read, unquoted.
    pub(super) columns: Vec<&'a str>,
    /// What orders rows; the place on disk is not among them.
    pub(super) order: &'a [OrderColumn],
    /// Only rows of which these SQL expressions are true.
    pub(super) conditions: Vec<&'a str>,
    /// Its size on disk.
    pub(super) blocks: u32,
    /// Rows in each block; 0 or less if that is not known.
    pub(super) density: f64,
}

/// A query with its parameters, all of them texts. It gives the values of what orders a row, whether
/// the row is wanted, and its values, if it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) sql: String,
    pub(super) parameters: Vec<String>,
    /// How many values order a row.
    pub(super) ordered_by: usize,
    /// By place: the block behind those that are looked at, if there are more.
    pub(super) next_block: Option<u32>,
}

/// An identifier as SQL quotes it.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Query {
    /// For rows of a part of the table. None if the place does not belong to it.
    pub(super) fn write(
        target: &Target<'_>,
        by: &By,
        after: Option<&Reached>,
        rows: usize,
    ) -> Option<Self> {
        let alias = quote(target.alias);
        let mut query = Self::default();
        let place = matches!(by, By::Place { .. } | By::ColumnAndPlace { .. });
        let mut order: Vec<String> = target.order.iter().map(|it| it.of(&alias)).collect();
        if place {
            order.push(format!("{alias}.ctid"));
        }
        query.ordered_by = order.len();
        let bounds = query.bounds(target, by, after, rows, &alias)?;
        let out = &mut query.sql;
        out.push_str("select ");
        for n in 0..order.len() {
            push(out, format_args!("pg_catalog.format('%s', p.o{n}), "));
        }
        out.push_str("p.wanted");
        // `is null` would also be true of a composite value that is all nulls.
        for n in 0..target.columns.len() {
            push(
                out,
                format_args!(
                    ", case when p.wanted and p.c{n} is distinct from null then \
                     pg_catalog.format('%s', p.c{n}) end"
                ),
            );
        }
        out.push_str(" from (select ");
        for (n, expression) in order.iter().enumerate() {
            // Without its collation: only its text matters.
            push(out, format_args!("{expression} as o{n}, "));
        }
        if target.conditions.is_empty() {
            out.push_str("true");
        }
        for (n, condition) in target.conditions.iter().enumerate() {
            let and = if n > 0 { " and " } else { "" };
            // The line ends a comment that ends the expression.
            push(out, format_args!("{and}(({condition}\n) is true)"));
        }
        out.push_str(" as wanted");
        for (n, column) in target.columns.iter().enumerate() {
            push(out, format_args!(", {alias}.{} as c{n}", quote(column)));
        }
        push(out, format_args!(" from only {} as {alias}{bounds} order by ", target.name));
        out.push_str(&order.join(", "));
        push(out, format_args!(" limit {rows}) p"));
        Some(query)
    }

    /// Which rows are looked at.
    fn bounds(
        &mut self,
        target: &Target<'_>,
        by: &By,
        after: Option<&Reached>,
        rows: usize,
        alias: &str,
    ) -> Option<String> {
        let mut bounds: Vec<String> = Vec::new();
        let (from, to) = match by {
            By::Place { from, to, .. } => {
                let (block, row) = match after {
                    None => (*from, 0),
                    Some(Reached::Place { block, row }) => (*block, *row),
                    Some(Reached::Values(_)) => return None,
                };
                let end = to.unwrap_or(u32::MAX).min(target.blocks);
                let behind = block.saturating_add(window(target, rows)).min(end);
                self.next_block = (behind < end).then_some(behind);
                return Some(format!(
                    " where {alias}.ctid > '({block},{row})'::pg_catalog.tid \
                     and {alias}.ctid < '({behind},0)'::pg_catalog.tid"
                ));
            }
            By::Columns { from, to, .. } | By::ColumnAndPlace { from, to, .. } => (from, to),
        };
        let first = target.order.first()?;
        match after {
            Some(Reached::Values(values)) => {
                if values.len() != self.ordered_by {
                    return None;
                }
                let mut left: Vec<String> = target.order.iter().map(|it| it.of(alias)).collect();
                let mut right = Vec::new();
                for (n, value) in values.iter().enumerate() {
                    let text = self.parameter(value);
                    match target.order.get(n) {
                        Some(column) => right.push(column.value(&text)),
                        None => {
                            left.push(format!("{alias}.ctid"));
                            right.push(format!("{text}::pg_catalog.tid"));
                        }
                    }
                }
                bounds.push(format!("({}) > ({})", left.join(", "), right.join(", ")));
            }
            Some(Reached::Place { .. }) => return None,
            None => {
                if let Some(from) = from {
                    let value = self.parameter(from);
                    bounds.push(format!("{} >= {}", first.of(alias), first.value(&value)));
                }
            }
        }
        if let Some(to) = to {
            let value = self.parameter(to);
            bounds.push(format!("{} < {}", first.of(alias), first.value(&value)));
        }
        let column = format!("{alias}.{}", first.quoted);
        match first.nulls {
            Nulls::None => {}
            Nulls::Some => bounds.push(format!("{column} is not null")),
            Nulls::Composite => bounds.push(format!("{column} is distinct from null")),
        }
        if bounds.is_empty() {
            return Some(String::new());
        }
        Some(format!(" where {}", bounds.join(" and ")))
    }

    fn parameter(&mut self, value: &str) -> String {
        self.parameters.push(value.to_owned());
        format!("${}::text", self.parameters.len())
    }
}

impl OrderColumn {
    /// The column, as an order and a comparison take it.
    pub(super) fn of(&self, alias: &str) -> String {
        format!("{alias}.{}{}", self.quoted, self.collate)
    }

    /// A value of it from its text.
    pub(super) fn value(&self, text: &str) -> String {
        format!("{text}::{}{}", self.type_text, self.collate)
    }
}

/// How many blocks have about so many rows.
fn window(target: &Target<'_>, rows: usize) -> u32 {
    let density = if target.density > 0.0 { target.density } else { DENSITY };
    let blocks = rows as f64 / density;
    // Of a float, the conversion saturates.
    (blocks as u32).clamp(1, BLOCKS_MAX)
}

fn push(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    out.write_fmt(arguments).ok();
}
