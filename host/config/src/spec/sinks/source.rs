//! Which tables a sink reads.

use engine::select::{Names, Table, Tables};

use crate::diagnostic::Report;
use crate::document::{self, Resource};

pub(super) fn resolve(sink: &Resource<document::Sink>, report: &mut Report<'_>) -> Tables {
    let fields = &sink.value.fields;
    let older = [("table", &fields.table), ("schema", &fields.schema)];
    if fields.source.is_some() {
        for (key, _) in older.into_iter().filter(|(_, given)| given.is_some()) {
            let message = format!("`{key}` and `source` cannot be given together");
            report.error_with_help(sink.place(&[key]), message, "keep `source`");
        }
    }
    for (key, given) in older {
        if given.as_ref().is_some_and(String::is_empty) {
            report.error(sink.place(&[key]), format_args!("`{key}` is empty"));
        }
    }
    let given = fields.source.as_ref();
    let schemas = names(
        sink,
        "schemas",
        given.and_then(|source| source.include_schemas.as_ref()),
        given.and_then(|source| source.exclude_schemas.as_ref()),
        String::is_empty,
        report,
    );
    let tables = names(
        sink,
        "tables",
        given.and_then(|source| source.include_tables.as_ref()),
        given.and_then(|source| source.exclude_tables.as_ref()),
        |table| matches!(table, document::Table::Name(name) if name.is_empty()),
        report,
    );
    let all = |tables: Vec<document::Table>| tables.iter().map(table).collect();
    let tables = match tables {
        Names::All => Names::All,
        Names::Only(tables) => Names::Only(all(tables)),
        Names::Except(tables) => Names::Except(all(tables)),
    };
    match (&fields.table, &fields.schema) {
        (None, None) => Tables { schemas, tables },
        (None, Some(schema)) => Tables { schemas: Names::Only(vec![schema.clone()]), tables },
        (Some(table), None) => Tables { schemas, tables: Names::Only(vec![named(table)]) },
        (Some(table), Some(schema)) => {
            // The schema is that of the table, which may say it again.
            let written = table.split_once('.');
            if written.is_some_and(|(other, _)| other != schema) {
                let message = format!("`table` is not in the schema `{schema}`");
                let help = "keep one of them, or say the schema in one place only";
                report.error_with_help(sink.place(&["table"]), message, help);
            }
            let table = written.map_or(table.as_str(), |(_, table)| table).to_owned();
            let only = Table::Named { schema: schema.clone(), table };
            Tables { schemas, tables: Names::Only(vec![only]) }
        }
    }
}

/// `include_KIND` and `exclude_KIND` of the source.
fn names<T: Clone>(
    sink: &Resource<document::Sink>,
    kind: &str,
    include: Option<&Vec<T>>,
    exclude: Option<&Vec<T>>,
    is_empty: impl Fn(&T) -> bool,
    report: &mut Report<'_>,
) -> Names<T> {
    let keys = (format!("include_{kind}"), format!("exclude_{kind}"));
    for (key, list) in [(&keys.0, include), (&keys.1, exclude)] {
        let place = sink.place(&["source", key]);
        if list.is_some_and(Vec::is_empty) {
            let help = "leave it out to name none";
            report.error_with_help(place, format_args!("`source.{key}` is empty"), help);
        }
        if list.is_some_and(|list| list.iter().any(&is_empty)) {
            report.error(place, format_args!("`source.{key}` holds an empty name"));
        }
    }
    match (include, exclude) {
        (None, None) => Names::All,
        (Some(names), None) => Names::Only(names.clone()),
        (None, Some(names)) => Names::Except(names.clone()),
        (Some(names), Some(_)) => {
            let message = format!("`{}` and `{}` exclude each other", keys.0, keys.1);
            report.error(sink.place(&["source", &keys.1]), message);
            Names::Only(names.clone())
        }
    }
}

pub(super) fn table(table: &document::Table) -> Table {
    match table {
        document::Table::Name(name) => named(name),
        document::Table::Oid(oid) => Table::Oid(*oid),
    }
}

/// `schema.table`, or a table of `public`.
fn named(name: &str) -> Table {
    let (schema, table) = name.split_once('.').unwrap_or(("public", name));
    Table::Named { schema: schema.to_owned(), table: table.to_owned() }
}
