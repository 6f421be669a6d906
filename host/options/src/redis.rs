//! Where a Redis is, or what speaks as it does, and how it is spoken to: apart from what is written there.

use std::path::PathBuf;
use std::time::Duration;

use crate::{Problem, Problems, Secret};

/// The predecessor's bound of a key.
const KEY_BYTES_MAX: usize = 255;
/// Databases of one server: what it can be told.
const DATABASE_MAX: i64 = 1_000_000;
const TIMEOUT_MS_MAX: i64 = 600_000;

/// The port where none is written.
pub(crate) const PORT: i64 = 6_379;

/// The predecessor's.
pub(crate) const TIMEOUT_MS: i64 = 15_000;

/// What a user writes of it.
pub(crate) struct Written<'a> {
    pub(crate) host: Option<&'a str>,
    pub(crate) port: i64,
    pub(crate) hosts: &'a [String],
    pub(crate) cluster: bool,
    pub(crate) sentinel_master: Option<&'a str>,
    pub(crate) database: i64,
    pub(crate) tls: bool,
    pub(crate) tls_ca_file: Option<&'a str>,
    pub(crate) tls_cert_file: Option<&'a str>,
    pub(crate) tls_key_file: Option<&'a str>,
    pub(crate) username: Option<&'a str>,
    pub(crate) password: Option<&'a Secret>,
    pub(crate) timeout_ms: i64,
}

/// A server that can be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// At least one: of a cluster some of its nodes, of sentinels all that are to be asked.
    pub hosts: Vec<(String, u16)>,
    pub mode: Mode,
    pub database: i64,
    /// None: it is not encrypted.
    pub tls: Option<Tls>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// For one request, and for a connection.
    pub timeout: Duration,
}

/// Who answers at the hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    Single,
    Cluster,
    /// Sentinels, who know where the master of this name is.
    Sentinel(String),
}

/// Certificates, which are always checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Who signs the server's; None: those whom the system trusts.
    pub ca: Option<PathBuf>,
    /// Ours, with its key.
    pub own: Option<(PathBuf, PathBuf)>,
}

impl Written<'_> {
    /// What is wrong is kept; the server, if enough is right.
    pub(crate) fn ready(&self, problems: &mut Problems) -> Option<Server> {
        let hosts = self.hosts(problems);
        let mode = match (self.cluster, self.sentinel_master) {
            (true, Some(_)) => {
                let message = "and `cluster` cannot be given together";
                problems.push(Problem::new("sentinel_master", message));
                Mode::Cluster
            }
            (true, None) => Mode::Cluster,
            (false, Some("")) => {
                problems.push(Problem::new("sentinel_master", "is empty"));
                Mode::Single
            }
            (false, Some(master)) => Mode::Sentinel(master.to_owned()),
            (false, None) => Mode::Single,
        };
        if mode == Mode::Single && !self.hosts.is_empty() {
            let problem = Problem::new("hosts", "are for a cluster or for sentinels");
            let help = "say `cluster: true` or `sentinel_master: …`, or give one `host`";
            problems.push(problem.help(help));
        }
        if !(0..=DATABASE_MAX).contains(&self.database) {
            let message = format!("must be between 0 and {DATABASE_MAX}");
            problems.push(Problem::new("database", message));
        }
        if mode == Mode::Cluster && self.database != 0 {
            problems.push(Problem::new("database", "must be 0: a cluster has no other"));
        }
        if self.username.is_some() && self.password.is_none() {
            problems.push(Problem::new("username", "is nothing without a `password`"));
        }
        let timeout = match self.timeout_ms {
            ms @ 1..=TIMEOUT_MS_MAX => Duration::from_millis(ms.unsigned_abs()),
            _ => {
                let message = format!("must be between 1 and {TIMEOUT_MS_MAX}");
                problems.push(Problem::new("timeout_ms", message));
                Duration::ZERO
            }
        };
        Some(Server {
            hosts: hosts?,
            mode,
            database: self.database,
            tls: self.tls(problems),
            username: self.username.filter(|name| !name.is_empty()).map(str::to_owned),
            password: self.password.filter(|it| !it.reveal().is_empty()).cloned(),
            timeout,
        })
    }

    fn hosts(&self, problems: &mut Problems) -> Option<Vec<(String, u16)>> {
        let port = u16::try_from(self.port).ok().filter(|port| *port > 0);
        let port =
            problems.keep(port.ok_or_else(|| Problem::new("port", "must be between 1 and 65535")));
        match (self.host, self.hosts) {
            (Some(_), [_, ..]) => {
                problems.push(Problem::new("hosts", "and `host` cannot be given together"));
                None
            }
            (None | Some(""), []) => {
                problems.push(Problem::new("host", "is missing"));
                None
            }
            (Some(host), []) if host.contains(['/', '@', ' ']) => {
                let problem = Problem::new("host", "is no name or address of a machine");
                problems.push(problem.help("port, user and password have fields of their own"));
                None
            }
            (Some(host), []) => Some(vec![(host.to_owned(), port?)]),
            (None, hosts) => {
                let of = |text: &String| {
                    let (host, after) = text.rsplit_once(':').unwrap_or((text, ""));
                    let at = if after.is_empty() { port } else { after.parse().ok() };
                    let host = host.trim_start_matches('[').trim_end_matches(']');
                    at.filter(|_| !host.is_empty()).map(|at| (host.to_owned(), at))
                };
                let all: Option<Vec<_>> = hosts.iter().map(of).collect();
                let wrong = || Problem::new("hosts", "are `HOST:PORT` each");
                problems.keep(all.ok_or_else(wrong))
            }
        }
    }

    fn tls(&self, problems: &mut Problems) -> Option<Tls> {
        let files = [
            ("tls_ca_file", self.tls_ca_file),
            ("tls_cert_file", self.tls_cert_file),
            ("tls_key_file", self.tls_key_file),
        ];
        if let (false, Some((field, _))) = (self.tls, files.iter().find(|it| it.1.is_some())) {
            problems.push(Problem::new(field, "is for `tls: true`"));
        }
        let own = match (self.tls_cert_file, self.tls_key_file) {
            (Some(cert), Some(key)) => Some((cert.into(), key.into())),
            (Some(_), None) => {
                problems.push(Problem::new("tls_cert_file", "needs its `tls_key_file`"));
                None
            }
            (None, Some(_)) => {
                problems.push(Problem::new("tls_key_file", "needs its `tls_cert_file`"));
                None
            }
            (None, None) => None,
        };
        self.tls.then(|| Tls { ca: self.tls_ca_file.map(Into::into), own })
    }
}

/// Whether a stream or a string can have this name: the predecessor's rules.
///
/// # Errors
/// Why not, to follow the field in a sentence.
pub fn check_key(key: &str) -> Result<(), &'static str> {
    if key.is_empty() {
        return Err("is empty");
    }
    if key.len() > KEY_BYTES_MAX {
        return Err("is longer than 255 bytes");
    }
    if key.chars().any(char::is_whitespace) {
        return Err("holds white space");
    }
    Ok(())
}
