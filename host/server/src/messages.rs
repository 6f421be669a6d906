//! `sequin messages`: what a sink has tried in vain and tries again.

use reqwest::Method;
use serde_json::{Value, json};

use crate::Failure;
use crate::api::{Request, ask};
use crate::cli::MessagesCommand;
use crate::plugin::print;

pub(crate) fn run(command: &MessagesCommand) -> Result<(), Failure> {
    let told = match command {
        MessagesCommand::List { sink } => {
            let path = ["sinks", sink.as_str(), "messages"];
            let told = ask(Request { path: &path, ..Request::default() })?;
            let all = told.get("data").and_then(Value::as_array).into_iter().flatten();
            let lines: String = all.map(|message| format!("{message}\n")).collect();
            return Ok(print(&lines).map(drop)?);
        }
        MessagesCommand::Retry { sink, message } => match message {
            Some(message) => post(&["sinks", sink, "messages", message, "retry"], json!({}))?,
            None => post(&["sinks", sink, "messages", "retry"], json!({}))?,
        },
        MessagesCommand::Discard { sink, message, reason } => {
            post(&["sinks", sink, "messages", message, "discard"], json!({"reason": reason}))?
        }
    };
    Ok(print(&format!("{told}\n")).map(drop)?)
}

fn post(path: &[&str], body: Value) -> Result<Value, Failure> {
    let body = body.to_string().into_bytes();
    ask(Request { method: Method::POST, path, body, ..Request::default() })
}
