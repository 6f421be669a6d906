//! Sinks: what they refer to must be there, and their numbers within bounds.

use std::time::Duration;

use engine::select::{Actions, Names, Selection, Table, Tables};
use model::backoff::Backoff;
use options::endpoint;

use super::{Sink, Status, id, told};
use crate::diagnostic::Report;
use crate::document::{self, Action, Document, Resource, Role};
use crate::nearest::nearest;

/// The predecessor's bound.
const BATCH_SIZE_MAX: i64 = 1000;
/// The predecessor's default.
const BATCH_TIMEOUT_MS: i64 = 5;
const BATCH_TIMEOUT_MS_MAX: i64 = 60_000;
/// A day: whoever waits longer has forgotten.
const BACKOFF_MS_MAX: i64 = 86_400_000;

pub(super) fn resolve(
    document: &Document,
    endpoints: &[endpoint::Ready],
    report: &mut Report<'_>,
) -> Vec<Sink> {
    let mut resolved = Vec::new();
    for sink in &document.sinks.list {
        report.enter(format!("sink `{}`", sink.name));
        resolved.extend(resolve_one(document, endpoints, sink, report));
    }
    report.leave();
    resolved
}

fn resolve_one(
    document: &Document,
    endpoints: &[endpoint::Ready],
    sink: &Resource<document::Sink>,
    report: &mut Report<'_>,
) -> Option<Sink> {
    let fields = &sink.value.fields;
    let known = &document.databases;
    if !known.may_know(&fields.database) {
        dangling(sink, &["database"], "database", &fields.database, &known.names, report);
    }
    let filter = function(document, sink, "filter", fields.filter.as_ref(), Role::Filter, report);
    let transform =
        function(document, sink, "transform", fields.transform.as_ref(), Role::Transform, report);
    let batch_size = number(sink, "batch_size", fields.batch_size, 1, 1..=BATCH_SIZE_MAX, report);
    let linger = 0..=BATCH_TIMEOUT_MS_MAX;
    let given = fields.batch_timeout_ms;
    let linger = number(sink, "batch_timeout_ms", given, BATCH_TIMEOUT_MS, linger, report);
    let max_retry_count = fields.max_retry_count.map(|count| {
        number(sink, "max_retry_count", Some(count), 1, 1..=i64::from(u32::MAX), report)
    });
    let tables = tables(sink, report);
    let actions = actions(sink, report);
    let backoff = backoff(sink, report);
    check_actions(sink, report);
    let destination = sink.value.destination.ready(document, endpoints, sink, report);
    Some(Sink {
        name: sink.name.clone(),
        id: id("sink", &sink.name),
        status: match fields.status {
            None | Some(document::Status::Active) => Status::Active,
            Some(document::Status::Paused) => Status::Paused,
            Some(document::Status::Disabled) => Status::Disabled,
        },
        database: fields.database.clone(),
        selection: Selection { tables, actions },
        destination: destination?,
        batch_size: usize::try_from(batch_size).unwrap_or(1),
        batch_timeout: millis(linger),
        filter,
        transform,
        max_retry_count: max_retry_count.map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
        backoff,
        message_grouping: fields.message_grouping.unwrap_or(true),
        fetch_unchanged: fields.unchanged_values == Some(document::UnchangedValues::Fetch),
        annotations: sink.value.annotations.clone(),
    })
}

fn dangling(
    sink: &Resource<document::Sink>,
    path: &[&str],
    kind: &str,
    name: &str,
    known: &[String],
    report: &mut Report<'_>,
) {
    let message = format!("there is no {kind} `{name}`");
    let place = sink.place(path);
    match nearest(name, known.iter().map(String::as_str)) {
        Some(known) => report.error_with_help(place, message, format!("did you mean `{known}`?")),
        None if known.is_empty() => report.error(place, message),
        None => {
            let help = format!("this file has `{}`", known.join("`, `"));
            report.error_with_help(place, message, help);
        }
    }
}

/// The name of a function, which must be there and have the role.
fn function(
    document: &Document,
    sink: &Resource<document::Sink>,
    key: &str,
    name: Option<&String>,
    role: Role,
    report: &mut Report<'_>,
) -> Option<String> {
    let name = name.filter(|name| !matches!(name.as_str(), "none" | "null"))?;
    let functions = &document.functions;
    if !functions.may_know(name) {
        dangling(sink, &[key], "function", name, &functions.names, report);
    }
    let found = functions.list.iter().find(|function| function.name == *name);
    if found.is_some_and(|function| function.value.role != role) {
        report.error(sink.place(&[key]), format_args!("the function `{name}` is no {key}"));
    }
    Some(name.clone())
}

/// A number within bounds. What is out of bounds is told and replaced.
fn number(
    sink: &Resource<document::Sink>,
    key: &str,
    given: Option<i64>,
    default: i64,
    bounds: std::ops::RangeInclusive<i64>,
    report: &mut Report<'_>,
) -> i64 {
    match given {
        Some(number) if bounds.contains(&number) => number,
        Some(_) => {
            let (from, to) = (bounds.start(), bounds.end());
            let message = format!("`{key}` must be between {from} and {to}");
            report.error(sink.place(&[key]), message);
            default
        }
        None => default,
    }
}

fn millis(number: i64) -> Duration {
    Duration::from_millis(number.unsigned_abs())
}

fn backoff(sink: &Resource<document::Sink>, report: &mut Report<'_>) -> Backoff {
    let mut backoff = Backoff::default();
    let Some(given) = &sink.value.fields.retry_backoff else {
        return backoff;
    };
    let times = [
        ("first_ms", given.first_ms, &mut backoff.first),
        ("cap_ms", given.cap_ms, &mut backoff.cap),
    ];
    for (key, given, time) in times {
        match given {
            Some(ms @ 1..=BACKOFF_MS_MAX) => *time = millis(ms),
            Some(_) => {
                let message =
                    format!("`retry_backoff.{key}` must be between 1 and {BACKOFF_MS_MAX}");
                report.error(sink.place(&["retry_backoff", key]), message);
            }
            None => {}
        }
    }
    if backoff.first > backoff.cap {
        let message = "the first delay is longer than the longest";
        report.error(sink.place(&["retry_backoff", "first_ms"]), message);
    }
    backoff
}

fn tables(sink: &Resource<document::Sink>, report: &mut Report<'_>) -> Tables {
    let fields = &sink.value.fields;
    let older = [("table", &fields.table), ("schema", &fields.schema)];
    if fields.source.is_some() {
        for (key, _) in older.into_iter().filter(|(_, given)| given.is_some()) {
            let message = format!("`{key}` and `source` cannot be given together");
            report.error_with_help(sink.place(&[key]), message, "keep `source`");
        }
    }
    let given = fields.source.as_ref();
    let mut schemas = names(
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
    if let Some(schema) = &fields.schema {
        schemas = Names::Only(vec![schema.clone()]);
    }
    let all = |tables: Vec<document::Table>| tables.iter().map(table).collect();
    let tables = match (tables, &fields.table) {
        (_, Some(name)) => Names::Only(vec![named(name)]),
        (Names::All, None) => Names::All,
        (Names::Only(tables), None) => Names::Only(all(tables)),
        (Names::Except(tables), None) => Names::Except(all(tables)),
    };
    Tables { schemas, tables }
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

fn table(table: &document::Table) -> Table {
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

fn actions(sink: &Resource<document::Sink>, report: &mut Report<'_>) -> Actions {
    let Some(given) = &sink.value.fields.actions else {
        return Actions::default();
    };
    if given.is_empty() {
        let help = "leave it out for all of them, or say `status: disabled`";
        report.error_with_help(sink.place(&["actions"]), "`actions` is empty", help);
    }
    Actions {
        insert: given.contains(&Action::Insert),
        update: given.contains(&Action::Update),
        delete: given.contains(&Action::Delete),
        truncate: given.contains(&Action::Truncate),
    }
}

fn check_actions(sink: &Resource<document::Sink>, report: &mut Report<'_>) {
    let mut given = sink.value.fields.actions.iter().flatten();
    if sink.value.destination.name() == "typesense" && given.any(|one| *one == Action::Truncate) {
        report.error_with_help(
            sink.place(&["actions"]),
            "`truncate` cannot be delivered to a Typesense collection",
            "leave it out: which documents came from the table is not known; empty the \
             collection yourself when you truncate",
        );
    }
}

/// A webhook with its endpoint.
pub(crate) fn webhook(
    document: &Document,
    endpoints: &[endpoint::Ready],
    sink: &Resource<document::Sink>,
    options: &options::webhook::Options,
    report: &mut Report<'_>,
) -> Option<options::webhook::Ready> {
    if !options.batch && sink.value.fields.batch_size.is_some_and(|size| size > 1) {
        report.error_with_help(
            sink.place(&["destination", "batch"]),
            "`batch: false` sends one message per request, but `batch_size` is more than 1",
            "remove `batch_size`, or say `batch: true`",
        );
    }
    let (known, name) = (&document.http_endpoints, &options.http_endpoint);
    if !known.may_know(name) {
        let path = ["destination", "http_endpoint"];
        dangling(sink, &path, "http endpoint", name, &known.names, report);
    }
    let endpoint = endpoints.iter().find(|endpoint| endpoint.name == *name)?;
    told(sink, &["destination"], options.validate(endpoint), report)
}
