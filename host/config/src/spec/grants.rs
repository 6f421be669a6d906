//! What functions are granted: nothing that is not written.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use options::Secret;

use crate::Surroundings;
use crate::diagnostic::{Place, Report};
use crate::document::grants as written;
use crate::document::{Document, Function, Resource};

/// Unless it is said otherwise.
const TIMEOUT: Duration = Duration::from_secs(2);
/// A batch waits no longer for all of its calls.
const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 10..=5_000;

/// What a function may use beside its rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    pub clock: bool,
    pub random: bool,
    /// A small store of its own.
    pub kv: bool,
    /// By the name that the component knows them by.
    pub secrets: BTreeMap<String, Secret>,
    pub http: Option<HttpGrant>,
    pub lookup: Option<LookupGrant>,
}

/// Requests over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpGrant {
    /// At least one.
    pub hosts: Vec<AllowedHost>,
    /// Also to addresses that are not of the public internet.
    pub allow_private: bool,
    pub timeout: Duration,
}

/// Where requests may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHost {
    /// In lower case; after `*.` every name below it.
    pub host: String,
    /// None: the usual one of the scheme.
    pub port: Option<u16>,
}

/// Rows of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupGrant {
    pub database: String,
    /// As `schema.table`; at least one.
    pub tables: Vec<String>,
}

impl Grants {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl AllowedHost {
    /// Whether a host of a URL is this one. `port` is that of the URL, if it is not the usual one.
    #[must_use]
    pub fn allows(&self, host: &str, port: Option<u16>) -> bool {
        let host = host.to_ascii_lowercase();
        let is_below = |suffix: &str| {
            host.strip_suffix(suffix)
                .is_some_and(|before| before.len() > 1 && before.ends_with('.'))
        };
        let named = match self.host.strip_prefix("*.") {
            Some(suffix) => is_below(suffix),
            None => host == self.host,
        };
        named && self.port == port
    }

    fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, Some(port.parse().ok().filter(|port| *port != 0)?))
            }
            _ => (text, None),
        };
        let name = host.strip_prefix("*.").unwrap_or(host);
        let is_six = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let is_six = is_six.is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok());
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let good = !name.is_empty() && (is_six || name.bytes().all(allowed));
        good.then(|| Self { host: host.to_ascii_lowercase(), port })
    }
}

impl fmt::Display for AllowedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// As people read it: the names, and no secret.
impl fmt::Display for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = [(self.clock, "clock"), (self.random, "random"), (self.kv, "kv")];
        let mut parts: Vec<String> =
            flags.iter().filter(|(is, _)| *is).map(|(_, name)| (*name).to_owned()).collect();
        if !self.secrets.is_empty() {
            let names: Vec<&str> = self.secrets.keys().map(String::as_str).collect();
            parts.push(format!("secrets ({})", names.join(", ")));
        }
        if let Some(http) = &self.http {
            let hosts: Vec<String> = http.hosts.iter().map(ToString::to_string).collect();
            let private = if http.allow_private { ", also private addresses" } else { "" };
            parts.push(format!("http ({}{private})", hosts.join(", ")));
        }
        if let Some(lookup) = &self.lookup {
            parts.push(format!("lookup ({} of {})", lookup.tables.join(", "), lookup.database));
        }
        f.write_str(&if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") })
    }
}

/// What is written, with its secrets read.
pub(super) fn resolve(
    function: &Resource<Function>,
    given: Option<&written::Grants>,
    document: &Document,
    around: &Surroundings<'_>,
    report: &mut Report<'_>,
) -> Option<Grants> {
    let Some(given) = given else { return Some(Grants::default()) };
    let place = function.place(&["grants"]);
    let before = report.errors();
    let mut secrets = BTreeMap::new();
    for secret in given.secrets.iter().flatten() {
        let place = function.place(&["grants", "secrets"]);
        let Some(value) = secret_of(secret, place, around, report) else { continue };
        if secrets.insert(secret.name.clone(), value).is_some() {
            report.error(place, format_args!("the secret `{}` is granted twice", secret.name));
        }
    }
    let http = given.http.as_ref().and_then(|http| http_of(function, http, report));
    let lookup =
        given.lookup.as_ref().and_then(|lookup| lookup_of(place, lookup, document, report));
    let grants = Grants {
        clock: given.clock.unwrap_or_default(),
        random: given.random.unwrap_or_default(),
        kv: given.kv.unwrap_or_default(),
        secrets,
        http,
        lookup,
    };
    (report.errors() == before).then_some(grants)
}

/// By reference: a file that is shown and kept by many is no place for a secret.
fn secret_of(
    given: &written::NamedSecret,
    place: Place,
    around: &Surroundings<'_>,
    report: &mut Report<'_>,
) -> Option<Secret> {
    let name = &given.name;
    if name.is_empty() {
        report.error(place, "a secret has no name");
        return None;
    }
    if let Some(variable) = given.from.strip_prefix("env:") {
        let value = (around.env)(variable);
        if value.is_none() {
            let message = format!("the variable `{variable}` of the secret `{name}` is not set");
            report.error(place, message);
        }
        return value.map(Secret::new);
    }
    let Some(file) = given.from.strip_prefix("file:") else {
        let message = format!("the secret `{name}` is not given by reference");
        report.error_with_help(place, message, "write `from: env:NAME` or `from: file:PATH`");
        return None;
    };
    let path = around.base_dir.join(file);
    match (around.read_file)(&path) {
        Ok(text) => Some(Secret::new(text.trim_end_matches(['\r', '\n']))),
        Err(error) => {
            let path = path.display();
            let message = format!("{path} of the secret `{name}` cannot be read: {error}");
            report.error(place, message);
            None
        }
    }
}

fn http_of(
    function: &Resource<Function>,
    given: &written::Http,
    report: &mut Report<'_>,
) -> Option<HttpGrant> {
    let place = function.place(&["grants", "http", "hosts"]);
    let mut hosts = Vec::new();
    for text in &given.hosts {
        match AllowedHost::parse(text) {
            Some(host) => hosts.push(host),
            None => report.error_with_help(
                place,
                format_args!("`{text}` is no host"),
                "`api.example.com`, `api.example.com:8443` or `*.example.com`: without scheme or path",
            ),
        }
    }
    if given.hosts.is_empty() {
        report.error_with_help(place, "`hosts` is empty", "name the hosts that it may ask");
    }
    let millis = given.timeout_ms.unwrap_or(u64::try_from(TIMEOUT.as_millis()).unwrap_or(0));
    if !TIMEOUT_MS.contains(&millis) {
        let place = function.place(&["grants", "http", "timeout_ms"]);
        report.error(place, format_args!("`timeout_ms` must be 10 to 5000, not {millis}"));
    }
    let allow_private = given.allow_private.unwrap_or_default();
    Some(HttpGrant { hosts, allow_private, timeout: Duration::from_millis(millis) })
}

fn lookup_of(
    place: Place,
    given: &written::Lookup,
    document: &Document,
    report: &mut Report<'_>,
) -> Option<LookupGrant> {
    let databases = &document.databases;
    let database = match (&given.database, &databases.names[..]) {
        (Some(name), _) if databases.may_know(name) => name.clone(),
        (Some(name), _) => {
            report.error(place, format_args!("there is no database `{name}` to look up rows in"));
            return None;
        }
        (None, [only]) => only.clone(),
        (None, _) => {
            let help = "`lookup: {database: …, tables: […]}`";
            report.error_with_help(place, "`lookup` does not say in which database", help);
            return None;
        }
    };
    if given.tables.is_empty() {
        report.error_with_help(place, "`tables` is empty", "name the tables that it may read");
    }
    for table in given.tables.iter().filter(|table| !table.contains('.')) {
        let help = format!("write `public.{table}`");
        report.error_with_help(place, format_args!("`{table}` has no schema"), help);
    }
    Some(LookupGrant { database, tables: given.tables.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b269_a_host_is_allowed_by_its_name_and_port() {
        let allows = |allowed: &str, host: &str, port| {
            AllowedHost::parse(allowed).is_some_and(|it| it.allows(host, port))
        };
        assert!(allows("api.test", "API.test", None));
        assert!(!allows("api.test", "api.test", Some(8080)));
        assert!(allows("api.test:8080", "api.test", Some(8080)));
        assert!(!allows("api.test:8080", "api.test", None));
        assert!(allows("*.api.test", "a.api.test", None));
        for other in ["api.test", "xapi.test", ".api.test", "api.test.evil"] {
            assert!(!allows("*.api.test", other, None), "{other}");
        }
        assert!(allows("[::1]:80", "[::1]", Some(80)));
        for no in ["", "*", "*.", "https://a", "a/b", "a:b", "a:0", "a b", "::1"] {
            assert_eq!(AllowedHost::parse(no), None, "{no}");
        }
    }
}
