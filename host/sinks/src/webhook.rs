//! Webhooks: messages posted as JSON to an HTTP endpoint.
//!
//! A 2xx means that all messages of the request are delivered, anything else that none is, and the
//! engine tries again; there are no verdicts per message. Redirects are not followed: the endpoint
//! moved, and someone has to know.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use model::BoxFuture;
use model::batch::{Batch, BatchPolicy, Grouping};
use model::sink::{Sink, SinkError, SinkKind, Verdict};
use options::Address;
use options::webhook::Ready;
use reqwest::Client;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use tokio::net::TcpStream;
use url::Host;

use crate::{Batching, BuildError, http};

/// What common servers accept by default is 1 MB or more; a page of wide rows must fit.
const BYTES_MAX: usize = 4 << 20;
/// As many as browsers open to one host, and two more.
const REQUESTS_MAX: usize = 8;

/// A webhook.
pub(crate) struct Webhook {
    client: Client,
    url: Address,
    headers: HeaderMap,
    batch: bool,
    timeout: Duration,
    batching: Batching,
}

impl Webhook {
    pub(crate) fn new(
        client: Client,
        options: Ready,
        batching: Batching,
    ) -> Result<Self, BuildError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in &options.headers {
            http::set_header(&mut headers, name, value)?;
        }
        let Ready { url, headers: _, batch, request_timeout: timeout } = options;
        Ok(Self { client, url, headers, batch, timeout, batching })
    }

    async fn post(&self, batch: &Batch) -> Result<Vec<Verdict>, SinkError> {
        let request = self
            .client
            .post(self.url.reveal().clone())
            .headers(self.headers.clone())
            .timeout(self.timeout)
            .body(body(batch, self.batch));
        let mut response = request
            .send()
            .await
            .map_err(|error| http::no_answer(&error, &self.url, self.timeout))?;
        let said = http::short_body(&mut response).await;
        let status = response.status();
        if status.is_success() {
            return Ok(vec![Verdict::Delivered; batch.messages().len()]);
        }
        let detail = if status.is_redirection() {
            "redirects are not followed, correct the endpoint's `url`".to_owned()
        } else {
            http::quote(&said)
        };
        Err(http::refused(status, response.headers(), &self.url, &detail))
    }

    /// Connects, and says nothing: a receiver need not know any method but POST. The certificate
    /// is not looked at.
    async fn connect(&self) -> Result<(), SinkError> {
        let url = self.url.reveal();
        let port = url.port_or_known_default().unwrap_or(443);
        let failed = |reason: &dyn std::fmt::Display| {
            SinkError::later(format!("cannot connect to {}: {reason}", self.url))
        };
        let connect = async {
            match url.host() {
                Some(Host::Domain(name)) => TcpStream::connect((name, port)).await,
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
        BatchPolicy {
            messages_max: if self.batch { self.batching.messages_max.max(1) } else { 1 },
            bytes_max: BYTES_MAX,
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

    fn deliver<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Vec<Verdict>, SinkError>> {
        Box::pin(self.post(batch))
    }
}

/// `{"data":[…]}`, or the message as it is. The payloads are JSON already.
fn body(batch: &Batch, wrapped: bool) -> Bytes {
    const OPEN: &str = r#"{"data":["#;
    const CLOSE: &str = "]}";
    let messages = batch.messages();
    if let ([message], false) = (messages, wrapped) {
        return Bytes::copy_from_slice(message.payload.as_bytes());
    }
    let payloads: usize = messages.iter().map(|message| message.payload.len() + 1).sum();
    let mut body = String::with_capacity(OPEN.len() + payloads + CLOSE.len());
    body.push_str(OPEN);
    for (index, message) in messages.iter().enumerate() {
        if index > 0 {
            body.push(',');
        }
        body.push_str(&message.payload);
    }
    body.push_str(CLOSE);
    body.into()
}

#[cfg(test)]
mod tests {
    use model::message::Effect;
    use options::Secret;

    use super::*;
    use crate::conformance::fake::{Answer, Fake};
    use crate::conformance::{BATCHING, harmless, message, webhook, writes};

    fn sink(options: Ready) -> Webhook {
        Webhook::new(http::client().unwrap(), options, BATCHING).unwrap()
    }

    #[tokio::test]
    async fn b125_batch_true_wraps_and_false_is_bare() {
        let fake = Fake::start(|_| Answer::new(204, "")).await;
        let wrapped = sink(webhook(&fake.url, true));
        wrapped.deliver(&writes(1..=2)).await.unwrap();
        wrapped.deliver(&writes(1..=1)).await.unwrap();
        let bare = sink(webhook(&fake.url, false));
        bare.deliver(&writes(1..=1)).await.unwrap();
        let bodies: Vec<_> = fake.seen().into_iter().map(|seen| seen.body).collect();
        let one = r#"{"id":"1","name":"row-data-1"}"#;
        let two = r#"{"id":"2","name":"row-data-2"}"#;
        assert_eq!(
            bodies,
            [format!(r#"{{"data":[{one},{two}]}}"#), format!(r#"{{"data":[{one}]}}"#), one.into()]
        );
        assert_eq!(wrapped.batch_policy().messages_max, 10);
        assert_eq!(bare.batch_policy().messages_max, 1);
    }

    #[tokio::test]
    async fn b128_headers_are_sent_and_can_change_the_content_type() {
        let fake = Fake::start(|_| Answer::new(200, "ok")).await;
        sink(webhook(&fake.url, true)).deliver(&writes(1..=1)).await.unwrap();
        let mut options = webhook(&fake.url, true);
        options.headers.push(("Content-Type".into(), Secret::new("application/cloudevents+json")));
        sink(options).deliver(&writes(1..=1)).await.unwrap();
        let [first, second] = &fake.seen()[..] else { panic!() };
        assert_eq!(first.method, "POST");
        assert_eq!(first.path, "/hunter2?token=hunter2");
        assert_eq!(first.header("content-type"), ["application/json"]);
        assert_eq!(first.header("authorization"), ["hunter2"]);
        let agent = concat!("sequin/", env!("CARGO_PKG_VERSION"));
        assert_eq!(first.header("user-agent"), [agent]);
        assert_eq!(second.header("content-type"), ["application/cloudevents+json"]);
    }

    #[tokio::test]
    async fn a_removal_is_an_event_like_any_other() {
        let fake = Fake::start(|_| Answer::new(200, "")).await;
        let mut message = (*message(1, Effect::Remove)).clone();
        message.payload = r#"{"action":"delete"}"#.into();
        let batch = Batch::new(vec![message.into()]).unwrap();
        sink(webhook(&fake.url, false)).deliver(&batch).await.unwrap();
        assert_eq!(fake.seen()[0].body, r#"{"action":"delete"}"#);
    }

    #[tokio::test]
    async fn a_redirect_tells_that_it_is_not_followed() {
        let fake = Fake::start(|_| Answer::new(302, "").header("location", "/")).await;
        let error =
            harmless("webhook", sink(webhook(&fake.url, true)).deliver(&writes(1..=1)).await);
        assert!(error.message.contains("redirects are not followed"), "{error}");
    }

    #[test]
    fn a_header_that_cannot_be_sent_is_refused() {
        let mut options = webhook("http://127.0.0.1:1", true);
        options.headers.push(("bad name".into(), Secret::new("x")));
        assert!(Webhook::new(http::client().unwrap(), options, BATCHING).is_err());
    }
}
