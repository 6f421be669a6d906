//! `sequin backfills`: asks the engine on this machine.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::cli::{BackfillCommand, BackfillStart, OneBackfill};
use crate::{Failure, health, settings};

/// For each step: a backfill is only begun here, and runs in the engine.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Backfills of a sink are kept; thousands fit.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

pub(crate) fn run(command: &BackfillCommand) -> Result<(), Failure> {
    let (method, path, body) = match command {
        BackfillCommand::List { sink } => ("GET", of_sink(sink), None),
        BackfillCommand::Start(start) => ("POST", of_sink(&start.sink), Some(wanted(start))),
        BackfillCommand::Pause(one) => become_state(one, "paused"),
        BackfillCommand::Resume(one) => become_state(one, "active"),
        BackfillCommand::Cancel(one) => become_state(one, "cancelled"),
    };
    let answer = answer_of(method, &path, body.as_ref())?;
    let mut out = std::io::stdout().lock();
    let one = [answer.clone()];
    let lines = answer.get("data").and_then(Value::as_array).map_or(one.as_slice(), Vec::as_slice);
    for line in lines {
        writeln!(out, "{line}").context("print backfills")?;
    }
    Ok(())
}

/// What the engine on this machine answers.
///
/// # Errors
/// It does not answer, or refuses.
pub(crate) fn answer_of(method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
    let address = settings::api(&settings::environment).map_err(Failure::Usage)?;
    let address = health::reachable(address);
    let (status, answer) = ask(address, method, path, body)
        .with_context(|| format!("ask http://{address}{path} (SERVER_PORT)"))?;
    if !(200..300).contains(&status) {
        let summary = answer.get("summary").and_then(Value::as_str).unwrap_or("no reason");
        return Err(anyhow::anyhow!("the engine refused ({status}): {summary}").into());
    }
    Ok(answer)
}

fn of_sink(sink: &str) -> String {
    format!("/api/sinks/{}/backfills", escaped(sink))
}

fn become_state(one: &OneBackfill, state: &str) -> (&'static str, String, Option<Value>) {
    let path = format!("{}/{}", of_sink(&one.sink), escaped(&one.id));
    ("PATCH", path, Some(json!({ "state": state })))
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

/// A part of a path.
pub(crate) fn escaped(name: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(escape).collect()
}

/// Status and body of the answer.
fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> anyhow::Result<(u16, Value)> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let token = settings::environment("SEQUIN_API_TOKEN");
    let token = token.map(|token| format!("Authorization: Bearer {}\r\n", token.trim()));
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\n{}Content-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        token.unwrap_or_default(),
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("it is no answer of HTTP")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = serde_json::from_str(body).unwrap_or(Value::Null);
    Ok((status.context("it is no answer of HTTP")?, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parts_of_paths() {
        assert_eq!(of_sink("my-sink_1"), "/api/sinks/my-sink_1/backfills");
        assert_eq!(of_sink("a/b ü"), "/api/sinks/a%2Fb%20%C3%BC/backfills");
    }
}
