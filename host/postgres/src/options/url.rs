//! Connection URLs as libpq takes them:
//! `postgresql://user:password@host:port,host:port/database?name=value&…`, see
//! <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS>.
//!
//! Messages name parts and never repeat what stands in them: where a password is not encoded as it
//! should be, any part may hold some of it.

use std::path::PathBuf;
use std::time::Duration;

use super::tls::{ChannelBinding, ClientCertificate, Roots, SslMode, Tls};
use super::{Address, Options, PORT, Password};

const ENCODE: &str = "in user, password and database `/`, `@`, `:`, `?` and `%` are written as \
                      %2F, %40, %3A, %3F and %25";

/// What was given so far.
#[derive(Default)]
struct Given {
    user: Option<String>,
    password: Option<String>,
    database: Option<String>,
    hosts: Vec<String>,
    ports: Vec<Option<u16>>,
    mode: Option<SslMode>,
    roots: Option<Roots>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    channel_binding: ChannelBinding,
}

/// Options without slot and publication, or what is wrong with the URL.
pub(super) fn parse(url: &str) -> Result<Options, String> {
    let rest = url.strip_prefix("postgresql://").or_else(|| url.strip_prefix("postgres://"));
    let rest = rest.ok_or("it does not begin with `postgresql://`")?;
    let mut given = Given::default();
    let rest = match rest.find(['@', '/']).map(|at| rest.split_at(at)) {
        Some((userinfo, rest)) if rest.starts_with('@') => {
            let (user, password) = match userinfo.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (userinfo, None),
            };
            given.user = some(decode(user)?);
            given.password = password.map(decode).transpose()?.and_then(some);
            rest.strip_prefix('@').unwrap_or(rest)
        }
        _ => rest,
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.contains('@') || database.contains(['@', '/']) {
        return Err(format!("`@` or `/` stands where none belongs; {ENCODE}"));
    }
    given.database = some(decode(database)?);
    for host in authority.split(',').filter(|_| !authority.is_empty()) {
        let (host, port) = split_host(host)?;
        given.hosts.push(decode(host)?);
        given.ports.push(read_port(port)?);
    }
    let mut options = Options::new("", "", "", "", "");
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').ok_or("a parameter has no `=`")?;
        given.set(&decode(name)?, &decode(value)?, &mut options)?;
    }
    given.finish(options)
}

impl Given {
    fn set(&mut self, name: &str, value: &str, options: &mut Options) -> Result<(), String> {
        let text = || some(value.to_owned());
        let seconds = || {
            let number: u64 = value.parse().map_err(|_| format!("`{name}` is not a number"))?;
            Ok::<_, String>((number > 0).then(|| Duration::from_secs(number)))
        };
        match name {
            "user" => self.user = text(),
            "password" => self.password = text(),
            "dbname" => self.database = text(),
            "host" => self.hosts = value.split(',').map(str::to_owned).collect(),
            "port" => self.ports = value.split(',').map(read_port).collect::<Result<_, _>>()?,
            "sslmode" => self.mode = Some(value.parse()?),
            // As JDBC writes it; libpq takes it too.
            "ssl" if value == "true" => self.mode = Some(SslMode::Require),
            "sslrootcert" => self.roots = text().map(|text| Roots::from(text.as_str())),
            "sslcert" => self.certificate = text().map(PathBuf::from),
            "sslkey" => self.key = text().map(PathBuf::from),
            "channel_binding" => self.channel_binding = value.parse()?,
            "application_name" => value.clone_into(&mut options.application_name),
            // Zero is none for libpq. Here everything has a bound.
            "connect_timeout" => {
                options.connect_timeout = seconds()?.unwrap_or(options.connect_timeout);
            }
            "keepalives" => {
                if seconds()?.is_none() {
                    options.keepalive = None;
                }
            }
            "keepalives_idle" | "keepalives_interval" | "keepalives_count" => {
                let given = seconds()?;
                if let (Some(keepalive), Some(given)) = (&mut options.keepalive, given) {
                    match name {
                        "keepalives_idle" => keepalive.idle = given,
                        "keepalives_interval" => keepalive.interval = given,
                        _ => keepalive.probes = u32::try_from(given.as_secs()).unwrap_or(u32::MAX),
                    }
                }
            }
            "target_session_attrs" if value == "any" => {}
            "target_session_attrs" => {
                return Err("`target_session_attrs` is not supported: name the server that has \
                            the slot"
                    .to_owned());
            }
            _ => return Err(format!("the parameter `{name}` is not known")),
        }
        Ok(())
    }

    fn finish(self, mut options: Options) -> Result<Options, String> {
        let Self { hosts, ports, certificate, key, .. } = self;
        if ports.len() > 1 && ports.len() != hosts.len() {
            return Err("there are not as many ports as hosts".to_owned());
        }
        let all = ports.first().copied().flatten().filter(|_| ports.len() == 1).unwrap_or(PORT);
        let ports = ports.into_iter().map(|port| port.unwrap_or(PORT));
        let ports = ports.chain(std::iter::repeat(all));
        let mut addresses = hosts.into_iter().zip(ports);
        let first = addresses.next().filter(|(host, _)| !host.is_empty());
        (options.host, options.port) = first.ok_or("it names no host")?;
        options.more_hosts = addresses.map(|(host, port)| Address { host, port }).collect();
        if options.more_hosts.iter().any(|address| address.host.is_empty()) {
            return Err("one of its hosts is empty".to_owned());
        }
        options.user = self.user.ok_or("it names no user")?;
        options.database = self.database.unwrap_or_else(|| options.user.clone());
        options.password = self.password.map(Password::new);
        // As libpq: a weaker mode would be an error.
        let system = self.roots == Some(Roots::System);
        let default = if system { SslMode::VerifyFull } else { SslMode::Prefer };
        let client = match (certificate, key) {
            (Some(certificate), Some(key)) => Some(ClientCertificate { certificate, key }),
            (None, None) => None,
            _ => return Err("`sslcert` and `sslkey` go together".to_owned()),
        };
        options.tls = Tls {
            mode: self.mode.unwrap_or(default),
            roots: self.roots,
            client,
            channel_binding: self.channel_binding,
        };
        Ok(options)
    }
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// The host without brackets, and the port's digits.
fn split_host(text: &str) -> Result<(&str, &str), String> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(text) => text.split_once(']').ok_or("a `[` has no `]`")?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    match rest.strip_prefix(':') {
        Some(port) => Ok((host, port)),
        None if rest.is_empty() => Ok((host, "")),
        None => Err("something stands between `]` and the port".to_owned()),
    }
}

fn read_port(text: &str) -> Result<Option<u16>, String> {
    match text.parse() {
        _ if text.is_empty() => Ok(None),
        Ok(port) if port > 0 => Ok(Some(port)),
        _ => Err(format!("a port is no number from 1 to 65535; {ENCODE}")),
    }
}

fn decode(text: &str) -> Result<String, String> {
    let wrong = || format!("a `%` is not followed by two hexadecimal digits of UTF-8; {ENCODE}");
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).ok_or_else(wrong)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests;
