//! `sequin sink`: the sinks of an engine.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::Failure;
use crate::api::{Request, ask, lines};
use crate::cli::SinkCommand;
use crate::plugin::print;
use crate::table::{cell, table};

/// Sinks, or what runs as one.
pub(crate) struct Kind {
    /// Below `/api`.
    pub(crate) path: &'static str,
    pub(crate) called: &'static str,
    pub(crate) columns: [&'static str; 4],
    pub(crate) row: fn(&Value) -> [String; 4],
}

const SINKS: Kind = Kind {
    path: "sinks",
    called: "sink",
    columns: ["name", "type", "status", "database"],
    row: |sink| {
        let kind = sink.get("destination").and_then(|it| it.get("type"));
        [sink.get("name"), kind, sink.get("status"), sink.get("database")].map(cell)
    },
};

pub(crate) fn run(command: &SinkCommand) -> Result<(), Failure> {
    match command {
        SinkCommand::List { json } => list(&SINKS, *json),
        SinkCommand::Show { sink } => show(&SINKS, sink),
        SinkCommand::Pause { sink } => pause(&SINKS, sink),
        SinkCommand::Resume { sink } => resume(&SINKS, sink),
        SinkCommand::Test { sink } => test(sink),
        SinkCommand::Tail { sink, rows, seconds } => tail(sink, *rows, *seconds),
    }
}

pub(crate) fn show(kind: &Kind, which: &str) -> Result<(), Failure> {
    let shown = ask(Request { path: &[kind.path, which], ..Request::default() })?;
    Ok(print(&format!("{shown:#}\n")).map(drop)?)
}

pub(crate) fn pause(kind: &Kind, which: &str) -> Result<(), Failure> {
    become_status(kind, which, "paused").map(drop)
}

pub(crate) fn resume(kind: &Kind, which: &str) -> Result<(), Failure> {
    let resumed = become_status(kind, which, "active")?;
    // One that has stopped itself over its dead letters is told to go on by itself.
    let id = resumed.get("id").and_then(Value::as_str).unwrap_or(which);
    let path = ["sinks", id, "resume"];
    ask(Request { method: Method::POST, path: &path, ..Request::default() }).map(drop)
}

fn test(sink: &str) -> Result<(), Failure> {
    let path = ["sinks", sink, "test_connection"];
    let told = ask(Request { method: Method::POST, path: &path, ..Request::default() })?;
    if told.get("success").and_then(Value::as_bool) == Some(true) {
        return Ok(print(&format!("sink {sink}: its destination takes messages\n")).map(drop)?);
    }
    let reason = told.get("reason").and_then(Value::as_str).unwrap_or("no reason was told");
    Err(Failure::Broken(format!("error: sink {sink}: {reason}")))
}

fn tail(sink: &str, rows: u32, seconds: u32) -> Result<(), Failure> {
    let (rows, wanted) = (rows.to_string(), seconds.to_string());
    let request = Request {
        path: &["sinks", sink, "tail"],
        query: &[("rows", &rows), ("seconds", &wanted)],
        // The engine ends it.
        timeout: Duration::from_secs(u64::from(seconds) + 60),
        ..Request::default()
    };
    let mut is_end = false;
    lines(request, |line| {
        if let Some(event) = line.strip_prefix("event:") {
            is_end = event.trim() == "end";
        }
        match line.strip_prefix("data:").filter(|_| !is_end) {
            Some(data) => print(&format!("{}\n", data.trim())),
            None => Ok(true),
        }
    })
}

fn become_status(kind: &Kind, which: &str, status: &str) -> Result<Value, Failure> {
    let changed = ask(Request {
        method: Method::PATCH,
        path: &[kind.path, which],
        body: json!({ "status": status }).to_string().into_bytes(),
        ..Request::default()
    })?;
    let name = changed.get("name").and_then(Value::as_str).unwrap_or(which);
    print(&format!("{} {name} is {status}\n", kind.called))?;
    Ok(changed)
}

pub(crate) fn list(kind: &Kind, as_json: bool) -> Result<(), Failure> {
    let told = ask(Request { path: &[kind.path], ..Request::default() })?;
    let all = told.get("data").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if as_json {
        let lines: String = all.iter().map(|one| format!("{one}\n")).collect();
        return Ok(print(&lines).map(drop)?);
    }
    let rows: Vec<_> = all.iter().map(kind.row).collect();
    Ok(print(&table(kind.columns, &rows)).map(drop)?)
}
