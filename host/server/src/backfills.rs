//! `sequin backfills`: asks the engine.

use std::io::Write as _;

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::Failure;
use crate::api::{Request, ask};
use crate::cli::{BackfillCommand, BackfillStart, OneBackfill};

pub(crate) fn run(command: &BackfillCommand) -> Result<(), Failure> {
    let answer = match command {
        BackfillCommand::List { sink } => {
            ask(Request { path: &["sinks", sink, "backfills"], ..Request::default() })
        }
        BackfillCommand::Start(start) => ask(Request {
            method: Method::POST,
            path: &["sinks", &start.sink, "backfills"],
            body: wanted(start).to_string().into_bytes(),
            ..Request::default()
        }),
        BackfillCommand::Pause(one) => become_state(one, "paused"),
        BackfillCommand::Resume(one) => become_state(one, "active"),
        BackfillCommand::Cancel(one) => become_state(one, "cancelled"),
    }?;
    let mut out = std::io::stdout().lock();
    let one = std::slice::from_ref(&answer);
    let lines = answer.get("data").and_then(Value::as_array).map_or(one, Vec::as_slice);
    for line in lines {
        writeln!(out, "{line}").context("print backfills")?;
    }
    Ok(())
}

fn become_state(one: &OneBackfill, state: &str) -> Result<Value, Failure> {
    ask(Request {
        method: Method::PATCH,
        path: &["sinks", &one.sink, "backfills", &one.id],
        body: json!({ "state": state }).to_string().into_bytes(),
        ..Request::default()
    })
}

fn wanted(start: &BackfillStart) -> Value {
    let given = [
        ("table", start.table.as_ref().map(|table| json!(table))),
        ("sort_column", start.sort_column.as_ref().map(|column| json!(column))),
        ("start_position", start.start_position.as_ref().map(|position| json!(position))),
        ("condition", start.condition.as_ref().map(|condition| json!(condition))),
        ("max_timeout_ms", start.max_timeout_ms.map(|ms| json!(ms))),
        ("max_rows_per_second", start.max_rows_per_second.map(|rows| json!(rows))),
        ("ranges", start.ranges.map(|ranges| json!(ranges))),
        ("by_place", start.by_place.then_some(json!(true))),
    ];
    let given = given.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(given.collect())
}
