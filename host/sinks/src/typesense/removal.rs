//! Documents that have to go.
//!
//! A filter on ids takes a hundred of them in the time of three single requests (0.24.1). What it
//! removes it removes together, so all are judged alike; and what is not there is removed already,
//! so that a repeat does no harm. Only plain ids go into a filter: within its backticks 0.24.1 strips
//! spaces from the ends and has no way to write a backtick, and an id that means another would
//! remove the wrong document.

use futures_util::StreamExt as _;
use futures_util::stream;
use model::sink::{SinkError, Verdict};
use reqwest::{Method, StatusCode};
use tokio::time::Instant;
use url::Url;

use super::{Placed, Results, Typesense, answer, never};
use crate::http;

/// Requests of one batch that are under way at once.
const REMOVALS_MAX: usize = 8;
/// Of a filter, before it is escaped for the URL. Servers and proxies take 8 KB of a request's head;
/// escaped, a backtick is three bytes.
const FILTER_BYTES_MAX: usize = 4000;

/// Documents that one request removes, with the places of their messages.
enum Request<'a> {
    Filter(Vec<(usize, &'a str)>),
    Single(usize, &'a str),
}

impl Typesense {
    pub(super) async fn remove(
        &self,
        collection: &str,
        messages: &[Placed<'_>],
        deadline: Instant,
    ) -> Results {
        let mut results = Vec::with_capacity(messages.len());
        let requests = requests(messages, &mut results);
        let mut futures = Vec::with_capacity(requests.len());
        for request in requests {
            futures.push(self.request(collection, request, deadline));
        }
        let done: Vec<_> = stream::iter(futures).buffer_unordered(REMOVALS_MAX).collect().await;
        results.extend(done.into_iter().flatten());
        results
    }

    async fn request(&self, collection: &str, request: Request<'_>, deadline: Instant) -> Results {
        let ids = match request {
            Request::Single(place, id) => {
                return vec![(place, self.remove_one(collection, id, deadline).await)];
            }
            Request::Filter(ids) => ids,
        };
        match self.remove_filtered(collection, &ids, deadline).await {
            Ok(true) => ids.iter().map(|(place, _)| (*place, Ok(Verdict::Delivered))).collect(),
            // It does not understand the filter, and never will.
            Ok(false) => {
                let mut results = Vec::with_capacity(ids.len());
                for (place, id) in ids {
                    results.push((place, self.remove_one(collection, id, deadline).await));
                }
                results
            }
            Err(error) => ids.iter().map(|(place, _)| (*place, Err(error.clone()))).collect(),
        }
    }

    /// False if the server does not take the filter.
    async fn remove_filtered(
        &self,
        collection: &str,
        ids: &[(usize, &str)],
        deadline: Instant,
    ) -> Result<bool, SinkError> {
        let filter = filter(ids.iter().map(|(_, id)| *id));
        let url = self.named(collection, |collection| collection.filtered(&filter))?;
        let mut response = self.send(Method::DELETE, self.url(url)?, None, deadline).await?;
        if response.status().is_success() {
            // Only to free the connection.
            http::short_body(&mut response).await;
            return Ok(true);
        }
        if matches!(response.status(), StatusCode::BAD_REQUEST | StatusCode::URI_TOO_LONG) {
            http::short_body(&mut response).await;
            return Ok(false);
        }
        Err(self.refused(&mut response, collection).await)
    }

    async fn remove_one(
        &self,
        collection: &str,
        id: &str,
        deadline: Instant,
    ) -> Result<Verdict, SinkError> {
        // To a URL these are directions: the request would remove the collection instead.
        if matches!(id, "." | "..") {
            return Ok(never("this server cannot remove a document whose id is `.` or `..`"));
        }
        let url = self.named(collection, |collection| collection.document(id))?;
        let mut response = self.send(Method::DELETE, self.url(url)?, None, deadline).await?;
        if response.status().is_success() {
            // Only to free the connection.
            http::short_body(&mut response).await;
            return Ok(Verdict::Delivered);
        }
        let said = answer::said(&mut response).await;
        if response.status() == StatusCode::NOT_FOUND
            && said.starts_with("Could not find a document")
        {
            return Ok(Verdict::Delivered);
        }
        Err(self.explain(&response, &said, collection))
    }

    fn url(&self, url: Option<Url>) -> Result<Url, SinkError> {
        url.ok_or_else(|| {
            SinkError::later(format!("no URL can be made for a document at {}", self.address))
        })
    }
}

/// Divides removals into requests; one that names no document gets its verdict at once.
fn requests<'a>(messages: &[Placed<'a>], results: &mut Results) -> Vec<Request<'a>> {
    let mut requests = Vec::new();
    let mut filter: Vec<(usize, &str)> = Vec::new();
    let mut bytes = 0;
    for (place, message) in messages {
        match message.key.as_deref() {
            None | Some("") => {
                results.push((*place, Ok(never("the removal names no document"))));
            }
            Some(id) if is_plain(id) => {
                // With two backticks and a comma.
                let more = id.len() + 3;
                if bytes + more > FILTER_BYTES_MAX && !filter.is_empty() {
                    requests.push(Request::Filter(std::mem::take(&mut filter)));
                    bytes = 0;
                }
                bytes += more;
                filter.push((*place, id));
            }
            Some(id) => requests.push(Request::Single(*place, id)),
        }
    }
    match filter.as_slice() {
        [] => {}
        // For one the plain request says it as well; but not for these.
        [(place, id)] if !matches!(*id, "." | "..") => requests.push(Request::Single(*place, id)),
        _ => requests.push(Request::Filter(filter)),
    }
    requests
}

/// Whether the id means itself in a filter, on every server. Keys are mostly numbers and UUIDs.
fn is_plain(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    id.len() <= FILTER_BYTES_MAX / 4 && id.bytes().all(plain)
}

fn filter<'a>(ids: impl Iterator<Item = &'a str>) -> String {
    let mut filter = "id:[".to_owned();
    for (index, id) in ids.enumerate() {
        if index > 0 {
            filter.push(',');
        }
        filter.push('`');
        filter.push_str(id);
        filter.push('`');
    }
    filter.push(']');
    filter
}
