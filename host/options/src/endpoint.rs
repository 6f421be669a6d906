//! `http_endpoints[]`: where webhooks go, the headers they carry, and how they are signed.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use url::Url;

use crate::signing::{Secrets, SigningKey};
use crate::{Address, Problem, Problems, Secret};

/// What belongs to the connection, not to the message: set by the client alone. `Host` is ours to
/// give only in an endpoint, for a proxy in front of the receiver.
const OF_THE_CONNECTION: [&str; 9] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// An endpoint as a user writes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    pub name: String,
    /// May hold a key, as the addresses of many services do.
    pub url: Option<Secret>,
    /// The predecessor's tunnel to a developer's machine.
    #[serde(default, deserialize_with = "flag")]
    pub local: bool,
    /// Of the tunnel.
    pub path: Option<String>,
    /// The predecessor asked this site for a fresh address.
    #[serde(default, rename = "webhook.site", deserialize_with = "flag")]
    pub webhook_site: bool,
    #[serde(default)]
    pub headers: Headers,
    /// Encrypted at rest in the predecessor. Here all headers are secrets.
    #[serde(default)]
    pub encrypted_headers: Headers,
    /// Ours: `whsec_…`, one or several while they are rotated. Requests are signed with each, as
    /// Standard Webhooks 1.0 says.
    #[serde(default)]
    pub signing_secret: Secrets,
}

/// An endpoint that requests can be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    pub name: String,
    pub url: Address,
    /// Names differ, whatever their case.
    pub headers: Vec<(String, Secret)>,
    /// None: requests are not signed.
    pub signing_keys: Vec<SigningKey>,
}

impl Options {
    /// # Errors
    /// Everything that is wrong with it.
    pub fn validate(&self) -> Result<Ready, Vec<Problem>> {
        let mut problems = Problems::default();
        let url = problems.keep(self.address());
        let mut headers: Vec<(String, Secret)> = Vec::new();
        let both = [("headers", &self.headers), ("encrypted_headers", &self.encrypted_headers)];
        for (field, given) in both {
            for (name, value) in &given.0 {
                if let Err(problem) = check_header(field, name, value) {
                    problems.push(problem);
                }
                // The later wins: encrypted headers over plain ones, as in the predecessor.
                headers.retain(|(earlier, _)| !earlier.eq_ignore_ascii_case(name));
                headers.push((name.clone(), value.clone()));
            }
        }
        let signing_keys = problems.keep(self.signing_secret.keys("signing_secret"));
        problems.or(url.zip(signing_keys).map(|(url, signing_keys)| Ready {
            name: self.name.clone(),
            url,
            headers,
            signing_keys,
        }))
    }

    fn address(&self) -> Result<Address, Problem> {
        if self.webhook_site {
            return Err(Problem::new("webhook.site", "is not supported")
                .help("open webhook.site, and write the address it gives you as `url`"));
        }
        if self.local {
            return Err(Problem::new("local", "is not supported yet: there is no tunnel")
                .help("write an address that the engine can reach as `url`"));
        }
        if self.path.is_some() {
            return Err(Problem::new("path", "belongs to `local: \"true\"`, which is missing")
                .help("write the path as part of `url`"));
        }
        let Some(text) = &self.url else {
            return Err(Problem::new("url", "is missing"));
        };
        let url = http_url("url", text.reveal())?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Problem::new("url", "holds a user or password, which are not sent")
                .help("send them as `encrypted_headers: {Authorization: \"Basic …\"}`"));
        }
        Ok(Address::new(url))
    }
}

/// Headers, written as a map or as a list of `{key, value}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, Secret)>);

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HeadersVisitor)
    }
}

struct HeadersVisitor;

impl<'de> Visitor<'de> for HeadersVisitor {
    type Value = Headers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of headers, or a list of `{key: …, value: …}`")
    }

    fn visit_unit<E: Error>(self) -> Result<Headers, E> {
        Ok(Headers::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
        let mut headers = Vec::new();
        while let Some(header) = map.next_entry()? {
            headers.push(header);
        }
        Ok(Headers(headers))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Headers, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Header {
            key: String,
            value: Secret,
        }
        let mut headers = Vec::new();
        while let Some(Header { key, value }) = list.next_element()? {
            headers.push((key, value));
        }
        Ok(Headers(headers))
    }
}

/// A boolean, or its name as a text: the predecessor took `local: "true"` only as a text and
/// exported it as a boolean.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    struct Flag;

    impl Visitor<'_> for Flag {
        type Value = bool;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("true or false")
        }

        fn visit_unit<E: Error>(self) -> Result<bool, E> {
            Ok(false)
        }

        fn visit_bool<E: Error>(self, flag: bool) -> Result<bool, E> {
            Ok(flag)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
            match text {
                "true" => Ok(true),
                "false" => Ok(false),
                _ => Err(E::custom("must be true or false")),
            }
        }
    }

    deserializer.deserialize_any(Flag)
}

/// An absolute `http` or `https` URL.
pub(crate) fn http_url(field: &'static str, text: &str) -> Result<Url, Problem> {
    let example = "it looks like `https://host/path`";
    let url = Url::parse(text).map_err(|error| {
        Problem::new(field, format!("is not an absolute URL: {error}")).help(example)
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        let message = format!("has the scheme `{}`, not http or https", url.scheme());
        return Err(Problem::new(field, message).help(example));
    }
    Ok(url)
}

fn check_header(field: &'static str, name: &str, value: &Secret) -> Result<(), Problem> {
    if !is_header_name(name) {
        return Err(Problem::new(field, format!("holds a header with the bad name {name:?}")));
    }
    if !is_header_value(value) {
        let message = format!("holds a header `{name}` whose value has control characters");
        return Err(Problem::new(field, message));
    }
    if is_of_the_connection(name) {
        let message = format!("holds `{name}`, which belongs to the connection");
        return Err(Problem::new(field, message).help("remove it: the HTTP client sets it"));
    }
    // Sent as it stands, the header would be a lie about the body.
    if name.eq_ignore_ascii_case("content-encoding") && !is_coding(value.reveal()) {
        let message = format!("holds `{name}` with a coding that is not supported");
        return Err(Problem::new(field, message).help("write `gzip`, or remove it"));
    }
    Ok(())
}

/// Whether HTTP can carry a header of this name.
#[must_use]
pub fn is_header_name(name: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(token)
}

/// Whether the header describes the connection, so that only the client may set it.
#[must_use]
pub fn is_of_the_connection(name: &str) -> bool {
    OF_THE_CONNECTION.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether bodies can be sent in this `Content-Encoding`: `gzip`, or `identity`, as they are.
#[must_use]
pub fn is_coding(value: &str) -> bool {
    let value = value.trim();
    value.eq_ignore_ascii_case("gzip") || value.eq_ignore_ascii_case("identity")
}

/// Whether the text can be the value of a header.
#[must_use]
pub fn is_header_value(value: &Secret) -> bool {
    value.reveal().bytes().all(|byte| byte == b'\t' || (byte >= 0x20 && byte != 0x7f))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> Options {
        Options {
            name: "orders".to_owned(),
            url: Some(Secret::new(url)),
            local: false,
            path: None,
            webhook_site: false,
            headers: Headers::default(),
            encrypted_headers: Headers::default(),
            signing_secret: Secrets::default(),
        }
    }

    fn header(name: &str, value: &str) -> Headers {
        Headers(vec![(name.to_owned(), Secret::new(value))])
    }

    #[test]
    fn b128_an_encrypted_header_wins_over_a_plain_one() {
        let ready = Options {
            headers: header("authorization", "plain"),
            encrypted_headers: header("Authorization", "hidden"),
            ..options("https://orders.test/hook")
        }
        .validate()
        .unwrap();
        assert_eq!(ready.headers, [("Authorization".to_owned(), Secret::new("hidden"))]);
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let problems = Options {
            headers: header("bad name", "x"),
            encrypted_headers: header("X-Token", "a\nb"),
            ..options("ftp://orders.test")
        }
        .validate()
        .unwrap_err();
        let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "`url` has the scheme `ftp`, not http or https",
                "`headers` holds a header with the bad name \"bad name\"",
                "`encrypted_headers` holds a header `X-Token` whose value has control characters",
            ]
        );
    }

    #[test]
    fn b127_bodies_can_be_gzip_and_nothing_else() {
        for (coding, good) in [("gzip", true), ("GZIP ", true), ("identity", true), ("br", false)] {
            let headers = header("Content-Encoding", coding);
            let checked = Options { headers, ..options("https://a.test") }.validate();
            assert_eq!(checked.is_ok(), good, "{coding}");
        }
        for name in ["Content-Length", "transfer-encoding", "Connection", "Upgrade"] {
            let headers = header(name, "1");
            let problems = Options { headers, ..options("https://a.test") }.validate().unwrap_err();
            assert!(problems[0].message.contains("belongs to the connection"), "{problems:?}");
        }
        let headers = header("Host", "inner.test");
        assert!(Options { headers, ..options("https://a.test") }.validate().is_ok());
    }

    #[test]
    fn what_is_not_supported_says_what_to_do() {
        let cases = [
            (Options { webhook_site: true, ..options("https://a.test") }, "webhook.site"),
            (Options { local: true, ..options("https://a.test") }, "local"),
            (Options { path: Some("/x".to_owned()), ..options("https://a.test") }, "path"),
            (options("https://user:hunter2@a.test"), "url"),
            (options("a.test"), "url"),
        ];
        for (options, field) in cases {
            let problems = options.validate().unwrap_err();
            let [problem] = problems.as_slice() else { panic!("{problems:?}") };
            assert_eq!(problem.field, field);
            assert!(problem.help.is_some(), "{problem:?}");
            assert!(!format!("{problem:?}").contains("hunter2"));
        }
    }
}
