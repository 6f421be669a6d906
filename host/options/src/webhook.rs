//! `destination: {type: webhook}`: messages are posted to an HTTP endpoint.

use std::time::Duration;

use serde::Deserialize;
use url::Url;

use crate::signing::SigningKey;
use crate::{Address, Problem, Problems, Secret, endpoint};

/// The predecessor's bound on a path.
const PATH_BYTES_MAX: usize = 2000;
/// Longer than any answer worth waiting for, and the sink stands still meanwhile.
const TIMEOUT_MS_MAX: i64 = 3_600_000;
/// Less would not hold the wrapping and the metadata of one message.
const BODY_BYTES_MIN: i64 = 1024;

/// A webhook as a user writes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The name of an `http_endpoints[]` entry.
    pub http_endpoint: String,
    /// Appended to the endpoint's URL.
    pub http_endpoint_path: Option<String>,
    /// `{"data": […]}` if true, a bare message if not. The default is that of the predecessor's
    /// code; its documentation said false.
    #[serde(default = "yes")]
    pub batch: bool,
    /// For one request, from connecting to the last byte of the answer. Ours.
    #[serde(default = "timeout_ms")]
    pub request_timeout_ms: i64,
    /// Of one body, before it is compressed. A batch is cut to it; a message that is larger alone is
    /// put aside and never sent. For receivers that close the connection on what is too large, or
    /// take the first bytes, instead of answering 413. Ours.
    pub max_body_bytes: Option<i64>,
}

/// A webhook that requests can be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The endpoint's, to which a router's path is appended.
    pub endpoint_url: Address,
    /// With the sink's own path.
    pub url: Address,
    /// Names differ, whatever their case.
    pub headers: Vec<(String, Secret)>,
    /// None: requests are not signed.
    pub signing_keys: Vec<SigningKey>,
    pub batch: bool,
    pub request_timeout: Duration,
    pub body_bytes_max: Option<usize>,
}

fn yes() -> bool {
    true
}

fn timeout_ms() -> i64 {
    30_000
}

impl Options {
    /// # Errors
    /// Everything that is wrong with it.
    pub fn validate(&self, endpoint: &endpoint::Ready) -> Result<Ready, Vec<Problem>> {
        let mut problems = Problems::default();
        let path = self.http_endpoint_path.as_deref().unwrap_or_default();
        let checked = check_path(path).map_err(|why| Problem::new("http_endpoint_path", why));
        let url = problems.keep(checked).map(|()| join(endpoint.url.reveal(), path));
        let timeout = match self.request_timeout_ms {
            ms @ 1..=TIMEOUT_MS_MAX => Duration::from_millis(ms.unsigned_abs()),
            _ => {
                let message = format!("must be between 1 and {TIMEOUT_MS_MAX}");
                problems.push(Problem::new("request_timeout_ms", message));
                Duration::ZERO
            }
        };
        let body_bytes_max = match self.max_body_bytes {
            Some(..BODY_BYTES_MIN) => {
                let message = format!("must be at least {BODY_BYTES_MIN}");
                problems.push(Problem::new("max_body_bytes", message));
                None
            }
            bytes => bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        };
        problems.or(url.map(|url| Ready {
            endpoint_url: endpoint.url.clone(),
            url: Address::new(url),
            headers: endpoint.headers.clone(),
            signing_keys: endpoint.signing_keys.clone(),
            batch: self.batch,
            request_timeout: timeout,
            body_bytes_max,
        }))
    }
}

/// Whether the path can be appended to an endpoint's URL: empty, or from its `/` or `?` on.
///
/// # Errors
/// Why not, to follow the field in a sentence.
pub fn check_path(path: &str) -> Result<(), &'static str> {
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%?/".contains(&byte);
    match path.as_bytes() {
        [] => Ok(()),
        bytes if bytes.len() > PATH_BYTES_MAX => Err("is longer than 2000 bytes"),
        [b'#', ..] => Err("begins with `#`: the part behind it is never sent"),
        [b'/' | b'?', rest @ ..] if rest.iter().copied().all(allowed) => Ok(()),
        [b'/' | b'?', ..] => Err("holds a character that a URL path cannot hold"),
        _ => Err("must begin with `/` or `?`"),
    }
}

/// The endpoint's URL with the path behind its own, one slash between them. Its query is kept, in
/// front of the path's.
#[must_use]
pub fn join(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_fragment(None);
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    if !path.is_empty() {
        url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    }
    match (base.query(), query) {
        (_, "") => {}
        (None | Some(""), query) => url.set_query(Some(query)),
        (Some(first), second) => url.set_query(Some(&format!("{first}&{second}"))),
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(path: &str) -> Options {
        Options {
            http_endpoint: "e".to_owned(),
            http_endpoint_path: Some(path.to_owned()),
            batch: true,
            request_timeout_ms: 30_000,
            max_body_bytes: None,
        }
    }

    fn endpoint(url: &str) -> endpoint::Ready {
        endpoint::Ready {
            name: "e".to_owned(),
            url: Address::new(Url::parse(url).unwrap()),
            headers: Vec::new(),
            signing_keys: Vec::new(),
        }
    }

    #[test]
    fn b129_url_and_path_join_with_one_slash() {
        let cases = [
            ("https://a.test", "", "https://a.test/"),
            ("https://a.test", "/hook", "https://a.test/hook"),
            ("https://a.test/", "/hook", "https://a.test/hook"),
            ("https://a.test/v1", "/hook", "https://a.test/v1/hook"),
            ("https://a.test/v1/", "/hook/", "https://a.test/v1/hook/"),
            ("https://a.test/v1/", "", "https://a.test/v1/"),
            ("https://a.test/v1?k=1", "/hook", "https://a.test/v1/hook?k=1"),
            ("https://a.test/v1?k=1", "/hook?l=2", "https://a.test/v1/hook?k=1&l=2"),
            ("https://a.test/v1", "?l=2", "https://a.test/v1?l=2"),
            ("https://a.test/v1#part", "/hook", "https://a.test/v1/hook"),
            ("https://a.test/a%20b", "/c%2Fd", "https://a.test/a%20b/c%2Fd"),
        ];
        for (base, path, expected) in cases {
            let ready = options(path).validate(&endpoint(base)).unwrap();
            assert_eq!(ready.url.reveal().as_str(), expected, "{base} + {path}");
        }
    }

    #[test]
    fn bad_paths_and_timeouts_are_refused() {
        let long = format!("/{}", "a".repeat(PATH_BYTES_MAX));
        for path in ["hook", "#part", "/a b", "/é", &long] {
            let problems = options(path).validate(&endpoint("https://a.test")).unwrap_err();
            assert_eq!(problems.len(), 1, "{path}");
        }
        for ms in [0, -1, TIMEOUT_MS_MAX + 1] {
            let options = Options { request_timeout_ms: ms, ..options("x") };
            let problems = options.validate(&endpoint("https://a.test")).unwrap_err();
            assert_eq!(problems.len(), 2);
        }
    }

    #[test]
    fn b105_a_bound_on_bodies_holds_a_message() {
        let endpoint = endpoint("https://a.test");
        let ready = |bytes| {
            let options = Options { max_body_bytes: bytes, ..options("") };
            options.validate(&endpoint).map(|ready| ready.body_bytes_max)
        };
        assert_eq!(ready(None), Ok(None));
        assert_eq!(ready(Some(1024)), Ok(Some(1024)));
        for bytes in [-1, 0, 1023] {
            assert_eq!(ready(Some(bytes)).unwrap_err()[0].field, "max_body_bytes");
        }
    }
}
