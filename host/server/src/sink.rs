//! `sequin sink`: the sinks of an engine.

use reqwest::Method;
use serde_json::{Value, json};

use crate::Failure;
use crate::api::{Request, ask};
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
    }
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
