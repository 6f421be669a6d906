//! What is asked of the engine, over its API.

use anyhow::Context as _;
use reqwest::Method;
use serde_json::json;
use serde_json::value::RawValue;

use super::print;
use crate::Failure;
use crate::api::{Request, text};
use crate::cli::{EditLetterArguments, Instead, ReplayLettersArguments};

pub(super) fn edit(arguments: &EditLetterArguments) -> Result<(), Failure> {
    let EditLetterArguments { id, instead } = arguments;
    tell(Method::PATCH, &["letters", &id.to_string()], &edited(instead)?)
}

/// The body that says what is to be sent instead.
pub(crate) fn edited(instead: &Instead) -> Result<String, Failure> {
    let Instead { input, message } = instead;
    let (name, said) = match (input, message) {
        (Some(input), _) => ("input", input.as_str()),
        (None, message) => ("message", message.as_deref().unwrap_or_default()),
    };
    let said = if said == "-" {
        std::io::read_to_string(std::io::stdin()).context("read standard input")?
    } else {
        said.to_owned()
    };
    let wrong = |error| Failure::Usage(format!("error: --{name} is no JSON: {error}"));
    let raw = RawValue::from_string(said.trim().to_owned()).map_err(wrong)?;
    Ok(format!("{{\"{name}\":{raw}}}"))
}

pub(super) fn retry(ids: &[i64]) -> Result<(), Failure> {
    ids.iter().try_for_each(|id| tell(Method::POST, &["letters", &id.to_string(), "retry"], "{}"))
}

pub(super) fn discard(ids: &[i64], reason: &str) -> Result<(), Failure> {
    let body = json!({"reason": reason}).to_string();
    ids.iter()
        .try_for_each(|id| tell(Method::POST, &["letters", &id.to_string(), "discard"], &body))
}

pub(crate) fn replay(arguments: &ReplayLettersArguments) -> Result<(), Failure> {
    let ReplayLettersArguments { sink, dry_run, reason, table, text, function, plugin } = arguments;
    let body = json!({
        "all": true,
        "dry_run": dry_run,
        "reason": reason,
        "table": table,
        "text": text,
        "function": function,
        "plugin": plugin,
    });
    tell(Method::POST, &["sinks", sink, "letters", "replay"], &body.to_string())
}

/// Asks, and prints the answer.
fn tell(method: Method, path: &[&str], body: &str) -> Result<(), Failure> {
    let body = body.as_bytes().to_vec();
    print(&text(Request { method, path, body, ..Request::default() })?)
}
