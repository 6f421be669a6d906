//! Who may use the API.
//!
//! Who shows the engine's own token may do all of it, who shows another what that one may. Without a
//! token only this machine may, and no page in one of its browsers.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};

use model::tokens::{Limits, Scope};

use crate::caller::{Audit, Caller};
use crate::operation::Needs;
use crate::reply::{self, Refused};
use crate::tokens::{Admitted, Tokens, asks_for_secrets};

/// Where there is nothing.
pub(crate) const NOTHING: &str = "/api/{*rest}";

/// The doorkeeper of the API.
#[derive(Clone)]
pub struct Door {
    /// Without a token of another name.
    pub access: Access,
    /// Tokens of other names.
    pub tokens: Arc<dyn Tokens>,
    /// What was changed, and by whom.
    pub audit: Arc<dyn Audit>,
}

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

    /// Whether this request may pass with what it shows, if that is no token of another name; or what
    /// it is told.
    fn check(&self, headers: &HeaderMap) -> Result<(), Refused> {
        match self {
            Self::Token(token) => {
                let is_token = shown(headers).is_some_and(|shown| token.is(shown));
                if is_token { Ok(()) } else { Err(unauthorized()) }
            }
            // A page that a browser of this machine shows says where it is from, or was led here
            // under another name.
            Self::Local if !is_own_page(headers) || !is_local(headers.get(HOST)) => {
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

/// The token that a request shows.
fn shown(headers: &HeaderMap) -> Option<&[u8]> {
    let shown = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes)?;
    let (scheme, token) = shown.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

impl Door {
    /// These routes, for who may use them: asked before anything else of a request is looked at, and
    /// in no handler, so that none can forget it.
    pub(crate) fn guard(self, routes: Router, needs: HashMap<(String, Method), Needs>) -> Router {
        let guard = Guard { door: self, needs: Arc::new(needs) };
        routes.route_layer(from_fn_with_state(guard, admit))
    }

    /// The token that lets it in: its name, if it has one, and what it is for.
    fn check(&self, request: &Request, needs: Needs) -> Result<(Option<String>, Limits), Refused> {
        let headers = request.headers();
        let engines = || self.access.check(headers).map(|()| (None, Limits::default()));
        let Some(shown) = shown(headers).filter(|_| self.tokens.is_any()) else {
            return engines();
        };
        match self.tokens.admit(shown) {
            Admitted::Unknown => engines(),
            Admitted::Expired => {
                let told = "the token has expired: make another one (`sequin token create`)";
                let refused = reply::error(StatusCode::UNAUTHORIZED, told);
                Err(refused.with(WWW_AUTHENTICATE, "Bearer"))
            }
            Admitted::May { name, scopes, limits } => {
                let needed =
                    if asks_for_secrets(request.uri()) { Scope::Admin } else { needs.scope };
                if !scopes.contains(&needed) && !scopes.contains(&Scope::Admin) {
                    let needed = needed.as_str();
                    let told = format!("the token may not do this: it needs the scope `{needed}`");
                    return Err(reply::error(StatusCode::FORBIDDEN, told));
                }
                if !limits.is_none() && needs.kind.is_none() && !needs.is_judged {
                    let only = limits.0.join(", ");
                    let told =
                        format!("limited: the token is for {only:.500}, and this is about all");
                    return Err(reply::error(StatusCode::FORBIDDEN, told));
                }
                Ok((Some(name), limits))
            }
        }
    }
}

/// The doorkeeper, who knows what each route needs.
#[derive(Clone)]
struct Guard {
    door: Door,
    needs: Arc<HashMap<(String, Method), Needs>>,
}

impl Guard {
    /// What is not known needs all.
    fn needs(&self, request: &Request) -> Needs {
        let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
        let method = match request.method() {
            &Method::HEAD => Method::GET,
            other => other.clone(),
        };
        let unknown = Needs { scope: Scope::Admin, is_change: true, kind: None, is_judged: false };
        if path == Some(NOTHING) {
            return Needs { scope: Scope::Read, is_change: false, is_judged: true, ..unknown };
        }
        let key = (path.unwrap_or_default().to_owned(), method);
        self.needs.get(&key).copied().unwrap_or(unknown)
    }
}

async fn admit(
    State(guard): State<Guard>,
    parameters: RawPathParams,
    request: Request,
    next: Next,
) -> Response {
    let needs = guard.needs(&request);
    let (token, limits) = match guard.door.check(&request, needs) {
        Ok(admitted) => admitted,
        Err(refused) => return refused.into_response(),
    };
    // Of an id its pattern says nothing: by `sink:a*` it would be anybody's that begins with an `a`.
    if let (Some(kind), Some((_, name))) = (needs.kind, parameters.iter().next())
        && (!limits.allow(kind, name) || !limits.is_none() && is_id(name))
    {
        // As if there were none.
        let told = format!("Not found: there is no {} `{name:.200}`", kind.replace('_', " "));
        return reply::error(StatusCode::NOT_FOUND, told).into_response();
    }
    let caller = Caller::new(token, limits, request.headers());
    let asked = (request.method().clone(), request.uri().clone());
    let is_done = |answer: &Response| needs.is_change && answer.status().is_success();
    caller.scope(&*guard.door.audit, asked, next.run(request), is_done).await
}

/// Whether it is written as the id of a resource is, and not as a name usually is.
fn is_id(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let is_hex = |part: &&str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    parts.iter().all(is_hex) && parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
}

fn unauthorized() -> Refused {
    let told = "show a token, the engine's SEQUIN_API_TOKEN or one of `sequin token create`: \
                `Authorization: Bearer …`";
    reply::error(StatusCode::UNAUTHORIZED, told).with(WWW_AUTHENTICATE, "Bearer")
}

/// Whether it comes from no page, or from one that was served here.
fn is_own_page(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let host = headers.get(HOST).map_or(&b""[..], HeaderValue::as_bytes);
    let (origin, schemes) = (origin.as_bytes(), [&b"http://"[..], &b"https://"[..]]);
    schemes.iter().any(|scheme| origin.strip_prefix(*scheme).is_some_and(|of| of == host))
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
pub(crate) mod tests {
    use model::BoxFuture;
    use model::versions::VersionsError;
    use serde_json::Value;
    use tower::ServiceExt as _;

    use super::*;
    use crate::operation::{get, patch, post};
    use crate::tokens::NewToken;

    type Answer = BoxFuture<'static, Result<Value, VersionsError>>;

    /// One that may look, and one that was.
    struct Two;

    fn may(scope: Scope) -> Admitted {
        Admitted::May { name: "it".to_owned(), scopes: vec![scope], limits: Limits::default() }
    }

    /// Keeps nothing.
    struct Nowhere;

    impl Audit for Nowhere {
        fn note(&self, _: String, _: &'static str, _: String) -> BoxFuture<'static, ()> {
            Box::pin(async {})
        }
    }

    impl Tokens for Two {
        fn admit(&self, shown: &[u8]) -> Admitted {
            match shown {
                b"looks" => may(Scope::Read),
                b"all" => may(Scope::Admin),
                b"some" => Admitted::May {
                    name: "some".to_owned(),
                    scopes: vec![Scope::Config, Scope::Read],
                    limits: Limits(vec!["sink:poi*".to_owned(), "sink:9*".to_owned()]),
                },
                b"was" => Admitted::Expired,
                _ => Admitted::Unknown,
            }
        }

        fn is_any(&self) -> bool {
            true
        }

        fn list(&self) -> Value {
            Value::Null
        }

        fn create(self: Arc<Self>, _: NewToken) -> Answer {
            Box::pin(async { Ok(Value::Null) })
        }

        fn revoke(self: Arc<Self>, _: String, _: String) -> Answer {
            Box::pin(async { Ok(Value::Null) })
        }
    }

    /// Of a server that listens on this machine alone.
    pub(crate) fn local() -> Door {
        Door { access: Access::Local, tokens: Arc::new(Two), audit: Arc::new(Nowhere) }
    }

    async fn nothing() {}

    #[tokio::test]
    async fn b261_a_token_of_another_name_may_what_its_scopes_say() {
        let token = Token::new(TOKEN.to_owned());
        let access = Access::new(token, "0.0.0.0".parse().unwrap());
        let door = Door { access, tokens: Arc::new(Two), audit: Arc::new(Nowhere) };
        let routes = crate::operation::Routes::new()
            .with(get("/api/sinks", "a", ""), nothing)
            .with(get("/api/letters", "b", "").scope(Scope::Messages), nothing)
            .with(post("/api/config/apply", "c", "").judged(), nothing)
            .with(post("/api/api_keys", "d", "").scope(Scope::Admin), nothing)
            .with(patch("/api/sinks/{which}", "e", "").of("sink"), nothing);
        let (router, operations) = routes.split();
        let router = door.guard(router, operations.needs());
        let status = async |method: &str, path: &str, token: &str| {
            let request = Request::builder().method(method).uri(path);
            let request = request.header("authorization", format!("Bearer {token}"));
            let request = request.body(axum::body::Body::empty()).unwrap();
            router.clone().oneshot(request).await.unwrap().status().as_u16()
        };
        for (method, path, token, expected) in [
            ("GET", "/api/sinks", "looks", 200),
            ("GET", "/api/sinks?show_sensitive=true", "looks", 403),
            ("GET", "/api/letters", "looks", 403),
            ("POST", "/api/config/apply", "looks", 403),
            ("POST", "/api/api_keys", "all", 200),
            ("GET", "/api/sinks", "was", 401),
            ("GET", "/api/sinks", "none", 401),
            ("POST", "/api/api_keys", TOKEN, 200),
            ("PATCH", "/api/sinks/poi-search", "looks", 403),
            ("PATCH", "/api/sinks/poi-search", "some", 200),
            ("PATCH", "/api/sinks/other", "some", 404),
            ("PATCH", "/api/sinks/9f-prod", "some", 200),
            ("PATCH", "/api/sinks/9f078c00-afa5-8b10-9c49-2f4e61987372", "some", 404),
            ("PATCH", "/api/sinks/9F078C00-afa5-8b10-9c49-2f4e61987372", "some", 404),
            ("PATCH", "/api/sinks/9f078c00%2Dafa5-8b10-9c49-2f4e61987372", "some", 404),
            ("PATCH", "/api/sinks/9f078c00-afa5-8b10-9c49-2f4e61987372", "all", 200),
            ("GET", "/api/sinks", "some", 403),
            ("POST", "/api/config/apply", "some", 200),
            ("HEAD", "/api/sinks", "looks", 200),
        ] {
            assert_eq!(status(method, path, token).await, expected, "{method} {path} {token}");
        }
    }

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
        for origin in ["https://a.test", "null", "http://localhost:1", "localhost", ""] {
            let page = [("host", "localhost"), ("origin", origin)];
            assert_eq!(status(&access, &page), 403, "{origin}");
        }
        // One that was served here.
        let own = [("host", "localhost:7376"), ("origin", "http://localhost:7376")];
        assert_eq!(status(&access, &own), 200);
        let led = [("host", "a.test"), ("origin", "http://a.test")];
        assert_eq!(status(&access, &led), 403);
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
