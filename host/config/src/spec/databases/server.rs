//! How a server is reached: the database itself, and the primary of one that is a read replica.

use std::path::Path;

use options::Secret;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::super::Server;
use super::tls;
use crate::diagnostic::{Place, Report};
use crate::document::{self, Resource};

/// The predecessor's defaults.
const PORT: i64 = 5432;
const USERNAME: &str = "postgres";
const PASSWORD: &str = "postgres";

/// The part of a database that says how a server is reached.
pub(super) struct Part<'a> {
    pub(super) of: &'a Resource<document::Database>,
    /// Where it stands; None: in the database itself.
    pub(super) key: Option<&'static str>,
    pub(super) fields: &'a document::Server,
}

impl Part<'_> {
    pub(super) fn place(&self, path: &[&str]) -> Place {
        let path: Vec<&str> = self.key.iter().copied().chain(path.iter().copied()).collect();
        self.of.place(&path)
    }

    fn speaks_of_tls(&self) -> bool {
        let document::Server { ssl, sslmode, sslrootcert, sslcert, sslkey, .. } = self.fields;
        let words = [sslmode, sslrootcert, sslcert, sslkey, &self.fields.channel_binding];
        ssl.is_some() || words.iter().any(|word| word.is_some())
    }
}

/// The primary of a read replica: Some of None if there is none. What it leaves out is as at the
/// replica, but its port, which is the predecessor's default.
pub(super) fn primary(
    of: &Resource<document::Database>,
    replica: Option<&Server>,
    base_dir: &Path,
    report: &mut Report<'_>,
) -> Option<Option<Server>> {
    let Some(fields) = &of.value.fields.primary else { return Some(None) };
    let part = Part { of, key: Some("primary"), fields };
    if fields.ipv6.is_some() {
        let message = "`ipv6` is ignored: both versions are tried";
        let help = "remove it when nothing else reads this file";
        report.warning(part.place(&["ipv6"]), message, help);
    }
    let replica = replica?;
    let primary = server(&part, Some(replica), base_dir, report)?;
    if (&primary.hostname, primary.port) == (&replica.hostname, replica.port) {
        let help = "remove it, or name the server that the replica follows";
        report.error_with_help(part.place(&[]), "`primary` is the database itself", help);
        return None;
    }
    Some(Some(primary))
}

pub(super) fn server(
    from: &Part<'_>,
    replica: Option<&Server>,
    base_dir: &Path,
    report: &mut Report<'_>,
) -> Option<Server> {
    let fields = from.fields;
    let mut parameters = Vec::new();
    let mut further = Vec::new();
    let (hostname, port, database, username, password) = match &fields.url {
        Some(url) => {
            let given = [
                ("hostname", fields.hostname.is_some()),
                ("port", fields.port.is_some()),
                ("database", fields.database.is_some()),
                ("username", fields.username.is_some()),
                ("password", fields.password.is_some()),
            ];
            for (key, _) in given.into_iter().filter(|(_, given)| *given) {
                let message = format!("`{key}` and `url` cannot be given together");
                report.error_with_help(from.place(&[key]), message, "it is part of the `url`");
            }
            match parse_url(url) {
                Ok((parts, given, more)) => {
                    (parameters, further) = (given, more);
                    parts
                }
                Err(message) => {
                    let help = "it looks like `postgresql://user:password@host:5432/database`";
                    report.error_with_help(from.place(&["url"]), message, help);
                    return None;
                }
            }
        }
        None => {
            let hostname = required(from, "hostname", fields.hostname.as_ref(), report);
            let database = match (&fields.database, replica) {
                (None, Some(replica)) => Some(replica.database.clone()),
                (given, _) => required(from, "database", given.as_ref(), report),
            };
            let port = fields.port.unwrap_or(PORT);
            (hostname?, port, database?, fields.username.clone(), fields.password.clone())
        }
    };
    let hostname_key = if fields.url.is_some() { "url" } else { "hostname" };
    let mut names = hostname.split(',').map(str::trim);
    let first = names.next().unwrap_or_default().to_owned();
    let more = names.map(|name| (name.to_owned(), port));
    let more_hosts: Vec<(String, i64)> = more.chain(further).collect();
    let hostname = first;
    for name in std::iter::once(&hostname).chain(more_hosts.iter().map(|(name, _)| name)) {
        if name.is_empty() {
            report.error(from.place(&[hostname_key]), "a host has no name");
        }
        if let Some((message, help)) = pooled(name) {
            report.error_with_help(from.place(&[hostname_key]), message, help);
        }
    }
    let port = u16::try_from(port).ok().filter(|port| *port > 0);
    if port.is_none() {
        report.error(from.place(&["port"]), "`port` must be between 1 and 65535");
    }
    let checked = more_hosts
        .into_iter()
        .map(|(name, port)| Some((name, u16::try_from(port).ok().filter(|port| *port > 0)?)));
    let more_hosts = checked.collect::<Option<Vec<_>>>();
    let says_nothing = parameters.is_empty() && !from.speaks_of_tls();
    let tls = match replica.filter(|_| says_nothing) {
        Some(replica) => Some(replica.tls.clone()),
        None => tls::resolve(from, &parameters, base_dir, report),
    };
    let default_username =
        || replica.map_or_else(|| USERNAME.to_owned(), |replica| replica.username.clone());
    let default_password =
        || replica.map_or_else(|| Secret::new(PASSWORD), |replica| replica.password.clone());
    Some(Server {
        hostname,
        port: port?,
        more_hosts: more_hosts?,
        database,
        username: username.unwrap_or_else(default_username),
        password: password.unwrap_or_else(default_password),
        tls: tls?,
    })
}

/// Why a host cannot serve, and what can: poolers do not pass replication on.
fn pooled(host: &str) -> Option<(&'static str, String)> {
    if host.contains("pooler.supabase") {
        let help = "use the address of the direct connection".to_owned();
        return Some(("the pooler of Supabase cannot replicate", help));
    }
    // Neon: `ep-name-123-pooler.region.aws.neon.tech`, whose direct host is without the `-pooler`.
    let (endpoint, rest) = host.split_once('.')?;
    let direct = endpoint.strip_suffix("-pooler").filter(|_| rest.ends_with("neon.tech"))?;
    let help = format!("use the direct host, {direct}.{rest}");
    Some(("the pooler of Neon cannot replicate", help))
}

type Parts = (String, i64, String, Option<String>, Option<Secret>);

/// Hosts and ports.
type Hosts = Vec<(String, i64)>;

/// Names and values.
type Parameters = Vec<(String, String)>;

/// A URL with its first host alone, and the others: several stand as libpq takes them, with commas
/// between.
fn split_hosts(url: &str) -> (String, Vec<&str>) {
    let begin = url.find("://").map_or(0, |at| at + 3);
    let (head, rest) = url.split_at(begin);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), authority),
    };
    let mut hosts = hosts.split(',');
    let first = hosts.next().unwrap_or_default();
    (format!("{head}{user}{first}{tail}"), hosts.collect())
}

/// The parts of a connection URL. Errors do not repeat it: it holds a password.
fn parse_url(url: &Secret) -> Result<(Parts, Parameters, Hosts), String> {
    let (url, further) = split_hosts(url.reveal());
    let mut more = Vec::new();
    for host in further {
        let alone = Url::parse(&format!("postgresql://{host}/"));
        let alone = alone.map_err(|error| format!("`url` has a host that is none: {error}"))?;
        let name = match alone.host() {
            Some(Host::Domain(name)) if !name.is_empty() => name.to_owned(),
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Ipv6(ip)) => ip.to_string(),
            _ => return Err("`url` has a host without a name".to_owned()),
        };
        more.push((name, alone.port().map_or(PORT, i64::from)));
    }
    let url = Url::parse(&url).map_err(|error| format!("`url` is no URL: {error}"))?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err("`url` must begin with `postgresql://`".to_owned());
    }
    if url.fragment().is_some() {
        return Err("`url` holds a `#`: inside of a part it is written as %23".to_owned());
    }
    let decode = |text: &str| {
        let text = percent_decode_str(text).decode_utf8();
        text.map(String::from).map_err(|_| "`url` holds bytes that are no text".to_owned())
    };
    let hostname = match url.host() {
        Some(Host::Domain(name)) if !name.is_empty() => decode(name)?,
        Some(Host::Ipv4(ip)) => ip.to_string(),
        Some(Host::Ipv6(ip)) => ip.to_string(),
        _ => return Err("`url` names no host".to_owned()),
    };
    let database = decode(url.path().trim_start_matches('/'))?;
    if database.is_empty() {
        return Err("`url` names no database".to_owned());
    }
    let username = decode(url.username())?;
    let username = (!username.is_empty()).then_some(username);
    let password = url.password().map(decode).transpose()?.map(Secret::new);
    let parameters = url.query().unwrap_or_default().split('&').filter(|text| !text.is_empty());
    let parameters = parameters.map(|parameter| {
        let (name, value) = parameter.split_once('=').ok_or("`url` has a parameter without `=`")?;
        Ok((decode(name)?, decode(value)?))
    });
    let parameters = parameters.collect::<Result<_, String>>()?;
    let port = url.port().map_or(PORT, i64::from);
    Ok(((hostname, port, database, username, password), parameters, more))
}

fn required(
    from: &Part<'_>,
    key: &str,
    value: Option<&String>,
    report: &mut Report<'_>,
) -> Option<String> {
    let value = value.filter(|value| !value.is_empty());
    if value.is_none() {
        let help = "give it, or a `url` in its place";
        report.error_with_help(from.place(&[key]), format_args!("`{key}` is missing"), help);
    }
    value.cloned()
}
