//! `sequin plugin push` and what else is asked of the engine on this machine about versions.

use std::path::{Path, PathBuf};

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{print, read, usage};
use crate::Failure;
use crate::api::{Request, ask};
use crate::cli::RoleName;
use crate::cli::versions::{ByHandArguments, PromoteArguments, PushArguments, RollbackArguments};
use crate::settings::environment;

pub(super) fn push(arguments: &PushArguments) -> Result<(), Failure> {
    let PushArguments { file, name, version, comment, by, signatures } = arguments;
    let bytes = read(file)?;
    let found = plugin::inspect(&bytes, &plugin::Limits::default()).map_err(usage)?;
    let by = by.clone().unwrap_or_else(user);
    let given = [
        ("name", name.as_ref()),
        ("version", version.as_ref()),
        // What arrives is compared with what was sent.
        ("digest", Some(&found.digest)),
        ("comment", Some(comment)),
        ("by", Some(&by)),
    ];
    let given = given.into_iter().filter_map(|(key, value)| Some((key, value?.as_str())));
    let headers = signatures_of(file, signatures)?;
    let headers = headers.into_iter().map(|signature| ("sequin-signature", signature));
    let told = ask(Request {
        method: Method::POST,
        path: &["plugins"],
        query: &given.collect::<Vec<_>>(),
        headers: &headers.collect::<Vec<_>>(),
        content_type: "application/wasm",
        body: bytes,
        ..Request::default()
    })?;
    lines(&told)
}

/// Those that are named, or the one beside the file.
pub(crate) fn signatures_of(file: &Path, named: &[PathBuf]) -> Result<Vec<String>, Failure> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".sig");
    let beside = PathBuf::from(beside);
    let mut files = named.to_vec();
    if files.is_empty() && beside.is_file() {
        files.push(beside);
    }
    let text = |file: &PathBuf| {
        let text = String::from_utf8(read(file)?);
        let text = text.map_err(|_| usage(format_args!("{} is no base64", file.display())))?;
        Ok(text.split_whitespace().collect())
    };
    files.iter().map(text).collect()
}

pub(super) fn list() -> Result<(), Failure> {
    get(&["plugins"], &[])
}

pub(super) fn show(version: &str) -> Result<(), Failure> {
    let (name, version) = parts(version)?;
    get(&["plugins", name, version], &[])
}

pub(super) fn delete(version: &str) -> Result<(), Failure> {
    let (name, version) = parts(version)?;
    let path = ["plugins", name, version];
    lines(&ask(Request { method: Method::DELETE, path: &path, ..Request::default() })?)
}

pub(super) fn collect() -> Result<(), Failure> {
    post(&["plugins", "collect"], &json!({}))
}

pub(super) fn bindings() -> Result<(), Failure> {
    get(&["bindings"], &[])
}

pub(super) fn history(sink: &str) -> Result<(), Failure> {
    get(&["sinks", sink, "bindings"], &[])
}

pub(super) fn audit(below: Option<i64>, limit: usize) -> Result<(), Failure> {
    let (below, limit) = (below.map(|below| below.to_string()), limit.to_string());
    let mut query = vec![("limit", limit.as_str())];
    query.extend(below.as_deref().map(|below| ("below", below)));
    get(&["audit"], &query)
}

pub(super) fn promote(arguments: &PromoteArguments) -> Result<(), Failure> {
    let PromoteArguments { by_hand, to, function, config } = arguments;
    let wrong = |error| usage(format_args!("--config is no JSON object: {error}"));
    let config = config.as_ref().map(|text| serde_json::from_str::<Map<String, Value>>(text));
    let config = config.transpose().map_err(wrong)?;
    let more = json!({"to": to, "function": function, "config": config});
    done("promote", by_hand, more)
}

pub(super) fn rollback(arguments: &RollbackArguments) -> Result<(), Failure> {
    done("rollback", &arguments.by_hand, json!({"generation": arguments.to}))
}

pub(super) fn release(by_hand: &ByHandArguments) -> Result<(), Failure> {
    done("release", by_hand, json!({}))
}

fn done(deed: &str, by_hand: &ByHandArguments, mut body: Value) -> Result<(), Failure> {
    let ByHandArguments { sink, role, reason, by } = by_hand;
    let role = role.map(|role| match role {
        RoleName::Filter => "filter",
        RoleName::Route => "route",
        RoleName::Transform => "transform",
    });
    if let Value::Object(body) = &mut body {
        body.insert("role".to_owned(), json!(role));
        body.insert("reason".to_owned(), json!(reason));
        body.insert("by".to_owned(), json!(by.clone().unwrap_or_else(user)));
    }
    post(&["sinks", sink, deed], &body)
}

/// Who asks, for the record: claimed, not proven.
pub(crate) fn user() -> String {
    let user = environment("USER").or_else(|| environment("LOGNAME"));
    user.unwrap_or_else(|| "cli".to_owned())
}

fn parts(version: &str) -> Result<(&str, &str), Failure> {
    let parts = version.rsplit_once('@');
    parts.ok_or_else(|| usage(format_args!("`{version}` is no NAME@VERSION")))
}

fn get(path: &[&str], query: &[(&str, &str)]) -> Result<(), Failure> {
    lines(&ask(Request { path, query, ..Request::default() })?)
}

fn post(path: &[&str], body: &Value) -> Result<(), Failure> {
    let body = body.to_string().into_bytes();
    lines(&ask(Request { method: Method::POST, path, body, ..Request::default() })?)
}

/// A list is printed one a line.
fn lines(told: &Value) -> Result<(), Failure> {
    let one = std::slice::from_ref(told);
    let all = told.get("data").and_then(Value::as_array).map_or(one, Vec::as_slice);
    let text: String = all.iter().map(|line| format!("{line}\n")).collect();
    print(&text)?;
    Ok(())
}
