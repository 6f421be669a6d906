//! What commands ask of the engine on this machine, over its API.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use serde_json::Value;

use crate::Failure;
use crate::health::reachable;
use crate::settings;

/// Of each step. A component may have to be compiled before there is an answer.
const TIMEOUT: Duration = Duration::from_secs(300);
/// Lists are pages or short.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// What is asked.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    /// Behind `/api`, each part as it is.
    pub(crate) path: &'a [&'a str],
    pub(crate) query: &'a [(&'a str, &'a str)],
    pub(crate) headers: &'a [(&'a str, String)],
    pub(crate) content_type: &'a str,
    pub(crate) body: &'a [u8],
}

impl Default for Request<'_> {
    fn default() -> Self {
        Self {
            method: "GET",
            path: &[],
            query: &[],
            headers: &[],
            content_type: "application/json",
            body: b"",
        }
    }
}

/// The answer, if it is a good one.
///
/// # Errors
/// Nothing answers, or what was asked for is refused.
pub(crate) fn ask(request: &Request<'_>) -> Result<Value, Failure> {
    let address = settings::api(&settings::environment).map_err(Failure::Usage)?;
    let address = reachable(address);
    let (status, body) = exchange(address, request).with_context(|| {
        format!("ask the engine at http://{address} (SERVER_PORT, SEQUIN_BIND): does it run?")
    })?;
    if (200..300).contains(&status) {
        return Ok(body);
    }
    let told = body.get("summary").and_then(Value::as_str).unwrap_or("no reason");
    match status {
        400..500 => Err(Failure::Usage(format!("error: {told}"))),
        _ => Err(anyhow!("the engine answered {status}: {}", told.escape_debug()).into()),
    }
}

fn exchange(address: SocketAddr, request: &Request<'_>) -> anyhow::Result<(u16, Value)> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let path: String = request.path.iter().map(|part| format!("/{}", escaped(part))).collect();
    let query: Vec<String> =
        request.query.iter().map(|(key, value)| format!("{key}={}", escaped(value))).collect();
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    let mut head = format!(
        "{} /api{path}{query} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: {}\r\nContent-Length: {}\r\n",
        request.method,
        request.content_type,
        request.body.len()
    );
    if let Some(token) = settings::environment("SEQUIN_API_TOKEN") {
        head += &format!("Authorization: Bearer {}\r\n", token.trim());
    }
    for (name, value) in request.headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    // Whoever refuses early answers before all was read.
    let sent = stream.write_all(request.body);
    let mut answer = Vec::new();
    let received = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
    if answer.is_empty() {
        sent?;
        received?;
    }
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("it is no answer of HTTP")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = serde_json::from_str(body).unwrap_or(Value::Null);
    Ok((status.context("it is no answer of HTTP")?, body))
}

/// A part of a path or a query.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escape = |byte: u8| {
        if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(escape).collect()
}
