//! Webhooks: messages sent as JSON to an HTTP endpoint.
//!
//! A 2xx means that all messages of the request are delivered, anything else that none is, and the
//! engine tries again. What 413 says is remembered, so that the next batches are smaller. Redirects are not followed: the endpoint moved, and someone
//! has to know; and of a POST, a redirect may make a GET without a body.
//!
//! Headers, the later over the earlier whatever their case: ours (`content-type`, `user-agent`), the
//! endpoint's `headers`, its `encrypted_headers`, those of the route, the signature's.
//!
//! The message is the body whatever the method, also of GET, HEAD and DELETE, as in the predecessor:
//! what a router chose not to send a body with would otherwise be lost without a word.

mod body;
mod limit;
mod route;
mod signature;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use model::BoxFuture;
use model::batch::{Batch, BatchPolicy, Grouping};
use model::message::Message;
use model::route::{Route, RouteError};
use model::sink::{Retry, Sink, SinkError, SinkKind, Verdict};
use options::Address;
use options::signing::SigningKey;
use options::webhook::{Ready, join};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Method, StatusCode};
use tokio::net::TcpStream;
use tokio::time::Instant;
use url::{Host, Url};

use crate::{Batching, BuildError, Guard, http};
use limit::Limit;
use route::Routed;

/// What common servers accept by default is 1 MB or more; a page of wide rows must fit.
const BYTES_MAX: usize = 4 << 20;
/// As many as browsers open to one host, and two more.
const REQUESTS_MAX: usize = 8;

/// A webhook.
pub(crate) struct Webhook {
    client: Client,
    guard: Guard,
    endpoint: Address,
    url: Address,
    headers: HeaderMap,
    signing_keys: Vec<SigningKey>,
    batch: bool,
    timeout: Duration,
    /// What the user allows a body to have.
    bytes_max: Option<usize>,
    /// What the receiver was seen to refuse.
    limit: Limit,
    batching: Batching,
}

/// Where the messages of a request go.
struct Target {
    method: Method,
    url: Url,
    headers: HeaderMap,
}

impl Webhook {
    pub(crate) fn new(
        client: Client,
        guard: Guard,
        options: Ready,
        batching: Batching,
    ) -> Result<Self, BuildError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in &options.headers {
            http::set_header(&mut headers, name, value)?;
        }
        Ok(Self {
            client,
            guard,
            endpoint: options.endpoint_url,
            url: options.url,
            headers,
            signing_keys: options.signing_keys,
            batch: options.batch,
            timeout: options.request_timeout,
            bytes_max: options.body_bytes_max,
            limit: Limit::default(),
            batching,
        })
    }

    /// Sends the messages in one request, or in several if they have several routes, of which the
    /// engine is asked to give one at a time. After a failure the rest is not sent: it may belong
    /// behind what failed.
    async fn post(&self, batch: &Batch) -> Result<Vec<Verdict>, SinkError> {
        let messages = batch.messages();
        // A part is begun within the time of one request, so all take that of two at the most.
        let deadline = Instant::now() + self.timeout;
        let mut verdicts = Vec::with_capacity(messages.len());
        for part in messages.chunk_by(|one, next| one.route == next.route) {
            let sent = match self.target(part) {
                _ if Instant::now() > deadline => break,
                Ok(target) => self.send(&target, part).await.map(|()| Verdict::Delivered),
                // It was asked before the message was queued, so this is another route than that.
                Err(error) => {
                    let (retry, error) = (Retry::Never, error.to_string());
                    Ok(Verdict::Rejected { retry, error })
                }
            };
            match sent {
                Ok(verdict) => verdicts.extend(vec![verdict; part.len()]),
                Err(error) if verdicts.is_empty() => return Err(error),
                // The next request begins with it, and fails as a whole if it fails again.
                Err(_) => break,
            }
        }
        verdicts.resize(messages.len(), Verdict::Untried);
        Ok(verdicts)
    }

    /// The messages have one route.
    fn target(&self, messages: &[Arc<Message>]) -> Result<Target, RouteError> {
        let route = messages.first().and_then(|message| message.route.as_deref());
        let routed = route.map(Routed::of).transpose()?.unwrap_or_default();
        let mut headers = self.headers.clone();
        for (name, value) in &routed.headers {
            headers.insert(name, value.clone());
        }
        let url = match &routed.path {
            Some(path) => join(self.endpoint.reveal(), path),
            None => self.url.reveal().clone(),
        };
        Ok(Target { method: routed.method.unwrap_or(Method::POST), url, headers })
    }

    async fn send(&self, target: &Target, part: &[Arc<Message>]) -> Result<(), SinkError> {
        let mut headers = target.headers.clone();
        let mut body = body::body(part, self.batch);
        let bytes = body.len();
        if !self.signing_keys.is_empty() {
            let (keys, url) = (&self.signing_keys, target.url.as_str());
            signature::sign(&mut headers, keys, url, part, &body, now());
        }
        http::noted::request(&target.method, (&self.endpoint, &target.url), &headers, &body);
        let coding = headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes).unwrap_or_default();
        if coding.trim_ascii().eq_ignore_ascii_case(b"gzip") {
            body = body::gzip(&body)
                .map_err(|error| SinkError::later(format!("cannot compress a body: {error}")))?;
        }
        let request = self
            .client
            .request(target.method.clone(), target.url.clone())
            .headers(headers)
            .timeout(self.timeout)
            .body(body);
        let mut response = request
            .send()
            .await
            .map_err(|error| http::no_answer(&error, &self.url, self.timeout))?;
        let said = http::short_body(&mut response).await;
        let status = response.status();
        if status.is_success() {
            self.limit.taken();
            return Ok(());
        }
        let detail = if status.is_redirection() {
            "redirects are not followed, correct the endpoint's `url`".to_owned()
        } else {
            http::quote(&said)
        };
        let refused = http::refused(status, response.headers(), &self.url, &detail);
        if status != StatusCode::PAYLOAD_TOO_LARGE {
            return Err(refused);
        }
        if part.len() > 1 {
            self.limit.refused(bytes);
        }
        Err(SinkError::too_large(format!("{bytes} bytes: {}", refused.message)))
    }

    /// Connects, and says nothing: a receiver need not know any method but POST. The certificate
    /// is not looked at.
    async fn connect(&self) -> Result<(), SinkError> {
        let url = self.url.reveal();
        let port = url.port_or_known_default().unwrap_or(443);
        let failed = |reason: &dyn std::fmt::Display| {
            SinkError::unreachable(format!("cannot connect to {}: {reason}", self.url))
        };
        let connect = async {
            match url.host() {
                Some(Host::Domain(name)) => {
                    TcpStream::connect(&*self.guard.resolve(name, port).await?).await
                }
                Some(Host::Ipv4(ip)) => TcpStream::connect((IpAddr::V4(ip), port)).await,
                Some(Host::Ipv6(ip)) => TcpStream::connect((IpAddr::V6(ip), port)).await,
                None => Err(std::io::ErrorKind::AddrNotAvailable.into()),
            }
        };
        match tokio::time::timeout(http::CONNECT_TIMEOUT.min(self.timeout), connect).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(failed(&error)),
            Err(elapsed) => Err(failed(&elapsed)),
        }
    }
}

impl Sink for Webhook {
    fn kind(&self) -> SinkKind {
        SinkKind::Log
    }

    fn batch_policy(&self) -> BatchPolicy {
        let overheads = if self.batch { (body::WRAPPING_BYTES, 1) } else { (0, 0) };
        let (request_overhead, message_overhead) = overheads;
        let bytes_max = self.bytes_max.unwrap_or(BYTES_MAX).min(BYTES_MAX);
        BatchPolicy {
            messages_max: if self.batch { self.batching.messages_max.max(1) } else { 1 },
            bytes_max: bytes_max.min(self.limit.bytes_max()),
            message_bytes_max: self
                .bytes_max
                .map(|bytes| bytes.saturating_sub(request_overhead + message_overhead)),
            request_overhead,
            message_overhead,
            linger: self.batching.linger,
            requests_max: REQUESTS_MAX,
            // A request succeeds or fails as a whole.
            grouping: Grouping::Together,
            one_route: true,
        }
    }

    fn check(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(self.connect())
    }

    fn check_route(&self, route: &Route) -> Result<(), RouteError> {
        Routed::of(route).map(drop)
    }

    fn deliver<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Vec<Verdict>, SinkError>> {
        Box::pin(http::noted::noting(batch, self.post(batch)))
    }
}

/// Seconds since 1970, for the receiver to judge the age of a signature by.
fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[cfg(test)]
mod tests;
