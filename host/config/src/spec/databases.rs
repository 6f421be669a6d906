//! Databases: how to connect, and what to replicate from.

mod tls;

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use options::Secret;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::{CreatePublication, Database, OnMismatch, Origin, Publication, Slot, Tls, id};
use crate::diagnostic::Report;
use crate::document::{self, Resource, Resources};

/// Postgres cuts off longer names.
const NAME_BYTES_MAX: usize = 63;
/// On by default: it proves that the stream is alive, and lets a quiet slot move on. A tenth of what
/// is taken for silence; written only after so long without changes.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// A second to a day.
const HEARTBEAT_MS: RangeInclusive<u64> = 1_000..=86_400_000;
/// The predecessor's defaults.
const PORT: i64 = 5432;
const USERNAME: &str = "postgres";
const PASSWORD: &str = "postgres";

pub(super) fn resolve(
    databases: &Resources<document::Database>,
    base_dir: &Path,
    report: &mut Report<'_>,
) -> Vec<Database> {
    let mut resolved = Vec::new();
    for database in &databases.list {
        report.enter(format!("database `{}`", database.name));
        let server = server(database, base_dir, report);
        let slot = slot(database, report);
        let publication = publication(database, report);
        let heartbeat = heartbeat(database, report);
        if let (Some(server), Some(slot), Some(publication)) = (server, slot, publication) {
            resolved.push(Database {
                name: database.name.clone(),
                id: id("database", &database.name),
                hostname: server.hostname,
                port: server.port,
                more_hosts: server.more_hosts,
                database: server.database,
                username: server.username,
                password: server.password,
                tls: server.tls,
                slot,
                publication,
                heartbeat,
                annotations: database.value.annotations.clone(),
            });
        }
    }
    report.leave();
    resolved
}

struct Server {
    hostname: String,
    port: u16,
    more_hosts: Vec<(String, u16)>,
    database: String,
    username: String,
    password: Secret,
    tls: Tls,
}

fn server(
    from: &Resource<document::Database>,
    base_dir: &Path,
    report: &mut Report<'_>,
) -> Option<Server> {
    let fields = &from.value.fields;
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
            let database = required(from, "database", fields.database.as_ref(), report);
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
    let tls = tls::resolve(from, &parameters, base_dir, report);
    Some(Server {
        hostname,
        port: port?,
        more_hosts: more_hosts?,
        database,
        username: username.unwrap_or_else(|| USERNAME.to_owned()),
        password: password.unwrap_or_else(|| Secret::new(PASSWORD)),
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

fn slot(from: &Resource<document::Database>, report: &mut Report<'_>) -> Option<Slot> {
    let fields = &from.value.fields;
    let (path, name, given): (&[&str], _, _) = match (&fields.slot, &fields.slot_name) {
        (Some(_), Some(_)) => {
            twice(from, "slot", "slot_name", report);
            return None;
        }
        (Some(slot), None) => (&["slot", "name"], &slot.name, Some(slot)),
        (None, Some(name)) => (&["slot_name"], name, None),
        (None, None) => {
            let help = "add `slot: {name: my_slot, create_if_not_exists: true}`";
            report.error_with_help(from.place(&[]), "`slot` is missing", help);
            return None;
        }
    };
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(allowed) {
        let message = format!("{name:?} cannot be the name of a slot");
        let help = "Postgres takes 1 to 63 lower case letters, digits and `_`";
        report.error_with_help(from.place(path), message, help);
        return None;
    }
    let origin = match given.and_then(|slot| slot.origin.as_deref()) {
        None | Some("any") => Origin::Any,
        Some("none") => Origin::None,
        Some(_) => {
            let help = "it is `any`, or `none` for changes made on this server alone";
            let message = "`origin` is none that is known";
            report.error_with_help(from.place(&["slot", "origin"]), message, help);
            return None;
        }
    };
    let (create, failover) =
        given.map_or((false, false), |slot| (slot.create_if_not_exists, slot.failover));
    let on_mismatch = match given.and_then(|slot| slot.on_mismatch.as_deref()) {
        None | Some("fail") => OnMismatch::Fail,
        Some("continue_from_slot") => OnMismatch::ContinueFromSlot,
        Some(_) => {
            let help = "it is `fail`, or `continue_from_slot` to lose what lies between";
            let message = "`on_mismatch` is none that is known";
            report.error_with_help(from.place(&["slot", "on_mismatch"]), message, help);
            return None;
        }
    };
    Some(Slot { name: name.clone(), create, failover, origin, on_mismatch })
}

fn heartbeat(from: &Resource<document::Database>, report: &mut Report<'_>) -> Option<Duration> {
    let given = match from.value.fields.heartbeat_interval_ms {
        None => return Some(HEARTBEAT),
        Some(0) => return None,
        Some(given) => given,
    };
    let milliseconds = u64::try_from(given).ok().filter(|ms| HEARTBEAT_MS.contains(ms));
    if milliseconds.is_none() {
        let (from_ms, to_ms) = (HEARTBEAT_MS.start(), HEARTBEAT_MS.end());
        let message =
            format!("`heartbeat_interval_ms` must be between {from_ms} and {to_ms}, or 0");
        report.error(from.place(&["heartbeat_interval_ms"]), message);
    }
    milliseconds.map(Duration::from_millis)
}

fn publication(
    from: &Resource<document::Database>,
    report: &mut Report<'_>,
) -> Option<Publication> {
    let fields = &from.value.fields;
    let (path, name, create): (&[&str], _, _) =
        match (&fields.publication, &fields.publication_name) {
            (Some(_), Some(_)) => {
                twice(from, "publication", "publication_name", report);
                return None;
            }
            (Some(given), None) => {
                (&["publication", "name"], &given.name, create(from, given, report))
            }
            (None, Some(name)) => (&["publication_name"], name, None),
            (None, None) => {
                let help = "add `publication: {name: my_publication, create_if_not_exists: true}`";
                report.error_with_help(from.place(&[]), "`publication` is missing", help);
                return None;
            }
        };
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
        let message = format!("a publication's name has 1 to {NAME_BYTES_MAX} bytes");
        report.error(from.place(path), message);
        return None;
    }
    Some(Publication { name: name.clone(), create })
}

fn create(
    from: &Resource<document::Database>,
    given: &document::Publication,
    report: &mut Report<'_>,
) -> Option<CreatePublication> {
    let place = from.place(&["publication", "init_sql"]);
    let root = "publish_via_partition_root";
    if given.publish_via_partition_root.is_some() {
        let place = from.place(&["publication", root]);
        if given.init_sql.is_some() {
            let message = format!("`{root}` and `init_sql` cannot be given together");
            let help = format!("say it in the statement: `with ({root} = ...)`");
            report.error_with_help(place, message, help);
        } else if !given.create_if_not_exists {
            let help = "add `create_if_not_exists: true`";
            let message = format!("`{root}` is ignored: nothing is created");
            report.warning(place, message, help);
        }
    }
    match &given.init_sql {
        Some(_) if !given.create_if_not_exists => {
            let help = "add `create_if_not_exists: true`";
            report.warning(place, "`init_sql` is ignored: nothing is created", help);
            None
        }
        Some(sql) if creates(sql, &given.name) => Some(CreatePublication::Sql(sql.clone())),
        Some(_) => {
            let message = format!("`init_sql` must begin with `create publication {}`", given.name);
            report.error(place, message);
            None
        }
        None => {
            // The predecessor's default.
            let via_partition_root = given.publish_via_partition_root.unwrap_or(true);
            let all = CreatePublication::AllTables { via_partition_root };
            given.create_if_not_exists.then_some(all)
        }
    }
}

/// Whether the statement begins with `create publication`, the name (quoted or not) and a space.
fn creates(sql: &str, name: &str) -> bool {
    let mut words = sql.split_whitespace();
    let mut is = |word: &str| words.next().is_some_and(|other| other.eq_ignore_ascii_case(word));
    if !is("create") || !is("publication") {
        return false;
    }
    let named = words.next().unwrap_or_default();
    let unquoted = named.strip_prefix('"').and_then(|named| named.strip_suffix('"'));
    unquoted.unwrap_or(named).eq_ignore_ascii_case(name) && words.next().is_some()
}

fn twice(from: &Resource<document::Database>, block: &str, flat: &str, report: &mut Report<'_>) {
    let message = format!("`{block}` and `{flat}` cannot be given together");
    report.error_with_help(from.place(&[flat]), message, format!("keep `{block}`"));
}

fn required(
    from: &Resource<document::Database>,
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
