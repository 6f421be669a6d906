//! Where a router sends a message: `method`, `endpoint_path`, `headers`, as in the predecessor.
//!
//! A path begins after the endpoint's URL, in place of the sink's own `http_endpoint_path`. It comes
//! from a row, so it can name no other host and cannot climb out of the endpoint's path.

use model::route::{Route, RouteError, RouteValue};
use options::webhook::check_path;
use options::{Secret, endpoint};
use reqwest::Method;
use reqwest::header::{CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

/// Receivers refuse more than 8 KB of headers (nginx, Apache), and ours come on top.
const HEADER_BYTES_MAX: usize = 6000;

const METHODS: [Method; 7] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::HEAD,
    Method::OPTIONS,
];

/// A route that can be followed.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Routed {
    /// None: POST.
    pub(super) method: Option<Method>,
    /// None: the sink's own.
    pub(super) path: Option<String>,
    pub(super) headers: HeaderMap,
}

impl Routed {
    /// # Errors
    /// The key that is wrong, and why.
    pub(super) fn of(route: &Route) -> Result<Self, RouteError> {
        let mut routed = Self::default();
        for (key, value) in route.keys() {
            match key {
                "method" => routed.method = route.text(key)?.map(method).transpose()?,
                "endpoint_path" => routed.path = route.text(key)?.map(path).transpose()?,
                "headers" => routed.headers = headers(value)?,
                other => {
                    return Err(wrong(
                        other,
                        "is no routing key of a webhook: they are method, endpoint_path and headers",
                    ));
                }
            }
        }
        Ok(routed)
    }
}

fn wrong(field: &str, message: impl Into<String>) -> RouteError {
    RouteError { field: field.into(), message: message.into() }
}

fn method(text: &str) -> Result<Method, RouteError> {
    let known = METHODS.iter().find(|method| method.as_str() == text);
    known.cloned().ok_or_else(|| {
        wrong("method", "must be one of GET, POST, PUT, PATCH, DELETE, HEAD and OPTIONS")
    })
}

fn path(text: &str) -> Result<String, RouteError> {
    // The predecessor put a slash between URL and path where there was none.
    let text = match text.as_bytes() {
        [] | [b'/' | b'?' | b'#', ..] => text.to_owned(),
        _ => format!("/{text}"),
    };
    check_path(&text).map_err(|why| wrong("endpoint_path", why))?;
    let path = text.split_once('?').map_or(text.as_str(), |(path, _)| path);
    let dots = |segment: &str| {
        let plain = segment.to_ascii_lowercase().replace("%2e", ".");
        matches!(plain.as_str(), "." | "..")
    };
    if path.split('/').any(dots) {
        return Err(wrong("endpoint_path", "holds `.` or `..`, which would leave the endpoint"));
    }
    Ok(text)
}

/// An object of texts; numbers and booleans are written as texts. Null is as if missing.
fn headers(value: &RouteValue) -> Result<HeaderMap, RouteError> {
    let wrong = |message: &str| wrong("headers", message);
    let RouteValue::Json(json) = value else {
        return Err(wrong(&format!("must be a JSON object, not {}", value.describe())));
    };
    let Ok(Value::Object(given)) = serde_json::from_str(json) else {
        return Err(wrong("must be a JSON object of texts"));
    };
    let mut headers = HeaderMap::new();
    let mut bytes = 0;
    for (name, value) in given {
        let value = match value {
            Value::Null => continue,
            Value::String(text) => text,
            Value::Bool(flag) => flag.to_string(),
            Value::Number(number) => number.to_string(),
            Value::Array(_) | Value::Object(_) => {
                return Err(wrong("holds a header whose value is no text"));
            }
        };
        bytes += name.len() + value.len() + 4;
        let (name, value) = header(&name, value).map_err(|why| wrong(&why))?;
        headers.insert(name, value);
    }
    if bytes > HEADER_BYTES_MAX {
        return Err(wrong(&format!("are longer than {HEADER_BYTES_MAX} bytes")));
    }
    Ok(headers)
}

fn header(name: &str, value: String) -> Result<(HeaderName, HeaderValue), String> {
    if endpoint::is_of_the_connection(name) || name.eq_ignore_ascii_case("host") {
        let name = name.to_ascii_lowercase();
        return Err(format!("holds `{name}`, which a route may not set"));
    }
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| "holds a header whose name HTTP cannot carry".to_owned())?;
    if name == CONTENT_ENCODING && !endpoint::is_coding(&value) {
        return Err("holds `content-encoding` with another coding than gzip".to_owned());
    }
    let value = Secret::new(value);
    let bad = || format!("holds a value that HTTP cannot carry, for `{name}`");
    if !endpoint::is_header_value(&value) {
        return Err(bad());
    }
    let mut value = HeaderValue::from_bytes(value.reveal().as_bytes()).map_err(|_| bad())?;
    value.set_sensitive(true);
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> RouteValue {
        RouteValue::Text(text.into())
    }

    fn of(keys: &[(&str, RouteValue)]) -> Result<Routed, RouteError> {
        Routed::of(&Route::new(keys.iter().map(|(key, value)| ((*key).into(), value.clone()))))
    }

    #[test]
    fn b109_method_path_and_headers_come_from_the_route() {
        let headers = RouteValue::Json(r#"{"X-Region":"eu","x-n":7,"x-b":true,"x-0":null}"#.into());
        let keys =
            [("method", text("PUT")), ("endpoint_path", text("/poi/7?x=1")), ("headers", headers)];
        let routed = of(&keys).unwrap();
        assert_eq!(routed.method, Some(Method::PUT));
        assert_eq!(routed.path.as_deref(), Some("/poi/7?x=1"));
        let headers: Vec<_> = routed.headers.iter().map(|(n, v)| (n.as_str(), v)).collect();
        assert_eq!(headers.len(), 3);
        assert!(headers.contains(&("x-region", &HeaderValue::from_static("eu"))));
        assert!(headers.contains(&("x-n", &HeaderValue::from_static("7"))));
        assert_eq!(of(&[]).unwrap(), Routed::default());
        assert_eq!(of(&[("method", RouteValue::Null)]).unwrap(), Routed::default());
        for method in METHODS {
            assert_eq!(of(&[("method", text(method.as_str()))]).unwrap().method, Some(method));
        }
        assert_eq!(
            of(&[("endpoint_path", text("poi/7"))]).unwrap().path.as_deref(),
            Some("/poi/7")
        );
        assert_eq!(of(&[("endpoint_path", text(""))]).unwrap().path.as_deref(), Some(""));
    }

    #[test]
    fn b110_a_route_that_cannot_be_followed_names_its_key() {
        let json = |text: &str| RouteValue::Json(text.into());
        let long = format!("/{}", "a".repeat(2000));
        let wide = format!(r#"{{"x":"{}"}}"#, "a".repeat(7000));
        let cases = [
            ("method", text("TRACE")),
            ("method", text("post")),
            ("method", RouteValue::Integer(1)),
            ("endpoint_path", text(&long)),
            ("endpoint_path", text("#x")),
            ("endpoint_path", text("/a b")),
            ("endpoint_path", text("/é")),
            ("endpoint_path", text("/a/../b")),
            ("endpoint_path", text("..")),
            ("endpoint_path", text("/a/%2E%2e/b")),
            ("endpoint_path", text("/./b")),
            ("endpoint_path", text("\\\\evil.test\\x")),
            ("endpoint_path", RouteValue::Boolean(true)),
            ("headers", text("x: y")),
            ("headers", json("[]")),
            ("headers", json(r#"{"x":{}}"#)),
            ("headers", json(r#"{"x":["y"]}"#)),
            ("headers", json(r#"{"bad name":"y"}"#)),
            ("headers", json(r#"{"":"y"}"#)),
            ("headers", json(r#"{"x":"a\r\nx-evil: 1"}"#)),
            ("headers", json(r#"{"Host":"y"}"#)),
            ("headers", json(r#"{"content-LENGTH":"1"}"#)),
            ("headers", json(r#"{"Transfer-Encoding":"chunked"}"#)),
            ("headers", json(r#"{"connection":"close"}"#)),
            ("headers", json(r#"{"content-encoding":"br"}"#)),
            ("headers", json(&wide)),
            ("path", text("/x")),
        ];
        for (key, value) in cases {
            let error = of(&[(key, value.clone())]).unwrap_err();
            assert_eq!(&*error.field, key, "{value:?}");
            assert!(!error.message.contains("evil"), "shows the row: {error}");
            assert!(error.to_string().len() < 200, "{error}");
        }
    }

    /// A path that looks like another host is a path.
    #[test]
    fn a_route_cannot_name_another_host() {
        let base = url::Url::parse("https://a.test/hooks").unwrap();
        for given in ["http://evil.test/x", "//evil.test/x", "/\u{2f}evil.test", "@evil.test/"] {
            let path = of(&[("endpoint_path", text(given))]).unwrap().path.unwrap();
            let url = options::webhook::join(&base, &path);
            assert_eq!(url.host_str(), Some("a.test"), "{given}");
            assert!(url.path().starts_with("/hooks/"), "{url}");
        }
    }
}
