//! Sinks: what they refer to must be there, and their numbers within bounds.

mod initial;
mod limits;
mod roles;
mod source;
mod tables;

use std::time::Duration;

use engine::select::{Actions, Selection};
use engine::spec::OnFull;
use model::backoff::Backoff;
use model::json::Timestamps;
use options::endpoint;

use super::{Function, Sink, Status, id, told};
use crate::diagnostic::Report;
use crate::document::{self, Action, Document, Resource, TimestampFormat};
use crate::nearest::nearest;

/// The predecessor's bound.
const BATCH_SIZE_MAX: i64 = 1000;
/// The predecessor's default.
const BATCH_TIMEOUT_MS: i64 = 5;
const BATCH_TIMEOUT_MS_MAX: i64 = 60_000;
/// A day: whoever waits longer has forgotten.
const BACKOFF_MS_MAX: i64 = 86_400_000;

/// What a sink can refer to.
pub(super) struct Context<'a> {
    pub(super) document: &'a Document,
    pub(super) endpoints: &'a [endpoint::Ready],
    pub(super) functions: &'a [Function],
}

pub(super) fn resolve(context: &Context<'_>, report: &mut Report<'_>) -> Vec<Sink> {
    let mut resolved = Vec::new();
    for sink in &context.document.sinks.list {
        report.enter(format!("sink `{}`", sink.name));
        resolved.extend(resolve_one(context, sink, report));
    }
    report.leave();
    resolved
}

fn resolve_one(
    context: &Context<'_>,
    sink: &Resource<document::Sink>,
    report: &mut Report<'_>,
) -> Option<Sink> {
    let fields = &sink.value.fields;
    let known = &context.document.databases;
    if !known.may_know(&fields.database) {
        dangling(sink, &["database"], "database", &fields.database, &known.names, report);
    }
    let roles = roles::resolve(context, sink, report);
    let batch_size = batch_size(sink, report);
    let linger = 0..=BATCH_TIMEOUT_MS_MAX;
    let given = fields.batch_timeout_ms;
    let linger = number(sink, &["batch_timeout_ms"], given, BATCH_TIMEOUT_MS, linger, report);
    let max_retry_count = fields.max_retry_count.map(|count| {
        number(sink, &["max_retry_count"], Some(count), 1, 1..=i64::from(u32::MAX), report)
    });
    let selected = source::resolve(sink, report);
    let per_table = tables::resolve(context, sink, &selected, report);
    let actions = actions(sink, fields.actions.as_deref(), report);
    let backoff = backoff(sink, report);
    let rate_limit = limits::rate(sink, report);
    let letter_limit = limits::letters(sink, report);
    let initial = initial::resolve(sink, &selected, report);
    check_actions(sink, report);
    let destination =
        sink.value.destination.as_ref()?.ready(context.document, context.endpoints, sink, report);
    Some(Sink {
        name: sink.name.clone(),
        id: id("sink", &sink.name),
        status: status(fields.status),
        database: fields.database.clone(),
        selection: Selection { tables: selected, actions },
        destination: destination?,
        batch_size: usize::try_from(batch_size).unwrap_or(1),
        batch_timeout: millis(linger),
        filters: roles.filters,
        routers: roles.routers,
        transforms: roles.transforms,
        path: roles.path,
        enrichments: per_table.enrichments,
        groups: per_table.groups,
        group_scope: per_table.group_scope,
        timestamps: match fields.timestamp_format {
            None | Some(TimestampFormat::Iso8601) => Timestamps::Iso8601,
            Some(TimestampFormat::UnixMicrosecond) => Timestamps::UnixMicroseconds,
        },
        max_retry_count: max_retry_count.map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
        on_full: match fields.load_shedding_policy {
            None | Some(document::LoadShedding::PauseOnFull) => OnFull::Pause,
            Some(document::LoadShedding::DiscardOnFull) => OnFull::Discard,
        },
        backoff,
        rate_limit,
        letter_limit,
        initial,
        message_grouping: fields.message_grouping.unwrap_or(true),
        fetch_unchanged: fields.unchanged_values == Some(document::UnchangedValues::Fetch),
        annotations: sink.value.annotations.clone(),
    })
}

pub(super) fn status(given: Option<document::Status>) -> Status {
    match given {
        None | Some(document::Status::Active) => Status::Active,
        Some(document::Status::Paused) => Status::Paused,
        Some(document::Status::Disabled) => Status::Disabled,
    }
}

pub(super) fn dangling<T>(
    from: &Resource<T>,
    path: &[&str],
    kind: &str,
    name: &str,
    known: &[String],
    report: &mut Report<'_>,
) {
    let message = format!("there is no {kind} `{name}`");
    let place = from.place(path);
    match nearest(name, known.iter().map(String::as_str)) {
        Some(known) => report.error_with_help(place, message, format!("did you mean `{known}`?")),
        None if known.is_empty() => report.error(place, message),
        None => {
            let help = format!("this file has `{}`", known.join("`, `"));
            report.error_with_help(place, message, help);
        }
    }
}

/// A number within bounds. What is out of bounds is told and replaced.
fn number(
    sink: &Resource<document::Sink>,
    path: &[&str],
    given: Option<i64>,
    default: i64,
    bounds: std::ops::RangeInclusive<i64>,
    report: &mut Report<'_>,
) -> i64 {
    match given {
        Some(number) if bounds.contains(&number) => number,
        Some(_) => {
            let (from, to) = (bounds.start(), bounds.end());
            let message = format!("`{}` must be between {from} and {to}", path.join("."));
            report.error(sink.place(path), message);
            default
        }
        None => default,
    }
}

/// What is written somewhere costs by the write, so as much as is there goes into one.
fn batch_size(sink: &Resource<document::Sink>, report: &mut Report<'_>) -> i64 {
    let given = sink.value.fields.batch_size;
    let default = match sink.value.destination_type() {
        "file" | "stdout" | "benchmark" => BATCH_SIZE_MAX,
        "sequin_stream" if given.is_some() => {
            let message = "`batch_size` is ignored: a consumer of a stream says how many it wants";
            let help = "remove it when nothing else reads this file";
            report.warning(sink.place(&["batch_size"]), message, help);
            1
        }
        _ => 1,
    };
    number(sink, &["batch_size"], given, default, 1..=BATCH_SIZE_MAX, report)
}

pub(super) fn millis(number: i64) -> Duration {
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

pub(super) fn actions<T>(
    from: &Resource<T>,
    given: Option<&[Action]>,
    report: &mut Report<'_>,
) -> Actions {
    let Some(given) = given else {
        return Actions::default();
    };
    if given.is_empty() {
        let help = "leave it out for all of them, or say `status: disabled`";
        report.error_with_help(from.place(&["actions"]), "`actions` is empty", help);
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
    if sink.value.destination_type() == "typesense" && given.any(|one| *one == Action::Truncate) {
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
