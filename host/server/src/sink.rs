//! `sequin sink`: the sinks of an engine.

use reqwest::Method;
use serde_json::{Value, json};

use crate::Failure;
use crate::api::{Request, ask};
use crate::cli::SinkCommand;
use crate::plugin::print;

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
    let text = |value: Option<&Value>| match value {
        Some(Value::String(text)) => text.chars().filter(|char| !char.is_control()).collect(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let row = |sink: &Value| -> [String; 4] {
        let of = |key: &str| text(sink.get(key));
        let kind = text(sink.get("destination").and_then(|it| it.get("type")));
        [of("name"), kind, of("status"), of("database")]
    };
    let head = ["name", "type", "status", "database"].map(str::to_owned);
    let rows: Vec<_> = [head].into_iter().chain(all.iter().map(row)).collect();
    let mut widths = [0; 4];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    });
    Ok(print(&lines.collect::<String>()).map(drop)?)
}
