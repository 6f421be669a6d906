//! What is asked of the engine on this machine, over its API.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::print;
use crate::Failure;
use crate::cli::{EditLetterArguments, ReplayLettersArguments};
use crate::health::reachable;
use crate::settings;

/// A replay is answered within ten seconds, also if it goes on.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Of an answer: a letter is a row and what was made of it.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

pub(super) fn edit(arguments: &EditLetterArguments) -> Result<(), Failure> {
    let EditLetterArguments { id, input, message } = arguments;
    let (name, text) = match (input, message) {
        (Some(input), _) => ("input", input.as_str()),
        (None, message) => ("message", message.as_deref().unwrap_or_default()),
    };
    let text = if text == "-" {
        std::io::read_to_string(std::io::stdin()).context("read standard input")?
    } else {
        text.to_owned()
    };
    let wrong = |error| Failure::Usage(format!("error: --{name} is no JSON: {error}"));
    let raw = RawValue::from_string(text.trim().to_owned()).map_err(wrong)?;
    tell("PATCH", &format!("/api/letters/{id}"), &format!("{{\"{name}\":{raw}}}"))
}

pub(super) fn retry(ids: &[i64]) -> Result<(), Failure> {
    ids.iter().try_for_each(|id| tell("POST", &format!("/api/letters/{id}/retry"), "{}"))
}

pub(super) fn discard(ids: &[i64], reason: &str) -> Result<(), Failure> {
    let body = json!({"reason": reason}).to_string();
    ids.iter().try_for_each(|id| tell("POST", &format!("/api/letters/{id}/discard"), &body))
}

pub(super) fn replay(arguments: &ReplayLettersArguments) -> Result<(), Failure> {
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
    let path = format!("/api/sinks/{}/letters/replay", segment(sink));
    tell("POST", &path, &body.to_string())
}

/// A name as a part of a path.
pub(crate) fn segment(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escaped = |byte: u8| {
        if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    name.bytes().map(escaped).collect()
}

/// Asks, and prints the answer.
fn tell(method: &str, path: &str, body: &str) -> Result<(), Failure> {
    let address = settings::api(&settings::environment).map_err(Failure::Usage)?;
    let address = reachable(address);
    let answer = ask(address, method, path, body, TIMEOUT).with_context(|| {
        format!("ask the engine at http://{address} (SERVER_PORT, SEQUIN_BIND): does it run?")
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status == "200" {
        return print(body);
    }
    let summary = serde_json::from_str::<Value>(body).ok();
    let summary = summary.as_ref().and_then(|body| body.get("summary")?.as_str());
    let told = summary.unwrap_or(head);
    match status {
        "400" | "401" | "403" | "404" | "409" | "422" => {
            Err(Failure::Usage(format!("error: {told}")))
        }
        _ => Err(anyhow!("the engine answered: {}", told.escape_debug()).into()),
    }
}

/// The whole answer, with its head. `timeout` is for the answer.
pub(crate) fn ask(
    address: std::net::SocketAddr,
    method: &str,
    path: &str,
    body: &str,
    timeout: Duration,
) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let token = settings::environment("SEQUIN_API_TOKEN");
    let token = token.map_or_else(String::new, |it| format!("Authorization: Bearer {it}\r\n"));
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n{token}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
