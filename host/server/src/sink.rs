//! `sequin sink`: the sinks of an engine.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::Failure;
use crate::api::{Request, ask, lines};
use crate::cli::SinkCommand;
use crate::plugin::print;
use crate::table::{cell, table};

pub(crate) fn run(command: &SinkCommand) -> Result<(), Failure> {
    match command {
        SinkCommand::List { json } => list(*json),
        SinkCommand::Show { sink } => {
            let shown = ask(Request { path: &["sinks", sink], ..Request::default() })?;
            Ok(print(&format!("{shown:#}\n")).map(drop)?)
        }
        SinkCommand::Pause { sink } => become_status(sink, "paused"),
        SinkCommand::Resume { sink } => {
            become_status(sink, "active")?;
            // One that has stopped itself over its dead letters is told to go on by itself.
            let path = ["sinks", sink.as_str(), "resume"];
            ask(Request { method: Method::POST, path: &path, ..Request::default() }).map(drop)
        }
        SinkCommand::Test { sink } => test(sink),
        SinkCommand::Tail { sink, rows, seconds } => tail(sink, *rows, *seconds),
    }
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

fn become_status(sink: &str, status: &str) -> Result<(), Failure> {
    let changed = ask(Request {
        method: Method::PATCH,
        path: &["sinks", sink],
        body: json!({ "status": status }).to_string().into_bytes(),
        ..Request::default()
    })?;
    let name = changed.get("name").and_then(Value::as_str).unwrap_or(sink);
    Ok(print(&format!("sink {name} is {status}\n")).map(drop)?)
}

fn list(as_json: bool) -> Result<(), Failure> {
    let told = ask(Request { path: &["sinks"], ..Request::default() })?;
    let all = told.get("data").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if as_json {
        let lines: String = all.iter().map(|sink| format!("{sink}\n")).collect();
        return Ok(print(&lines).map(drop)?);
    }
    let row = |sink: &Value| {
        let kind = sink.get("destination").and_then(|it| it.get("type"));
        [sink.get("name"), kind, sink.get("status"), sink.get("database")].map(cell)
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    Ok(print(&table(["name", "type", "status", "database"], &rows)).map(drop)?)
}
