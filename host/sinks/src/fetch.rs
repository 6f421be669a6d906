//! Requests of plugins: to hosts that are granted, within bounds, and past the same guard as those of
//! the sinks. A redirect is an answer and not followed, so that there is no second host.

use std::fmt;
use std::time::Duration;

use model::BoxFuture;
use model::grants::{CallError, Failure, Http, HttpRequest, HttpResponse};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Url};
use url::Host;

use crate::BuildError;
use crate::http::guard::Guard;

/// Of a request and of an answer, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Headers of a request, and their names and values together in bytes.
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 16 << 10;

/// What the client says of the connection and the message. `host` would name another host than the one
/// that is granted.
const OURS: [&str; 7] =
    ["host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"];

/// Whether a host, with its port if that is not the usual one, is granted.
pub type Allows = Box<dyn Fn(&str, Option<u16>) -> bool + Send + Sync>;

/// What sends the requests of one plugin. Its futures want a runtime of tokio.
pub struct Fetch {
    client: Client,
    guard: Guard,
    allows: Allows,
    timeout: Duration,
}

impl Fetch {
    /// To hosts that `allows` knows and `guard` lets through.
    ///
    /// # Errors
    /// The machine lacks what an HTTP client needs.
    pub fn new(guard: Guard, allows: Allows, timeout: Duration) -> Result<Self, BuildError> {
        Ok(Self { client: crate::http::client(guard)?, guard, allows, timeout })
    }

    async fn fetch(&self, request: HttpRequest) -> Result<HttpResponse, CallError> {
        let limit = request.timeout.map_or(self.timeout, |asked| asked.min(self.timeout));
        let host;
        let (method, url, headers, body) = {
            let url = self.url(&request.url)?;
            host = url.host_str().unwrap_or_default().to_owned();
            (method(&request.method)?, url, headers(&request.headers)?, request.body)
        };
        if body.len() > BODY_BYTES_MAX {
            let message = format!("a body of {} bytes, and {BODY_BYTES_MAX} may be", body.len());
            return Err(CallError::new(Failure::TooLarge, message));
        }
        let sent = self.client.request(method, url).headers(headers).body(body).timeout(limit);
        let mut response = sent.send().await.map_err(|error| no_answer(&error, &host, limit))?;
        let status = response.status().as_u16();
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        let headers = response.headers().iter().filter_map(text).collect();
        let (body, whole) = crate::http::body(&mut response, BODY_BYTES_MAX)
            .await
            .map_err(|error| no_answer(&error, &host, limit))?;
        if !whole {
            let message = format!("the answer of {host} has more than {BODY_BYTES_MAX} bytes");
            return Err(CallError::new(Failure::TooLarge, message));
        }
        Ok(HttpResponse { status, headers, body })
    }

    fn url(&self, text: &str) -> Result<Url, CallError> {
        let invalid = |why: &str| CallError::new(Failure::Invalid, format!("the URL {why}"));
        let url = Url::parse(text).map_err(|error| invalid(&format!("is none: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid("is neither http nor https"));
        }
        let host = url.host().ok_or_else(|| invalid("has no host"))?;
        if !(self.allows)(&host.to_string(), url.port()) {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            let message = format!("the host {host}{port} is not granted");
            return Err(CallError::new(Failure::Denied, message));
        }
        let ip = match host {
            Host::Ipv4(ip) => ip.into(),
            Host::Ipv6(ip) => ip.into(),
            // The client's resolver asks the guard.
            Host::Domain(_) => return Ok(url),
        };
        self.guard.check(ip).map_err(|refused| guarded(&host.to_string(), &refused.to_string()))?;
        Ok(url)
    }
}

impl Http for Fetch {
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, CallError>> {
        Box::pin(self.fetch(request))
    }
}

impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetch").field("guard", &self.guard).finish_non_exhaustive()
    }
}

fn method(text: &str) -> Result<Method, CallError> {
    match Method::from_bytes(text.as_bytes()) {
        Ok(method) if method != Method::CONNECT => Ok(method),
        _ => Err(CallError::new(Failure::Invalid, "the method is none that can be sent")),
    }
}

fn headers(given: &[(String, String)]) -> Result<HeaderMap, CallError> {
    let bytes: usize = given.iter().map(|(name, value)| name.len() + value.len()).sum();
    if given.len() > HEADERS_MAX || bytes > HEADER_BYTES_MAX {
        let message =
            format!("more than {HEADERS_MAX} headers or {HEADER_BYTES_MAX} bytes of them");
        return Err(CallError::new(Failure::TooLarge, message));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let bad = |_| {
            // The value may be a secret.
            CallError::new(Failure::Invalid, format!("the header {name:.100?} cannot be sent"))
        };
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad(()))?;
        if OURS.contains(&parsed.as_str()) {
            return Err(bad(()));
        }
        let mut value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| bad(()))?;
        value.set_sensitive(true);
        headers.append(parsed, value);
    }
    Ok(headers)
}

/// Without the URL, which may hold a secret.
fn no_answer(error: &reqwest::Error, host: &str, limit: Duration) -> CallError {
    if error.is_timeout() {
        let message = format!("no answer from {host} within {} ms", limit.as_millis());
        return CallError::new(Failure::Timeout, message);
    }
    let cause = crate::http::cause(error);
    if cause.contains("SEQUIN_HTTP_GUARD") {
        return guarded(host, &cause);
    }
    CallError::new(Failure::Unavailable, format!("no answer from {host}: {cause}"))
}

/// Two guards stand before a plugin: its grant's and the engine's.
fn guarded(host: &str, refused: &str) -> CallError {
    let message = format!(
        "{host}: {refused}: a plugin reaches internal ones if its grant says `allow_private: true` \
         and the engine's guard lets them through"
    );
    CallError::new(Failure::Denied, message)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::{any, get};

    use super::*;

    async fn server() -> u16 {
        let app = Router::new()
            .route("/echo", any(|body: String| async move { format!("got {body}") }))
            .route("/away", get(|| async { (StatusCode::FOUND, [("location", "http://x.test/")]) }))
            .route("/large", get(|| async { "x".repeat(BODY_BYTES_MAX + 1) }))
            .route("/hang", get(std::future::pending::<()>));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        #[expect(clippy::disallowed_methods, reason = "a test's own server")]
        tokio::spawn(axum::serve(listener, app).into_future());
        port
    }

    fn fetch(guard: Guard, granted: &'static [&'static str]) -> Fetch {
        let allows = move |host: &str, _: Option<u16>| granted.contains(&host);
        Fetch::new(guard, Box::new(allows), Duration::from_millis(300)).unwrap()
    }

    fn request(method: &str, url: impl Into<String>) -> HttpRequest {
        let (method, url) = (method.to_owned(), url.into());
        HttpRequest { method, url, body: b"hi".to_vec(), ..HttpRequest::default() }
    }

    #[tokio::test]
    async fn b269_requests_go_to_hosts_that_are_granted_and_redirects_are_answers() {
        let port = server().await;
        let fetch = fetch(Guard::Metadata, &["127.0.0.1", "localhost"]);
        let base = format!("http://127.0.0.1:{port}");
        let good = fetch.send(request("POST", format!("{base}/echo"))).await.unwrap();
        assert_eq!((good.status, good.body), (200, b"got hi".to_vec()));
        let away = fetch.send(request("GET", format!("{base}/away"))).await.unwrap();
        assert_eq!(away.status, 302);
        assert!(away.headers.contains(&("location".to_owned(), "http://x.test/".to_owned())));
        for (url, failure) in [
            ("http://other.test/".to_owned(), Failure::Denied),
            ("http://127.0.0.2/".to_owned(), Failure::Denied),
            ("file:///etc/passwd".to_owned(), Failure::Invalid),
            ("no url".to_owned(), Failure::Invalid),
            (format!("{base}/large"), Failure::TooLarge),
            (format!("{base}/hang"), Failure::Timeout),
            ("http://127.0.0.1:1/".to_owned(), Failure::Unavailable),
        ] {
            let error = fetch.send(request("GET", &url)).await.unwrap_err();
            assert_eq!(error.failure, failure, "{url}: {error}");
        }
        let mut other = request("GET", format!("{base}/echo"));
        other.headers.push(("Host".to_owned(), "other.test".to_owned()));
        assert_eq!(fetch.send(other).await.unwrap_err().failure, Failure::Invalid);
    }

    /// Also if the host is granted: by its address, in any notation, and by a name that means it.
    #[tokio::test]
    async fn b269_private_addresses_are_refused_whatever_is_granted() {
        let port = server().await;
        let granted = &["127.0.0.1", "localhost", "[::ffff:7f00:1]", "10.0.0.1", "169.254.169.254"];
        let fetch = fetch(Guard::Internal, granted);
        for host in [
            "127.0.0.1",
            "localhost",
            "[::ffff:127.0.0.1]",
            "10.0.0.1",
            "0x7f.1",
            "169.254.169.254",
        ] {
            let url = format!("http://{host}:{port}/echo");
            let error = fetch.send(request("GET", &url)).await.unwrap_err();
            assert_eq!(error.failure, Failure::Denied, "{url}: {error}");
        }
    }
}
