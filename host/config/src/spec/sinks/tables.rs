//! What single tables of a sink have: columns that group their rows, and SQL that enriches them.

use engine::select::{Names, Table, Tables};

use super::super::{GroupScope, TableEnrichment, TableGroup};
use super::{Context, roles, source};
use crate::diagnostic::Report;
use crate::document::{self, Resource, TableFields};

/// What the tables of a sink have.
#[derive(Default)]
pub(super) struct PerTable {
    pub(super) groups: Vec<TableGroup>,
    pub(super) group_scope: GroupScope,
    pub(super) enrichments: Vec<TableEnrichment>,
}

pub(super) fn resolve(
    context: &Context<'_>,
    sink: &Resource<document::Sink>,
    selected: &Tables,
    report: &mut Report<'_>,
) -> PerTable {
    let fields = &sink.value.fields;
    let mut found = PerTable::default();
    if let Some(document::GroupScope::Sink) = fields.group_scope {
        found.group_scope = GroupScope::Sink;
        if fields.message_grouping == Some(false) {
            let message = "`group_scope` and `message_grouping: false` cannot be given together";
            let help = "without groups there is no order to widen: remove one of them";
            report.error_with_help(sink.place(&["group_scope"]), message, help);
        }
    }
    let mut seen: Vec<Table> = Vec::new();
    for (index, given) in fields.tables.iter().flatten().enumerate() {
        let (table, index) = (source::table(&given.name), index.to_string());
        let at = |key: &'static str| ["tables", index.as_str(), key];
        if matches!(&given.name, document::Table::Name(name) if name.is_empty()) {
            report.error(sink.place(&at("name")), "`tables` holds an empty name");
            continue;
        }
        if seen.contains(&table) {
            report.error(sink.place(&at("name")), "the table is named twice in `tables`");
        }
        if !may_hold(selected, &table) {
            let message = format!("`tables` names `{}`, which the sink does not read", show(given));
            let help = "name it in `source.include_tables`, or take it out here";
            report.error_with_help(sink.place(&at("name")), message, help);
        }
        if let Some(columns) = group(sink, &index, given, report) {
            found.groups.push(TableGroup { table: table.clone(), columns });
        }
        let name = given.enrichment.as_ref().filter(|name| !roles::is_none(name));
        if let Some(name) = name {
            let sql = roles::enrichment(context, sink, &at("enrichment"), name, report);
            let sql = sql.unwrap_or_default().to_owned();
            found.enrichments.push(TableEnrichment {
                table: table.clone(),
                function: name.clone(),
                sql,
            });
        }
        seen.push(table);
    }
    of_all(context, sink, selected, &mut found, report);
    found
}

/// `group_column_names` of a table.
fn group(
    sink: &Resource<document::Sink>,
    index: &str,
    given: &TableFields,
    report: &mut Report<'_>,
) -> Option<Vec<String>> {
    let columns = given.group_column_names.as_ref()?;
    let place = sink.place(&["tables", index, "group_column_names"]);
    if sink.value.fields.message_grouping == Some(false) {
        let message = "`group_column_names` and `message_grouping: false` cannot be given together";
        report.error_with_help(place, message, "keep the columns to keep the order of their rows");
    }
    if columns.is_empty() {
        let help = "leave it out for the primary key";
        report.error_with_help(place, "`group_column_names` is empty", help);
    }
    for (at, column) in columns.iter().enumerate() {
        let place = sink.place(&["tables", index, "group_column_names", &at.to_string()]);
        if column.is_empty() {
            report.error(place, "`group_column_names` holds an empty name");
        } else if columns.iter().take(at).any(|other| other == column) {
            report.error(place, format_args!("`group_column_names` names `{column}` twice"));
        }
    }
    Some(columns.clone())
}

/// `enrichment` of the sink: its SQL is about the key of one table.
fn of_all(
    context: &Context<'_>,
    sink: &Resource<document::Sink>,
    selected: &Tables,
    found: &mut PerTable,
    report: &mut Report<'_>,
) {
    let name = sink.value.fields.enrichment.as_ref();
    let Some(name) = name.filter(|name| !roles::is_none(name)) else {
        return;
    };
    let sql = roles::enrichment(context, sink, &["enrichment"], name, report);
    let place = sink.place(&["enrichment"]);
    let Names::Only(tables) = &selected.tables else {
        return one_table(place, report);
    };
    let [table] = tables.as_slice() else {
        return one_table(place, report);
    };
    if found.enrichments.iter().any(|other| other.table == *table) {
        let message = "`enrichment` is given for the sink and for its table";
        report.error_with_help(place, message, "keep one of them");
        return;
    }
    let (table, sql) = (table.clone(), sql.unwrap_or_default().to_owned());
    found.enrichments.push(TableEnrichment { table, function: name.clone(), sql });
}

fn one_table(place: crate::diagnostic::Place, report: &mut Report<'_>) {
    report.error_with_help(
        place,
        "`enrichment` needs a sink with exactly one table in `source.include_tables`",
        "for more tables, say it for each: `tables: [{name: …, enrichment: …}]`",
    );
}

/// Whether the sink reads the table, as far as can be told here: what has an oid may have any name.
pub(super) fn may_hold(selected: &Tables, table: &Table) -> bool {
    let Table::Named { schema, .. } = table else {
        return true;
    };
    let in_schema = match &selected.schemas {
        Names::All => true,
        Names::Only(schemas) => schemas.contains(schema),
        Names::Except(schemas) => !schemas.contains(schema),
    };
    let in_tables = match &selected.tables {
        Names::All => true,
        Names::Only(tables) => {
            tables.contains(table) || tables.iter().any(|other| matches!(other, Table::Oid(_)))
        }
        Names::Except(tables) => !tables.contains(table),
    };
    in_schema && in_tables
}

fn show(given: &TableFields) -> String {
    match &given.name {
        document::Table::Name(name) => name.clone(),
        document::Table::Oid(oid) => oid.to_string(),
    }
}
