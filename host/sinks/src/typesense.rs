//! Typesense: one document per row in a collection.
//!
//! Writes go through the import endpoint, which answers one line per document, so that documents
//! fail alone. Removals go many to a request, by a filter on ids; ids that a filter cannot hold go
//! one by one. An absent document is removed already.
//!
//! A router may name the collection of each message, and `action: delete` to remove a document that
//! is there. `action: index` is what happens anyway: a row that is gone is removed also then, as
//! there is nothing left to index.
//!
//! Checked against 0.24.1, which ignores `ignore_not_found` and answers 404 both for an absent
//! document and for an absent collection; only their messages differ.

mod answer;
mod check;
mod collection;
mod import;
mod removal;
mod route;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use model::BoxFuture;
use model::batch::{Batch, BatchPolicy, Grouping};
use model::message::{Effect, Message};
use model::route::{Route, RouteError};
use model::sink::{Retry, Sink, SinkError, SinkKind, Verdict};
use options::Address;
use options::typesense::{Action, Ready};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Method, Response};
use tokio::time::Instant;
use url::Url;

use crate::{Batching, BuildError, http};
use collection::{Collection, Imports};
use route::{Routed, RoutedAction};

const BYTES_MAX: usize = 4 << 20;
/// Typesense indexes a collection's imports one after another: more requests only queue there.
const REQUESTS_MAX: usize = 4;

/// A Typesense collection, or several that a router tells apart.
pub(crate) struct Typesense {
    client: Client,
    headers: HeaderMap,
    address: Address,
    imports: Imports,
    /// Where a message goes that no route sends elsewhere.
    collection: Collection,
    action: Action,
    timeout: Duration,
    messages_max: usize,
    linger: Duration,
}

/// What is to be done for a message, in the order in which it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Whole,
    /// A whole one that is not there, as the server let us know.
    New,
    Partial,
    Removal,
}

/// A message and its place in the batch.
type Placed<'a> = (usize, &'a Message);

/// What became of the messages, each with its place.
type Results = Vec<(usize, Result<Verdict, SinkError>)>;

impl Part {
    fn of(message: &Message, routed: Option<RoutedAction>) -> Self {
        match message.effect {
            Effect::Remove => Self::Removal,
            _ if routed == Some(RoutedAction::Delete) => Self::Removal,
            Effect::Complete => Self::Partial,
            Effect::Write if message.partial => Self::Partial,
            Effect::Write => Self::Whole,
        }
    }
}

impl Typesense {
    pub(crate) fn new(
        client: Client,
        options: Ready,
        batching: Batching,
    ) -> Result<Self, BuildError> {
        let mut headers = HeaderMap::new();
        http::set_header(&mut headers, "x-typesense-api-key", &options.api_key)?;
        let imports = Imports::new(options.action, options.dirty_values);
        let collection = Collection::new(&options.url, &options.collection_name, &imports);
        let collection =
            collection.ok_or_else(|| BuildError::Url { address: options.url.clone() })?;
        Ok(Self {
            client,
            headers,
            address: options.url,
            imports,
            collection,
            action: options.action,
            timeout: options.timeout,
            messages_max: options.batch_size.max(1),
            linger: batching.linger,
        })
    }

    /// A document is in one batch once at most, so the requests have no order between them. All
    /// imports share the time of one request, then all removals do: a slow import must not leave
    /// them none, again and again.
    async fn apply(&self, batch: &Batch) -> Result<Vec<Verdict>, SinkError> {
        let (mut results, parts) = self.divide(batch);
        let (mut imports, mut removals) = (Vec::new(), Vec::new());
        for ((part, name), messages) in parts {
            if part == Part::Removal { &mut removals } else { &mut imports }
                .push((part, name, messages));
        }
        let deadline = Instant::now() + self.timeout;
        // Collections that answered nothing: their removals would only fail too.
        let mut away: BTreeMap<&str, SinkError> = BTreeMap::new();
        for (part, name, messages) in imports {
            let done = match away.get(name) {
                Some(error) => same(error, &messages),
                None => self.import(name, part, &messages, deadline).await,
            };
            if let Some((_, Err(error))) = done.first()
                && done.iter().all(|(_, result)| result.is_err())
            {
                away.insert(name, error.clone());
            }
            results.extend(done);
        }
        let deadline = Instant::now() + self.timeout;
        for (_, name, messages) in removals {
            results.extend(match away.get(name) {
                Some(error) => same(error, &messages),
                None => self.remove(name, &messages, deadline).await,
            });
        }
        if let Some((_, Err(error))) = results.first()
            && results.iter().all(|(_, result)| result.is_err())
        {
            return Err(error.clone());
        }
        results.sort_unstable_by_key(|(place, _)| *place);
        Ok(results.into_iter().map(|(_, result)| verdict(result)).collect())
    }

    /// The messages by what is to be done, and where; and the verdicts over those that cannot be
    /// sent anywhere.
    fn divide<'a>(
        &'a self,
        batch: &'a Batch,
    ) -> (Results, BTreeMap<(Part, &'a str), Vec<Placed<'a>>>) {
        let mut refused = Vec::new();
        let mut parts: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (place, message) in batch.messages().iter().enumerate() {
            match message.route.as_deref().map(Routed::of).transpose() {
                Ok(routed) => {
                    let routed = routed.unwrap_or_default();
                    let name = routed.collection.unwrap_or(&self.collection.name);
                    let part = Part::of(message, routed.action);
                    parts.entry((part, name)).or_default().push((place, &**message));
                }
                // It was asked before the message was queued, so this is another route than that.
                Err(error) => refused.push((place, Ok(never(error.to_string())))),
            }
        }
        (refused, parts)
    }

    /// The collection of a route, or the sink's own.
    fn named<T>(&self, name: &str, url: impl Fn(&Collection) -> T) -> Result<T, SinkError> {
        if name == self.collection.name {
            return Ok(url(&self.collection));
        }
        let collection = Collection::new(&self.address, name, &self.imports);
        collection.as_ref().map(url).ok_or_else(|| {
            SinkError::later(format!("no URL can be made for a collection at {}", self.address))
        })
    }

    async fn send(
        &self,
        method: Method,
        url: Url,
        body: Option<Bytes>,
        deadline: Instant,
    ) -> Result<Response, SinkError> {
        let sent = body.as_deref().unwrap_or_default();
        http::noted::request(&method, (&self.address, &url), &self.headers, sent);
        let left = deadline.saturating_duration_since(Instant::now());
        let mut request =
            self.client.request(method, url).headers(self.headers.clone()).timeout(left);
        if let Some(body) = body {
            let text = HeaderValue::from_static("text/plain");
            request = request.header(CONTENT_TYPE, text).body(body);
        }
        request.send().await.map_err(|error| http::no_answer(&error, &self.address, self.timeout))
    }
}

impl Sink for Typesense {
    fn kind(&self) -> SinkKind {
        SinkKind::State
    }

    fn batch_policy(&self) -> BatchPolicy {
        BatchPolicy {
            messages_max: self.messages_max,
            bytes_max: BYTES_MAX,
            message_bytes_max: None,
            request_overhead: 0,
            // The end of its line.
            message_overhead: 1,
            linger: self.linger,
            requests_max: REQUESTS_MAX,
            // Documents of an import fail one by one.
            grouping: Grouping::Apart,
            // A batch is divided by collection when it is sent.
            one_route: false,
        }
    }

    fn check(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(self.find())
    }

    fn check_route(&self, route: &Route) -> Result<(), RouteError> {
        Routed::of(route).map(drop)
    }

    fn deliver<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Vec<Verdict>, SinkError>> {
        Box::pin(http::noted::noting(batch, self.apply(batch)))
    }
}

fn same(error: &SinkError, messages: &[Placed<'_>]) -> Results {
    messages.iter().map(|(place, _)| (*place, Err(error.clone()))).collect()
}

fn never(error: impl Into<String>) -> Verdict {
    Verdict::Rejected { retry: Retry::Never, error: error.into() }
}

fn verdict(result: Result<Verdict, SinkError>) -> Verdict {
    result.unwrap_or_else(|SinkError { message: error, retry, .. }| Verdict::Rejected {
        retry,
        error,
    })
}

#[cfg(test)]
mod tests;
