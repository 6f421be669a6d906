//! `destination: {type: redis_stream}`: messages are entries of a Redis stream.

use serde::Deserialize;

use crate::redis::{PORT, Server, TIMEOUT_MS, Written, check_key};
use crate::{Problem, Problems, Secret};

/// Entries of one script call: more only hold the server up for others.
pub const MESSAGES_MAX: usize = 1_000;

/// Of one server: more are nobody's.
const REPLICAS_MAX: i64 = 100;

/// A stream as a user writes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    pub host: Option<String>,
    #[serde(default = "port")]
    pub port: i64,
    /// Ours: nodes of a cluster, or sentinels, as `HOST:PORT`.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Ours.
    #[serde(default)]
    pub cluster: bool,
    /// Ours.
    pub sentinel_master: Option<String>,
    /// Left out, a router or the table gives it: `sequin.SCHEMA.TABLE`.
    pub stream_key: Option<String>,
    #[serde(default)]
    pub database: i64,
    /// The predecessor did not check certificates.
    #[serde(default)]
    pub tls: bool,
    /// Ours.
    pub tls_ca_file: Option<String>,
    /// Ours.
    pub tls_cert_file: Option<String>,
    /// Ours.
    pub tls_key_file: Option<String>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// Ours: about so many entries are kept, the newest (`MAXLEN ~`).
    pub max_length: Option<i64>,
    /// Ours: the predecessor always did what `fields` does.
    #[serde(default)]
    pub format: Format,
    /// Ours: the field of `format: json`.
    #[serde(default = "field_name")]
    pub field_name: String,
    /// Ours: the predecessor always did what `time` does.
    #[serde(default)]
    pub ids: Ids,
    /// Ours: what was appended counts once so many replicas have it.
    #[serde(default)]
    pub min_replicas: i64,
    /// Ours.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: i64,
}

/// What an entry holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A field for each of the message.
    #[default]
    Fields,
    /// One field: the message.
    Json,
}

/// What entries are known by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ids {
    /// Their change's place in the log of the source, so that a repeat is known.
    #[default]
    Position,
    /// The server's clock.
    Time,
}

/// A stream that can be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    pub server: Server,
    pub stream_key: Option<String>,
    /// 1 or more.
    pub max_length: Option<u64>,
    /// None: a field for each of the message.
    pub field: Option<String>,
    pub ids: Ids,
    /// 0: an entry counts once the server has it, which a failover may not know.
    pub min_replicas: u32,
}

fn port() -> i64 {
    PORT
}

fn timeout_ms() -> i64 {
    TIMEOUT_MS
}

fn field_name() -> String {
    "data".to_owned()
}

impl Options {
    /// # Errors
    /// Everything that is wrong with it.
    pub fn validate(&self) -> Result<Ready, Vec<Problem>> {
        let mut problems = Problems::default();
        let written = Written {
            host: self.host.as_deref(),
            port: self.port,
            hosts: &self.hosts,
            cluster: self.cluster,
            sentinel_master: self.sentinel_master.as_deref(),
            database: self.database,
            tls: self.tls,
            tls_ca_file: self.tls_ca_file.as_deref(),
            tls_cert_file: self.tls_cert_file.as_deref(),
            tls_key_file: self.tls_key_file.as_deref(),
            username: self.username.as_deref(),
            password: self.password.as_ref(),
            timeout_ms: self.timeout_ms,
        };
        let server = written.ready(&mut problems);
        if let Some(Err(why)) = self.stream_key.as_deref().map(check_key) {
            problems.push(Problem::new("stream_key", why));
        }
        let max_length = match self.max_length {
            Some(..1) => {
                problems.push(Problem::new("max_length", "must be 1 or more"));
                None
            }
            length => length.map(i64::unsigned_abs),
        };
        if self.field_name.is_empty() {
            problems.push(Problem::new("field_name", "is empty"));
        }
        if !(0..=REPLICAS_MAX).contains(&self.min_replicas) {
            let message = format!("must be between 0 and {REPLICAS_MAX}");
            problems.push(Problem::new("min_replicas", message));
        }
        if self.ids == Ids::Time && self.min_replicas > 0 {
            let problem = Problem::new("min_replicas", "needs `ids: position`");
            let help = "what replicas do not have yet is sent again, and would be there again";
            problems.push(problem.help(help));
        }
        if self.cluster && self.min_replicas > 0 {
            problems.push(Problem::new("min_replicas", "cannot be asked for of a cluster"));
        }
        problems.or(server.map(|server| Ready {
            server,
            stream_key: self.stream_key.clone(),
            max_length,
            field: (self.format == Format::Json).then(|| self.field_name.clone()),
            ids: self.ids,
            min_replicas: u32::try_from(self.min_replicas).unwrap_or_default(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Ready, Vec<String>> {
        let options: Options = serde_json::from_str(yaml).map_err(|it| vec![it.to_string()])?;
        options.validate().map_err(|all| all.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_predecessors_fields_are_enough() {
        let ready = read(
            r#"{"host": "redis", "port": 6380, "stream_key": "poi", "database": 2, "tls": true,
                "username": "u", "password": "p"}"#,
        );
        let ready = ready.unwrap();
        assert_eq!(ready.server.hosts, [("redis".to_owned(), 6_380)]);
        assert_eq!((ready.server.database, ready.ids), (2, Ids::Position));
        assert_eq!(ready.server.tls, Some(crate::redis::Tls::default()));
        assert_eq!(ready.field, None);
        assert!(!format!("{ready:?}").contains("\"p\""));
    }

    #[test]
    fn what_is_wrong_is_told_all_at_once() {
        for (options, wrong) in [
            (r#"{}"#, &["`host` is missing"][..]),
            (
                r#"{"host": "a", "port": 0, "stream_key": "a b"}"#,
                &["`port` must be between 1 and 65535", "`stream_key` holds white space"],
            ),
            (r#"{"host": "redis://a"}"#, &["`host` is no name"]),
            (r#"{"hosts": ["a:1"]}"#, &["`hosts` are for a cluster or for sentinels"]),
            (r#"{"hosts": ["a:x"], "cluster": true}"#, &["`hosts` are `HOST:PORT` each"]),
            (r#"{"host": "a", "cluster": true, "database": 1}"#, &["`database` must be 0"]),
            (r#"{"host": "a", "tls_ca_file": "x"}"#, &["`tls_ca_file` is for `tls: true`"]),
            (r#"{"host": "a", "tls": true, "tls_key_file": "x"}"#, &["`tls_key_file` needs"]),
            (r#"{"host": "a", "cluster": true, "min_replicas": 1}"#, &["`min_replicas` cannot"]),
            (r#"{"host": "a", "ids": "time", "min_replicas": 1}"#, &["`min_replicas` needs"]),
            (r#"{"host": "a", "username": "x"}"#, &["`username` is nothing"]),
            (
                r#"{"host": "a", "max_length": 0, "timeout_ms": 0}"#,
                &["`timeout_ms` must be", "`max_length` must be 1 or more"],
            ),
        ] {
            let found = read(options).unwrap_err();
            assert_eq!(found.len(), wrong.len(), "{options}: {found:?}");
            for (found, wrong) in found.iter().zip(wrong) {
                assert!(found.starts_with(wrong), "{options}: {found}");
            }
        }
        let ready = read(r#"{"hosts": ["a", "[::1]:7"], "sentinel_master": "m"}"#).unwrap();
        assert_eq!(ready.server.hosts, [("a".to_owned(), 6_379), ("::1".to_owned(), 7)]);
    }
}
