//! Change retentions: each becomes a sink of one table, whose destination is a table of a database.

use std::collections::BTreeMap;

use engine::backfill::Initial;
use engine::select::{Names, Selection, Table, Tables};
use engine::spec::OnFull;
use engine::trip::LetterLimit;
use model::backoff::Backoff;
use model::conditions::{self, Condition, InvalidCondition, Operand};
use model::json::Timestamps;

use super::sinks::{actions, millis, status};
use super::{Destination, GroupScope, RETENTION, Retention, Server, Sink, id};
use crate::diagnostic::Report;
use crate::document::change_retentions::{
    ChangeRetention, Comparison, FieldType, Filter, Operator, Scalar,
};
use crate::document::{Document, Resource};

/// As the predecessor moves changes. One statement writes them.
const BATCH_SIZE: usize = 1000;
/// Nobody waits for a row of an audit, and company makes it cheap.
const BATCH_TIMEOUT_MS: i64 = 50;
/// As everywhere where a table has no schema.
const SCHEMA: &str = "public";

pub(super) fn resolve(
    document: &Document,
    servers: &BTreeMap<String, Server>,
    report: &mut Report<'_>,
) -> Vec<Sink> {
    let mut resolved = Vec::new();
    for retention in &document.change_retentions.list {
        report.enter(format!("change retention `{}`", retention.name));
        resolved.extend(resolve_one(document, servers, retention, report));
    }
    report.leave();
    resolved
}

fn resolve_one(
    document: &Document,
    servers: &BTreeMap<String, Server>,
    retention: &Resource<ChangeRetention>,
    report: &mut Report<'_>,
) -> Option<Sink> {
    let fields = &retention.value;
    let known = &document.databases;
    for (key, name) in [
        ("source_database", &fields.source_database),
        ("destination_database", &fields.destination_database),
    ] {
        if !known.may_know(name) {
            super::sinks::dangling(retention, &[key], "database", name, &known.names, report);
        }
    }
    let mut named = |key: &str, given: Option<&String>| {
        if given.is_some_and(|name| name.is_empty() || name.contains('\0')) {
            report.error(retention.place(&[key]), format_args!("`{key}` is empty, or holds a NUL"));
        }
        given.map_or(SCHEMA, String::as_str).to_owned()
    };
    let source = (
        named("source_table_schema", fields.source_table_schema.as_ref()),
        named("source_table_name", Some(&fields.source_table_name)),
    );
    let destination = (
        named("destination_table_schema", fields.destination_table_schema.as_ref()),
        named("destination_table_name", Some(&fields.destination_table_name)),
    );
    if source == destination && fields.source_database == fields.destination_database {
        let help = "each row that it keeps would be a change that it keeps: name another table";
        let message = "the destination is the source itself";
        report.error_with_help(retention.place(&["destination_table_name"]), message, help);
    }
    let actions = actions(retention, fields.actions.as_deref(), report);
    let filters = fields.filters.as_deref().unwrap_or_default();
    let conditions = filters.iter().enumerate();
    let conditions: Vec<_> =
        conditions.filter_map(|(index, it)| condition(retention, index, it, report)).collect();
    let server = servers.get(&fields.destination_database)?;
    let (schema, table) = source;
    let only = Table::Named { schema, table };
    let tables = Tables { schemas: Names::All, tables: Names::Only(vec![only]) };
    Some(Sink {
        name: format!("{RETENTION}{}", retention.name),
        id: id("change_retention", &retention.name),
        status: status(fields.status),
        database: fields.source_database.clone(),
        selection: Selection { tables, actions },
        destination: Destination::Retention(Box::new(Retention {
            conditions,
            database: fields.destination_database.clone(),
            server: server.clone(),
            schema: destination.0,
            table: destination.1,
            create: fields.create_if_not_exists,
        })),
        batch_size: BATCH_SIZE,
        batch_timeout: millis(BATCH_TIMEOUT_MS),
        filters: Vec::new(),
        routers: Vec::new(),
        transforms: Vec::new(),
        path: None,
        enrichments: Vec::new(),
        groups: Vec::new(),
        group_scope: GroupScope::Table,
        timestamps: Timestamps::Iso8601,
        max_retry_count: None,
        on_full: OnFull::Pause,
        backoff: Backoff::default(),
        rate_limit: None,
        letter_limit: LetterLimit::default(),
        initial: Initial::default(),
        message_grouping: true,
        // A record is the whole row, as the predecessor has it.
        fetch_unchanged: true,
        annotations: "{}".to_owned(),
    })
}

fn condition(
    retention: &Resource<ChangeRetention>,
    index: usize,
    filter: &Filter,
    report: &mut Report<'_>,
) -> Option<Condition> {
    let index = index.to_string();
    let place = |key| retention.place(&["filters", &index, key]);
    if filter.column_name.is_empty() {
        report.error(place("column_name"), "`column_name` is empty");
    }
    let path: Vec<Box<str>> = match filter.field_path.as_deref() {
        None | Some("") => Vec::new(),
        Some(path) => path.split('.').map(Into::into).collect(),
    };
    if path.iter().any(|key| key.is_empty()) {
        let help = "its keys stand between single dots: `address.city`";
        report.error_with_help(place("field_path"), "`field_path` has an empty key", help);
    }
    let field_type = filter.field_type.map_or_else(|| inferred(filter), field_type);
    let operator = operator(filter.operator);
    let operand = operand(filter.comparison_value.as_ref());
    let made = Condition::new(&filter.column_name, path, field_type, operator, &operand);
    let error = match made {
        Ok(condition) => return Some(condition),
        Err(error) => error,
    };
    let key = match error {
        InvalidCondition::Operator { .. } => "operator",
        InvalidCondition::Operand { .. } | InvalidCondition::Value { .. } => "comparison_value",
    };
    let (message, place) = (format!("filter over `{}`: {error}", filter.column_name), place(key));
    match (&error, operand) {
        (InvalidCondition::Operand { .. }, Operand::None) => {
            report.error_with_help(place, message, "write it as `comparison_value`");
        }
        _ => report.error(place, message),
    }
    None
}

/// The type of what is compared with, where none is named.
fn inferred(filter: &Filter) -> conditions::FieldType {
    let of = |scalar: &Scalar| match scalar {
        Scalar::Text(_) => conditions::FieldType::Text,
        Scalar::Number(_) => conditions::FieldType::Number,
        Scalar::Boolean(_) => conditions::FieldType::Boolean,
    };
    match &filter.comparison_value {
        Some(Comparison::One(scalar)) => of(scalar),
        // Only a list is equal to a list.
        Some(Comparison::Several(_))
            if !matches!(filter.operator, Operator::In | Operator::NotIn) =>
        {
            conditions::FieldType::List
        }
        Some(Comparison::Several(all)) => {
            let mut types = all.iter().map(of);
            let first = types.next().unwrap_or(conditions::FieldType::Text);
            if types.all(|other| other == first) { first } else { conditions::FieldType::Text }
        }
        None => conditions::FieldType::Text,
    }
}

fn operand(written: Option<&Comparison>) -> Operand {
    let text = |scalar: &Scalar| match scalar {
        Scalar::Text(text) | Scalar::Number(text) => text.clone(),
        Scalar::Boolean(value) => value.to_string(),
    };
    match written {
        None => Operand::None,
        Some(Comparison::One(scalar)) => Operand::One(text(scalar)),
        Some(Comparison::Several(all)) => Operand::Several(all.iter().map(text).collect()),
    }
}

const fn field_type(written: FieldType) -> conditions::FieldType {
    match written {
        FieldType::String => conditions::FieldType::Text,
        FieldType::CiString => conditions::FieldType::CaseInsensitive,
        FieldType::Number => conditions::FieldType::Number,
        FieldType::Boolean => conditions::FieldType::Boolean,
        FieldType::DateTime => conditions::FieldType::Time,
        FieldType::List => conditions::FieldType::List,
    }
}

const fn operator(written: Operator) -> conditions::Operator {
    match written {
        Operator::Equal | Operator::Same => conditions::Operator::Equal,
        Operator::NotEqual => conditions::Operator::NotEqual,
        Operator::Greater => conditions::Operator::Greater,
        Operator::Less => conditions::Operator::Less,
        Operator::GreaterOrEqual => conditions::Operator::GreaterOrEqual,
        Operator::LessOrEqual => conditions::Operator::LessOrEqual,
        Operator::In => conditions::Operator::In,
        Operator::NotIn => conditions::Operator::NotIn,
        Operator::IsNull => conditions::Operator::IsNull,
        Operator::IsNotNull => conditions::Operator::IsNotNull,
    }
}
