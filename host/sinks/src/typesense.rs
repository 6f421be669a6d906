//! Typesense: one document per row in a collection.
//!
//! Writes go through the import endpoint, which answers one line per document, so that documents
//! fail alone. Removals are one request each: the delete-by-query of a whole batch would not say
//! which document was refused. An absent document is removed already.
//!
//! Checked against 0.24.1, which ignores `ignore_not_found` and answers 404 both for an absent
//! document and for an absent collection; only their messages differ.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use model::BoxFuture;
use model::batch::{Batch, BatchPolicy, Grouping};
use model::message::{Effect, Message};
use model::sink::{Retry, Sink, SinkError, SinkKind, Verdict};
use options::Address;
use options::typesense::{Action, Ready};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode};
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use crate::{Batching, BuildError, http};

const BYTES_MAX: usize = 4 << 20;
/// Typesense indexes a collection's imports one after another: more requests only queue there.
const REQUESTS_MAX: usize = 4;
/// Removals of one batch that are under way at once.
const REMOVALS_MAX: usize = 8;
/// Room in the import's answer for a line without its document.
const LINE_BYTES_MAX: usize = 4096;
/// Everything but the unreserved characters of RFC 3986.
const PATH_SEGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A Typesense collection.
pub(crate) struct Typesense {
    client: Client,
    headers: HeaderMap,
    address: Address,
    collection: Collection,
    action: Action,
    timeout: Duration,
    messages_max: usize,
    linger: Duration,
}

/// The collection's name and URLs.
struct Collection {
    name: String,
    url: Url,
    import: Url,
    /// The import of partial documents.
    complete: Url,
}

/// What is to be done for a message, in the order in which it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Whole,
    Partial,
    Removal,
}

impl Part {
    fn of(message: &Message) -> Self {
        match message.effect {
            Effect::Remove => Self::Removal,
            Effect::Complete => Self::Partial,
            Effect::Write if message.partial => Self::Partial,
            Effect::Write => Self::Whole,
        }
    }

    /// The messages of the batch with which this is to be done, in their order.
    fn messages(self, batch: &Batch) -> Vec<&Message> {
        let messages = batch.messages().iter().map(|message| &**message);
        messages.filter(|message| Self::of(message) == self).collect()
    }
}

/// What an import does with its documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Import {
    /// The configured action.
    Whole,
    /// Completes documents that exist. One that does not must not come to be from a part: it would
    /// lack what was not sent, and nobody would know.
    Partial,
}

impl Typesense {
    pub(crate) fn new(
        client: Client,
        options: Ready,
        batching: Batching,
    ) -> Result<Self, BuildError> {
        let Ready { url, collection_name, api_key, batch_size, timeout, action, .. } = options;
        let mut headers = HeaderMap::new();
        http::set_header(&mut headers, "x-typesense-api-key", &api_key)?;
        let collection = Collection::new(&url, collection_name, action)?;
        Ok(Self {
            client,
            headers,
            address: url,
            collection,
            action,
            timeout,
            messages_max: batch_size.max(1),
            linger: batching.linger,
        })
    }

    async fn apply(&self, batch: &Batch) -> Result<Vec<Verdict>, SinkError> {
        let deadline = Instant::now() + self.timeout;
        let (whole, partial, removed) = (
            Part::Whole.messages(batch),
            Part::Partial.messages(batch),
            Part::Removal.messages(batch),
        );
        // A document is in one batch once at most, so the three have no order between them.
        // If the first request fails as a whole, nothing of the batch was done.
        let mut results = each(Ok(self.import(&whole, Import::Whole, deadline).await?), 0);
        let completed = self.import(&partial, Import::Partial, deadline).await;
        results.extend(each(completed, partial.len()));
        // Time of their own: a slow import must not leave them none, again and again.
        let deadline = Instant::now() + self.timeout;
        let mut removals = Vec::with_capacity(removed.len());
        for message in removed {
            removals.push(self.remove(message, deadline));
        }
        let removed: Vec<_> = stream::iter(removals).buffered(REMOVALS_MAX).collect().await;
        results.extend(removed);
        if let Some(Err(error)) = results.first()
            && results.iter().all(Result::is_err)
        {
            return Err(error.clone());
        }
        // Back in the order of the messages: whole documents came first, then parts, then removals.
        let mut order: Vec<usize> = (0..results.len()).collect();
        let messages = batch.messages();
        order.sort_by_key(|index| messages.get(*index).map(|message| Part::of(message)));
        let mut verdicts: Vec<_> =
            order.into_iter().zip(results.into_iter().map(verdict)).collect();
        verdicts.sort_by_key(|(index, _)| *index);
        Ok(verdicts.into_iter().map(|(_, verdict)| verdict).collect())
    }

    /// As many verdicts as messages.
    async fn import(
        &self,
        messages: &[&Message],
        import: Import,
        deadline: Instant,
    ) -> Result<Vec<Verdict>, SinkError> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let lines = lines(messages);
        // A refused document comes back within a JSON string: every byte of it may be escaped.
        let answer_bytes_max = lines.len() * 2 + messages.len() * LINE_BYTES_MAX;
        let url = match import {
            Import::Whole => self.collection.import.clone(),
            Import::Partial => self.collection.complete.clone(),
        };
        let mut response = self.send(Method::POST, url, Some(lines), deadline).await?;
        if !response.status().is_success() {
            return Err(self.refused(&mut response).await);
        }
        let (body, whole) = http::body(&mut response, answer_bytes_max)
            .await
            .map_err(|error| http::no_answer(&error, &self.address, self.timeout))?;
        let verdicts = whole.then(|| judge(&body, self.action, import, messages)).flatten();
        match verdicts {
            Some(verdicts) if verdicts.len() == messages.len() => Ok(verdicts),
            _ => Err(SinkError::later(format!(
                "{} did not answer the import of {} documents with as many results",
                self.address,
                messages.len()
            ))),
        }
    }

    async fn remove(&self, message: &Message, deadline: Instant) -> Result<Verdict, SinkError> {
        let never =
            |error: &str| Verdict::Rejected { retry: Retry::Never, error: error.to_owned() };
        let Some(id) = message.key.as_deref().filter(|id| !id.is_empty()) else {
            return Ok(never("the removal names no document"));
        };
        // To a URL these are directions: the request would remove the collection instead.
        if matches!(id, "." | "..") {
            return Ok(never("a document whose id is `.` or `..` cannot be removed by its id"));
        }
        let url = self.collection.document(id).ok_or_else(|| {
            SinkError::later(format!("no URL can be made for a document at {}", self.address))
        })?;
        let mut response = self.send(Method::DELETE, url, None, deadline).await?;
        if response.status().is_success() {
            // Only to free the connection.
            http::short_body(&mut response).await;
            return Ok(Verdict::Delivered);
        }
        if response.status() == StatusCode::NOT_FOUND {
            let said = message_of(&http::short_body(&mut response).await);
            if said.starts_with("Could not find a document") {
                return Ok(Verdict::Delivered);
            }
            return Err(self.explain(&response, &said));
        }
        Err(self.refused(&mut response).await)
    }

    async fn find(&self) -> Result<(), SinkError> {
        let deadline = Instant::now() + self.timeout;
        let url = self.collection.url.clone();
        let mut response = self.send(Method::GET, url, None, deadline).await?;
        if response.status().is_success() {
            return Ok(());
        }
        Err(self.refused(&mut response).await)
    }

    async fn send(
        &self,
        method: Method,
        url: Url,
        body: Option<Bytes>,
        deadline: Instant,
    ) -> Result<Response, SinkError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut request =
            self.client.request(method, url).headers(self.headers.clone()).timeout(left);
        if let Some(body) = body {
            let text = HeaderValue::from_static("text/plain");
            request = request.header(CONTENT_TYPE, text).body(body);
        }
        request.send().await.map_err(|error| http::no_answer(&error, &self.address, self.timeout))
    }

    async fn refused(&self, response: &mut Response) -> SinkError {
        let said = message_of(&http::short_body(response).await);
        self.explain(response, &said)
    }

    /// What the status means, and what someone should do.
    fn explain(&self, response: &Response, said: &str) -> SinkError {
        let said = http::quote(said);
        let hint = match response.status().as_u16() {
            401 | 403 => "check `api_key` and what it permits".to_owned(),
            404 => format!("create the collection `{}`, or correct its name", self.collection.name),
            422 => {
                "the server takes no writes: check its disk, its memory and `skip-writes`".into()
            }
            503 => "the server starts, lags behind or has no quorum".to_owned(),
            _ => String::new(),
        };
        let comma = if said.is_empty() || hint.is_empty() { "" } else { "; " };
        let detail = format!("{said}{comma}{hint}");
        http::refused(response.status(), response.headers(), &self.address, &detail)
    }
}

impl Collection {
    fn new(address: &Address, name: String, action: Action) -> Result<Self, BuildError> {
        let base = address.reveal().as_str().trim_end_matches('/');
        let path = utf8_percent_encode(&name, PATH_SEGMENT);
        let bad = |_| BuildError::Url { address: address.clone() };
        let url = Url::parse(&format!("{base}/collections/{path}")).map_err(bad)?;
        let import = format!("{url}/documents/import?action={}", action.name());
        let import = Url::parse(&import).map_err(bad)?;
        let complete = format!("{url}/documents/import?action={}", Action::Update.name());
        let complete = Url::parse(&complete).map_err(bad)?;
        Ok(Self { name, url, import, complete })
    }

    fn document(&self, id: &str) -> Option<Url> {
        let id = utf8_percent_encode(id, PATH_SEGMENT);
        Url::parse(&format!("{}/documents/{id}?ignore_not_found=true", self.url)).ok()
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
            linger: self.linger,
            requests_max: REQUESTS_MAX,
            // Documents of an import fail one by one.
            grouping: Grouping::Apart,
            one_route: false,
        }
    }

    fn check(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(self.find())
    }

    fn deliver<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Vec<Verdict>, SinkError>> {
        Box::pin(self.apply(batch))
    }
}

/// One document per line. A line break within a document can only stand between its tokens, where
/// a space means the same.
fn lines(messages: &[&Message]) -> Bytes {
    let bytes = messages.iter().map(|message| message.payload.len() + 1).sum();
    let mut lines = Vec::with_capacity(bytes);
    for message in messages {
        let spaced = |byte| {
            if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }
        };
        lines.extend(message.payload.bytes().map(spaced));
        lines.push(b'\n');
    }
    lines.into()
}

/// A verdict per line, or none if a line is no verdict. The line's `document` is row data and is
/// not looked at.
fn judge(
    body: &[u8],
    action: Action,
    import: Import,
    messages: &[&Message],
) -> Option<Vec<Verdict>> {
    #[derive(Deserialize)]
    struct Line {
        success: bool,
        code: Option<u16>,
        #[serde(default)]
        error: String,
    }
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let effects =
        messages.iter().map(|message| Some(message.effect)).chain(std::iter::repeat(None));
    let verdict = |(line, effect)| {
        let line: Line = serde_json::from_slice(line).ok()?;
        if effect == Some(Effect::Complete) && !line.success && line.code == Some(404) {
            return Some(Verdict::Skipped);
        }
        let delivered = match (line.success, line.code, action) {
            (true, _, _) => true,
            // `update` leaves absent documents alone, `create` existing ones: also when they exist
            // because the answer to the first attempt was lost.
            (false, Some(404), Action::Update) | (false, Some(409), Action::Create) => true,
            (false, _, _) => false,
        };
        Some(if delivered {
            Verdict::Delivered
        } else if import == Import::Partial && line.code == Some(404) {
            let error = "the document is not there, and values that did not change were not sent: \
                         set REPLICA IDENTITY FULL on the table";
            Verdict::Rejected { retry: Retry::Never, error: error.to_owned() }
        } else {
            // The predecessor retries them: a schema can be mended, and then they fit.
            let retry = Retry::Later { after: None };
            Verdict::Rejected { retry, error: http::quote(&line.error) }
        })
    };
    lines.zip(effects).map(verdict).collect()
}

/// The results of an import of `count` messages, for each of them.
fn each(judged: Result<Vec<Verdict>, SinkError>, count: usize) -> Vec<Result<Verdict, SinkError>> {
    match judged {
        Ok(verdicts) => verdicts.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error); count],
    }
}

fn verdict(result: Result<Verdict, SinkError>) -> Verdict {
    result.unwrap_or_else(|SinkError { message: error, retry }| Verdict::Rejected { retry, error })
}

/// The `message` of an error, or the text if there is none.
fn message_of(body: &str) -> String {
    #[derive(Deserialize)]
    struct Answer {
        message: String,
    }
    serde_json::from_str::<Answer>(body).map_or_else(|_| body.to_owned(), |answer| answer.message)
}

#[cfg(test)]
mod tests;
