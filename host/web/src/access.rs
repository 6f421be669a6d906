//! Who may use the API.
//!
//! One bearer token until there are named ones. Without it only this machine may, and no page in
//! one of its browsers.

use std::fmt;
use std::net::IpAddr;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};

use crate::reply::{self, Refused};

/// Who may use the API.
#[derive(Clone)]
pub enum Access {
    /// Who has the token.
    Token(Token),
    /// Who is on this machine: the server listens nowhere else.
    Local,
    /// Nobody: without a token the server would be open to the network.
    Nobody,
}

/// A secret that a request shows.
#[derive(Clone)]
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// Short ones are guessed.
    pub const BYTES_MIN: usize = 16;

    /// None if it is shorter than that, or holds what a header cannot carry.
    #[must_use]
    pub fn new(text: String) -> Option<Self> {
        let fits =
            text.len() >= Self::BYTES_MIN && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then_some(Self(text))
    }

    /// In a time that says nothing about where they differ.
    fn is(&self, shown: &[u8]) -> bool {
        let differ = |bits: u8, (a, b): (&u8, u8)| std::hint::black_box(bits | (a ^ b));
        let same_length = shown.len() == self.0.len();
        shown.iter().zip(self.0.bytes()).fold(0, differ) == 0 && same_length
    }
}

impl Access {
    /// Of a server that listens at `address`.
    #[must_use]
    pub fn new(token: Option<Token>, address: IpAddr) -> Self {
        match token {
            Some(token) => Self::Token(token),
            None if address.is_loopback() => Self::Local,
            None => Self::Nobody,
        }
    }

    /// These routes, for who may use them: asked before anything else of a request is looked at, and
    /// in no handler, so that none can forget it.
    pub(crate) fn guard(self, routes: Router) -> Router {
        routes.route_layer(from_fn_with_state(self, admit))
    }

    /// Whether this request may pass, or what it is told.
    fn check(&self, headers: &HeaderMap) -> Result<(), Refused> {
        match self {
            Self::Token(token) => {
                let shown = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
                let shown = shown.and_then(|shown| shown.split_at_checked("Bearer ".len()));
                let is_token = shown.is_some_and(|(scheme, shown)| {
                    scheme.eq_ignore_ascii_case(b"Bearer ") && token.is(shown)
                });
                if is_token { Ok(()) } else { Err(unauthorized()) }
            }
            // A page that a browser of this machine shows says where it is from, or was led here
            // under another name.
            Self::Local if headers.contains_key(ORIGIN) || !is_local(headers.get(HOST)) => {
                let told = "without SEQUIN_API_TOKEN the API is not for other hosts' pages";
                Err(reply::error(StatusCode::FORBIDDEN, told))
            }
            Self::Local => Ok(()),
            Self::Nobody => {
                let told = "set SEQUIN_API_TOKEN, or SEQUIN_BIND to 127.0.0.1, to use the API";
                Err(reply::error(StatusCode::FORBIDDEN, told))
            }
        }
    }
}

async fn admit(State(access): State<Access>, request: Request, next: Next) -> Response {
    match access.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    }
}

fn unauthorized() -> Refused {
    let told = "show the token of SEQUIN_API_TOKEN: `Authorization: Bearer …`";
    reply::error(StatusCode::UNAUTHORIZED, told).with(WWW_AUTHENTICATE, "Bearer")
}

fn is_local(host: Option<&HeaderValue>) -> bool {
    let Some(host) = host.and_then(|host| host.to_str().ok()) else { return false };
    let port = host.rfind(':').filter(|at| !host.get(*at..).is_some_and(|end| end.contains(']')));
    let name = port.map_or(host, |at| host.split_at(at).0);
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || bare.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn status(access: &Access, headers: &[(&'static str, &str)]) -> u16 {
        let header = |(name, value): &(&'static str, &str)| {
            (axum::http::HeaderName::from_static(name), value.parse().unwrap())
        };
        match access.check(&headers.iter().map(header).collect()) {
            Ok(()) => 200,
            Err(refused) => refused.status.as_u16(),
        }
    }

    #[test]
    fn with_a_token_it_is_shown() {
        let token = Token::new(TOKEN.to_owned());
        let access = Access::new(token, "0.0.0.0".parse().unwrap());
        let good = format!("Bearer {TOKEN}");
        assert_eq!(status(&access, &[("authorization", &good), ("origin", "https://a.test")]), 200);
        assert_eq!(status(&access, &[("authorization", &good.replace('B', "b"))]), 200);
        let (longer, shorter) = (format!("{good}0"), "Bearer 0123456789abcde");
        for bad in [&*longer, shorter, "Bearer", "Bearer ", TOKEN, "Basic 0123456789abcdef", ""] {
            assert_eq!(status(&access, &[("authorization", bad)]), 401, "{bad}");
        }
        assert_eq!(status(&access, &[("host", "localhost")]), 401);
    }

    #[test]
    fn without_a_token_this_machine_may_and_no_page_of_others() {
        let access = Access::new(None, "127.0.0.1".parse().unwrap());
        for host in ["localhost", "localhost:7376", "127.0.0.1:7376", "[::1]:7376", "[::1]"] {
            assert_eq!(status(&access, &[("host", host)]), 200, "{host}");
        }
        for host in ["a.test", "localhost.a.test:7376", "10.0.0.1", "", "[", ":1"] {
            assert_eq!(status(&access, &[("host", host)]), 403, "{host}");
        }
        let page = [("host", "localhost"), ("origin", "https://a.test")];
        assert_eq!(status(&access, &page), 403);
        assert_eq!(status(&access, &[]), 403);
    }

    #[test]
    fn without_a_token_the_network_may_not() {
        for address in ["0.0.0.0", "::", "10.0.0.1"] {
            let access = Access::new(None, address.parse().unwrap());
            assert_eq!(status(&access, &[("host", "localhost")]), 403, "{address}");
        }
    }

    #[test]
    fn b237_a_token_is_long_enough_and_never_shown() {
        for bad in ["", "0123456789abcde", "0123456789abcdef 0", "0123456789abcdefé"] {
            assert!(Token::new(bad.to_owned()).is_none(), "{bad}");
        }
        assert!(!format!("{:?}", Token::new(TOKEN.to_owned()).unwrap()).contains(TOKEN));
    }
}
