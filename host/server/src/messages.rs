//! `sequin messages`: what a sink has tried in vain and tries again, and what was put aside.

use reqwest::Method;
use serde_json::{Value, json};

use crate::Failure;
use crate::api::{Request, ask, text};
use crate::cli::{EditMessageArguments, MessagesCommand};
use crate::letters::ask as ask_letters;
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
        MessagesCommand::Show { sink, message } => {
            let path = of(sink, message);
            let text = text(Request { path: &path, ..Request::default() })?;
            return Ok(print(&format!("{text}\n")).map(drop)?);
        }
        MessagesCommand::Edit(EditMessageArguments { sink, which, instead }) => {
            let (path, body) = (of(sink, which), ask_letters::edited(instead)?.into_bytes());
            ask(Request { method: Method::PATCH, path: &path, body, ..Request::default() })?
        }
        MessagesCommand::Replay(arguments) => return ask_letters::replay(arguments),
        MessagesCommand::Retry { sink, message } => match message {
            Some(message) => post(&[of(sink, message), vec!["retry"]].concat(), json!({}))?,
            None => post(&["sinks", sink, "messages", "retry"], json!({}))?,
        },
        MessagesCommand::Discard { sink, message, reason } => {
            post(&[of(sink, message), vec!["discard"]].concat(), json!({"reason": reason}))?
        }
    };
    Ok(print(&format!("{told}\n")).map(drop)?)
}

/// A number is a letter: messages that wait are called otherwise.
fn of<'a>(sink: &'a str, message: &'a str) -> Vec<&'a str> {
    if message.bytes().all(|byte| byte.is_ascii_digit()) {
        vec!["letters", message]
    } else {
        vec!["sinks", sink, "messages", message]
    }
}

fn post(path: &[&str], body: Value) -> Result<Value, Failure> {
    let body = body.to_string().into_bytes();
    ask(Request { method: Method::POST, path, body, ..Request::default() })
}
