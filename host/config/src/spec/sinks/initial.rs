//! Which tables a new sink gets as a whole, and how its backfills go about it.

use std::sync::Arc;

use engine::backfill::{Initial, InitialTable, InitialTables};
use engine::select::Tables;
use model::store::BackfillLimits;

use super::{millis, number, source, tables};
use crate::diagnostic::Report;
use crate::document::{self, InitialBackfill, InitialKind, Resource};

/// The predecessor's bound.
const TIMEOUT_MS_MAX: i64 = 600_000;
/// The predecessor's default.
const TIMEOUT_MS: i64 = 5_000;
/// More than any table is read with.
const ROWS_PER_SECOND_MAX: i64 = 1_000_000_000;

pub(super) fn resolve(
    sink: &Resource<document::Sink>,
    selected: &Tables,
    report: &mut Report<'_>,
) -> Initial {
    let tables = match &sink.value.fields.initial_backfill {
        None | Some(InitialBackfill::All(false)) => InitialTables::None,
        Some(InitialBackfill::All(true)) => InitialTables::All,
        Some(InitialBackfill::Tables(some)) => {
            let mut resolved = Vec::new();
            for (index, given) in some.iter().enumerate() {
                resolved.push(one(sink, index, given, selected, report));
            }
            InitialTables::Some(resolved)
        }
    };
    let mut initial = Initial { tables, later: false, limits: BackfillLimits::default() };
    let Some(given) = &sink.value.fields.backfill else {
        return initial;
    };
    initial.later = given.new_tables.unwrap_or(false);
    let mut number = |key, given, default, bounds| {
        number(sink, &["backfill", key], given, default, bounds, report)
    };
    let timeout = number("max_timeout_ms", given.max_timeout_ms, TIMEOUT_MS, 1..=TIMEOUT_MS_MAX);
    initial.limits.page_timeout = millis(timeout);
    initial.limits.rows_per_second = given.max_rows_per_second.map(|rows| {
        let rows = number("max_rows_per_second", Some(rows), 1, 1..=ROWS_PER_SECOND_MAX);
        u32::try_from(rows).unwrap_or(u32::MAX)
    });
    initial.limits.by_place = given.by_place.unwrap_or(false);
    initial
}

fn one(
    sink: &Resource<document::Sink>,
    index: usize,
    given: &document::InitialTable,
    selected: &Tables,
    report: &mut Report<'_>,
) -> InitialTable {
    let index = index.to_string();
    let at = |key: &'static str| ["initial_backfill", index.as_str(), key];
    let table = source::table(&given.table);
    if !tables::may_hold(selected, &table) {
        let message = "`initial_backfill` names a table that the sink does not read";
        let help = "name it in `source.include_tables`, or take it out here";
        report.error_with_help(sink.place(&at("table")), message, help);
    }
    let is_partial = given.kind == Some(InitialKind::Partial);
    if is_partial && given.sort_column.is_none() {
        let message = "a partial backfill needs a `sort_column`";
        let help = "name the column that `start_position` is a value of";
        report.error_with_help(sink.place(&at("table")), message, help);
    }
    if !is_partial && (given.sort_column.is_some() || given.start_position.is_some()) {
        let message = "`sort_column` and `start_position` are for `type: partial`";
        report.error(sink.place(&at("table")), message);
    }
    let from = given.sort_column.as_deref().filter(|_| is_partial).map(|column| {
        let position = given.start_position.as_ref().map(|position| Arc::from(position.0.as_str()));
        (Arc::from(column), position)
    });
    InitialTable { table, from }
}
