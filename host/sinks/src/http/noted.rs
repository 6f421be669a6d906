//! Requests as who traces a sink sees them.
//!
//! The place to note them goes with the task: a request is made deep below the delivery that it is of.

use std::future::Future;
use std::sync::Arc;

use model::batch::Batch;
use model::sent::{Answer, Request, Requests, Text};
use options::Address;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode, Url};

/// Headers whose values are no secrets. Of others nothing is known, whoever has set them.
const SHOWN: [&str; 8] = [
    "accept",
    "content-encoding",
    "content-type",
    "idempotency-key",
    "user-agent",
    "webhook-id",
    "webhook-timestamp",
    "x-idempotency-key",
];

tokio::task_local! {
    static NOTED: Option<Arc<Requests>>;
}

/// Delivers a batch; its requests are noted if somebody wants to see them.
pub(crate) async fn noting<T>(batch: &Batch, delivery: impl Future<Output = T>) -> T {
    NOTED.scope(batch.requests().cloned(), delivery).await
}

/// A request goes out. `endpoint` is what the URL was made from.
pub(crate) fn request(
    method: &Method,
    (endpoint, url): (&Address, &Url),
    headers: &HeaderMap,
    body: &[u8],
) {
    with(|requests| {
        let value = |name: &str, value: &[u8]| {
            if SHOWN.contains(&name) {
                String::from_utf8_lossy(value).into_owned()
            } else {
                "…".to_owned()
            }
        };
        let headers = headers
            .iter()
            .map(|(name, it)| (name.to_string(), value(name.as_str(), it.as_bytes())));
        requests.note(Request {
            method: method.to_string(),
            url: shown(endpoint, url),
            headers: headers.collect(),
            body: Text::of(body),
            answer: None,
        });
    });
}

/// The request was answered; so much of the body was read.
pub(crate) fn answer(status: StatusCode, body: &[u8]) {
    with(|requests| {
        requests.answer(Answer { status: status.as_u16(), body: Text::of(body) });
    });
}

fn with(note: impl FnOnce(&Requests)) {
    // Outside of a delivery (a check) nobody looks.
    NOTED.try_with(|noted| noted.as_deref().map(note)).ok();
}

/// The path of an endpoint, and the query, are where services put their keys: only what comes behind
/// that path is shown.
fn shown(endpoint: &Address, url: &Url) -> String {
    let base = endpoint.reveal().path().trim_end_matches('/');
    let (hidden, rest) = match url.path().strip_prefix(base) {
        _ if base.is_empty() => ("", url.path()),
        Some(rest) => ("/…", rest),
        None => ("/…", ""),
    };
    let query = if url.query().is_some() { "?…" } else { "" };
    format!("{endpoint}{hidden}{rest}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b236_b237_of_a_url_only_what_is_no_secret_is_shown() {
        let show = |endpoint: &str, url: &str| {
            shown(&Address::new(Url::parse(endpoint).unwrap()), &Url::parse(url).unwrap())
        };
        assert_eq!(show("https://u:p@h/", "https://u:p@h/a?k=1"), "https://h/a?…");
        assert_eq!(show("https://h/key", "https://h/key/a/b"), "https://h/…/a/b");
        assert_eq!(show("https://h/key", "https://h/key"), "https://h/…");
        assert_eq!(show("https://h/key", "https://h/other"), "https://h/…");
    }
}
