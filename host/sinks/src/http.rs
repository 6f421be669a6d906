//! What the HTTP sinks share: the client, reading answers within bounds, and telling failures
//! without secrets.
//!
//! The client repeats nothing that a server may have seen: no redirects, no retries. The one thing
//! the connection pool does by itself is to open a new connection for a request of which no byte
//! was sent, when the server closed the idle one (RFC 9112, 9.3.1); that is no second attempt.

pub(crate) mod guard;
pub(crate) mod noted;

use std::error::Error;
use std::time::Duration;

use model::sink::{Failure, Retry, SinkError};
use options::{Address, Secret};
use reqwest::header::{DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};

use crate::BuildError;
use guard::Guard;

/// A server that takes longer to accept is down, whatever the request's own deadline.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Below the 60 s after which common load balancers close an idle connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// Of an answer that is read only to be quoted or to free its connection.
const ANSWER_BYTES_MAX: usize = 4096;
/// Of an answer, in an error.
const QUOTE_CHARS_MAX: usize = 200;
/// A receiver's slip of the pen must not stop a sink for days.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// The one client of all HTTP sinks.
pub(crate) fn client(guard: Guard) -> Result<Client, BuildError> {
    // An error means that one is installed already, by us or by an embedding program: it is used.
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::builder()
        .user_agent(concat!("sequin/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        // What goes where is said by the configuration alone, not by `HTTP_PROXY`.
        .no_proxy()
        .dns_resolver(guard)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .tcp_nodelay(true)
        .build()
        .map_err(|error| BuildError::Client { reason: cause(&error) })
}

/// Adds a header whose value no log shows.
pub(crate) fn set_header(
    headers: &mut HeaderMap,
    name: &str,
    value: &Secret,
) -> Result<(), BuildError> {
    let bad = || BuildError::Header { name: name.to_owned() };
    let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
    let mut value = HeaderValue::from_bytes(value.reveal().as_bytes()).map_err(|_| bad())?;
    value.set_sensitive(true);
    headers.insert(header, value);
    Ok(())
}

/// Why there is no answer: names the host and the cause, but not the URL.
pub(crate) fn no_answer(error: &reqwest::Error, address: &Address, timeout: Duration) -> SinkError {
    if error.is_connect() {
        return SinkError::unreachable(format!("cannot connect to {address}: {}", cause(error)));
    }
    if error.is_timeout() {
        return SinkError::unreachable(format!("no answer from {address} within {timeout:?}"));
    }
    SinkError::unreachable(format!("no answer from {address}: {}", cause(error)))
}

/// An answer that is no success. `detail` tells what the destination said.
pub(crate) fn refused(
    status: StatusCode,
    headers: &HeaderMap,
    address: &Address,
    detail: &str,
) -> SinkError {
    let after = match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => retry_after(headers),
        _ => None,
    };
    let colon = if detail.is_empty() { "" } else { ": " };
    SinkError {
        message: format!("{address} answered {status}{colon}{detail}"),
        retry: Retry::Later { after },
        failure: failure(status),
    }
}

/// Whose matter a status is. What is not named says something of the request, as 400 does.
fn failure(status: StatusCode) -> Failure {
    match status.as_u16() {
        // An endpoint that fails on one message says 500 too: whether the others get through tells.
        408 | 425 | 429 | 500..=599 => Failure::Unreachable,
        300..=399 | 401..=405 | 407 | 410 => Failure::Misconfigured,
        413 => Failure::TooLarge,
        _ => Failure::Refused,
    }
}

/// Up to `bytes_max` bytes of the answer's body, and whether that is all of it.
pub(crate) async fn body(
    response: &mut Response,
    bytes_max: usize,
) -> Result<(Vec<u8>, bool), reqwest::Error> {
    let mut body = Vec::new();
    let read = read(response, bytes_max, &mut body).await;
    noted::answer(response.status(), &body);
    read.map(|whole| (body, whole))
}

async fn read(
    response: &mut Response,
    bytes_max: usize,
    body: &mut Vec<u8>,
) -> Result<bool, reqwest::Error> {
    while let Some(chunk) = response.chunk().await? {
        let room = bytes_max.saturating_sub(body.len());
        if chunk.len() > room {
            body.extend(chunk.into_iter().take(room));
            return Ok(false);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(true)
}

/// The start of an answer, to be quoted. Reading it to its end, if it is short, frees the
/// connection for the next request. A body that breaks off changes nothing: the status was read.
pub(crate) async fn short_body(response: &mut Response) -> String {
    let bytes = body(response, ANSWER_BYTES_MAX).await.unwrap_or_default().0;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A destination's words for an error: on one line, short, without control characters.
pub(crate) fn quote(text: &str) -> String {
    let visible = text.split(|char: char| char.is_whitespace() || char.is_control());
    let mut words = visible.filter(|word| !word.is_empty());
    let mut line = words.next().unwrap_or_default().to_owned();
    for word in words {
        line.push(' ');
        line.push_str(word);
        if line.len() > 4 * QUOTE_CHARS_MAX {
            break;
        }
    }
    match line.char_indices().nth(QUOTE_CHARS_MAX) {
        Some((end, _)) => {
            line.truncate(end);
            line.push('…');
            line
        }
        None => line,
    }
}

/// How long the destination asked to wait: seconds, or a date, which is measured against the
/// answer's own `Date` so that a clock which is off does no harm.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let wanted = text(RETRY_AFTER)?.trim();
    let delay = if let Ok(seconds) = wanted.parse::<u64>() {
        Duration::from_secs(seconds)
    } else {
        let until = jiff::fmt::rfc2822::parse(wanted).ok()?;
        let now = jiff::fmt::rfc2822::parse(text(DATE)?).ok()?;
        Duration::try_from(now.timestamp().duration_until(until.timestamp())).unwrap_or_default()
    };
    Some(delay.min(RETRY_AFTER_MAX))
}

/// The innermost cause: "Connection refused", not "error sending request".
pub(crate) fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    if innermost.is::<reqwest::Error>() {
        // Only this kind knows the URL.
        return "the request failed".to_owned();
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        pairs.collect()
    }

    #[test]
    fn b119_retry_after_is_seconds_or_a_date() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let cases = [
            (vec![("retry-after", "7")], Some(7)),
            (vec![("retry-after", " 7 ")], Some(7)),
            (vec![("retry-after", "999999999")], Some(3600)),
            (vec![("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT"), date], Some(30)),
            (vec![("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT"), date], Some(0)),
            (vec![("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")], None),
            (vec![("retry-after", "soon")], None),
            (vec![("retry-after", "-1")], None),
            (vec![], None),
        ];
        for (pairs, seconds) in cases {
            let after = retry_after(&headers(&pairs));
            assert_eq!(after, seconds.map(Duration::from_secs), "{pairs:?}");
        }
    }

    #[test]
    fn quotes_are_short_and_on_one_line() {
        assert_eq!(quote(" bad\r\n\tgateway \u{1b}[31m"), "bad gateway [31m");
        assert_eq!(quote(""), "");
        let long = quote(&"é".repeat(10_000));
        assert_eq!(long.chars().count(), QUOTE_CHARS_MAX + 1);
        assert!(quote(&"ab ".repeat(10_000)).ends_with('…'));
    }
}
