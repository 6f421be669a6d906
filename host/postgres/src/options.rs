//! What to connect to, as the configuration gives it.

mod tls;
mod url;

use std::fmt;
use std::time::Duration;

use model::source::SourceError;

use crate::error;

pub use tls::{ChannelBinding, ClientCertificate, Roots, SslMode, Tls};

/// Where Postgres listens.
const PORT: u16 = 5432;

/// The predecessor's limit for reaching a database.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// One slot of one database.
#[derive(Clone, Debug)]
pub struct Options {
    /// Host name or address, or the directory of a Unix socket (begins with `/`).
    pub host: String,
    /// Port; also part of the name of a Unix socket.
    pub port: u16,
    /// Further servers, tried in order where those before them cannot be reached.
    pub more_hosts: Vec<Address>,
    /// Role to log in as; it needs the attribute `REPLICATION`.
    pub user: String,
    /// Its password, if the server asks for one.
    pub password: Option<Password>,
    /// The database whose changes are read.
    pub database: String,
    /// Name of the replication slot.
    pub slot: String,
    /// Whether to create the slot if it does not exist.
    pub slot_create: bool,
    /// Name of the publication.
    pub publication: String,
    /// How to create the publication if it does not exist; None if it must exist.
    pub publication_create: Option<Create>,
    /// For each connection: to be reached and to accept the login. Several hosts share it.
    pub connect_timeout: Duration,
    /// How connections over TCP are encrypted.
    pub tls: Tls,
    /// How they show in the server's `pg_stat_activity`.
    pub application_name: String,
    /// How a peer that went away without a word is noticed; None: not by TCP.
    pub keepalive: Option<Keepalive>,
    /// Whether the slot is made for one connection, from now on, and goes with it. Nothing of that
    /// name may exist then.
    pub slot_temporary: bool,
    /// Whether the server keeps the slot on its standbys too, so that it outlives a failover. Takes
    /// Postgres 17.
    pub slot_failover: bool,
    /// Which changes are sent, by where they were made.
    pub origin: Origin,
    /// After so much time without changes, a message is written into the server's log; None:
    /// nothing is written there.
    pub heartbeat: Option<Duration>,
    /// Where a standby's primary is: what has to be written into the log is written there.
    pub primary: Option<Box<Self>>,
}

/// Where changes come from, as a subscription's `origin` says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// From anywhere.
    #[default]
    Any,
    /// Made on this server: what it replicates from another one is left out. Takes Postgres 16.
    None,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// As [`Options::host`].
    pub host: String,
    /// As [`Options::port`].
    pub port: u16,
}

/// TCP keepalive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Between probes.
    pub interval: Duration,
    /// Unanswered probes after which the connection is broken.
    pub probes: u32,
}

impl Default for Keepalive {
    /// A minute until a dead peer is noticed. What lies between often forgets a connection that
    /// was silent for a few minutes; the kernel's own first probe would come after two hours.
    fn default() -> Self {
        Self { idle: Duration::from_secs(30), interval: Duration::from_secs(10), probes: 3 }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// How to create a missing publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Create {
    /// All tables. Refused if the server would then refuse updates and deletes of some to its own
    /// applications.
    AllTables {
        /// Whether changes of partitions are published as changes of their root.
        via_partition_root: bool,
    },
    /// The owner's own `CREATE PUBLICATION` statement, of the configured name.
    Sql(String),
}

/// A password. It has no way to be printed.
#[derive(Clone)]
pub struct Password(String);

impl Password {
    /// Takes the password over.
    #[must_use]
    pub fn new(password: impl Into<String>) -> Self {
        Self(password.into())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(redacted)")
    }
}

impl Options {
    /// Options with what is the same for most: port 5432, no password, nothing is created.
    #[must_use]
    pub fn new(
        host: impl Into<String>,
        user: impl Into<String>,
        database: impl Into<String>,
        slot: impl Into<String>,
        publication: impl Into<String>,
    ) -> Self {
        Self {
            host: host.into(),
            port: PORT,
            more_hosts: Vec::new(),
            user: user.into(),
            password: None,
            database: database.into(),
            slot: slot.into(),
            slot_create: false,
            publication: publication.into(),
            publication_create: None,
            connect_timeout: CONNECT_TIMEOUT,
            tls: Tls::default(),
            application_name: "sequin".to_owned(),
            keepalive: Some(Keepalive::default()),
            slot_temporary: false,
            slot_failover: false,
            origin: Origin::Any,
            heartbeat: None,
            primary: None,
        }
    }

    /// The options that a URL gives, in the forms and with the parameters of libpq. Slot and
    /// publication are empty and are to be filled in.
    ///
    /// # Errors
    /// Definite, with code `connect_options`. Nothing of the URL is repeated in it but the name of
    /// a parameter.
    pub fn from_url(url: &str) -> Result<Self, SourceError> {
        let options = url::parse(url).map_err(|problem| {
            error::definite(
                "connect_options",
                format!("the URL of the database cannot be used: {problem}"),
                "it looks like `postgresql://user:password@host:5432/database?sslmode=require`",
            )
        })?;
        options.check_connection()?;
        Ok(options)
    }

    /// All hosts, in the order in which they are tried.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = Address> + '_ {
        let first = Address { host: self.host.clone(), port: self.port };
        std::iter::once(first).chain(self.more_hosts.iter().cloned())
    }

    /// All hosts, for messages.
    pub(crate) fn addresses(&self) -> String {
        self.hosts().map(|address| address.to_string()).collect::<Vec<_>>().join(",")
    }

    /// What a claim calls the slot of a standby: its primary, where claims are written, may have one
    /// of the same name. No slot has such a name.
    pub(crate) fn slot_on_standby(&self) -> String {
        let address = Address { host: self.host.clone(), port: self.port };
        format!("{}@{address}", self.slot)
    }

    /// What can be told to be wrong without a server.
    ///
    /// # Errors
    /// Definite, with code `slot_name`, `publication_name`, `publication_init_sql` or
    /// `connect_options`.
    pub fn check(&self) -> Result<(), SourceError> {
        self.check_connection()?;
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
        if self.slot.is_empty() || self.slot.len() > 63 || !self.slot.bytes().all(allowed) {
            return Err(error::definite(
                "slot_name",
                format!("`{}` cannot be the name of a replication slot", self.slot),
                "use 1 to 63 lower-case letters, digits and underscores",
            ));
        }
        let publication = &self.publication;
        if publication.is_empty() || publication.len() > 63 || publication.contains('\0') {
            return Err(error::definite(
                "publication_name",
                format!("`{publication}` cannot be the name of a publication"),
                "use 1 to 63 bytes",
            ));
        }
        match &self.publication_create {
            Some(Create::Sql(sql)) if !creates_publication(sql, publication) => {
                Err(error::definite(
                    "publication_init_sql",
                    format!("init_sql does not begin with `CREATE PUBLICATION {publication}`"),
                    "make it one CREATE PUBLICATION statement with the configured name",
                ))
            }
            Some(Create::Sql(_) | Create::AllTables { .. }) | None => Ok(()),
        }
    }
}

impl Options {
    fn check_connection(&self) -> Result<(), SourceError> {
        let wrong = |message: &str| {
            let help = "correct the connection settings of the database";
            error::definite("connect_options", message.to_owned(), help)
        };
        // NUL ends a string in the protocol, so it must not stand in one.
        let texts = [&self.host, &self.user, &self.database];
        let texts = texts.into_iter().chain(self.more_hosts.iter().map(|address| &address.host));
        if texts.clone().any(String::is_empty)
            || texts.chain([&self.application_name]).any(|text| text.contains('\0'))
        {
            return Err(wrong("host, user and database must be given and must not contain NUL"));
        }
        // What Linux takes.
        let possible = |time: Duration| (1..=32_767).contains(&time.as_secs());
        if self.keepalive.is_some_and(|Keepalive { idle, interval, probes }| {
            !possible(idle) || !possible(interval) || !(1..=127).contains(&probes)
        }) {
            return Err(wrong("keepalives take 1 to 32767 seconds, and 1 to 127 probes"));
        }
        self.tls.check().map_err(wrong)
    }
}

/// Whether the statement begins with `CREATE PUBLICATION` of that name. That it is a single
/// statement is left to the server, which is given it in a way that takes only one.
fn creates_publication(sql: &str, name: &str) -> bool {
    let Some(rest) = keyword(sql, "create").and_then(|rest| keyword(rest, "publication")) else {
        return false;
    };
    let rest = rest.trim_start();
    if let Some(quoted) = rest.strip_prefix('"') {
        let expected = format!("{}\"", name.replace('"', "\"\""));
        // Not followed by another quote, which would be part of a longer name.
        return quoted.strip_prefix(&*expected).is_some_and(|tail| !tail.starts_with('"'));
    }
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let (given, _) = rest.split_at(rest.find(|c| !is_part(c)).unwrap_or(rest.len()));
    // The server folds what is not quoted.
    given.to_lowercase() == name
}

/// What follows the keyword and its space.
fn keyword<'a>(sql: &'a str, keyword: &str) -> Option<&'a str> {
    let sql = sql.trim_start();
    let (head, rest) = sql.split_at_checked(keyword.len())?;
    (head.eq_ignore_ascii_case(keyword) && rest.starts_with(char::is_whitespace)).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(options: &Options) -> Option<&'static str> {
        match options.check() {
            Ok(()) => None,
            Err(SourceError::Definite { code, .. }) => Some(code),
            Err(SourceError::Transient(text)) => panic!("{text}"),
        }
    }

    #[test]
    fn names_are_checked_before_anything_is_sent() {
        let good = Options::new("h", "u", "d", "sequin_slot", "Pub \"x\"");
        assert_eq!(code(&good), None);
        for slot in ["", "Upper", "a-b", "a\"b", &"a".repeat(64)] {
            assert_eq!(code(&Options { slot: slot.into(), ..good.clone() }), Some("slot_name"));
        }
        for publication in ["", "a\0b", &"a".repeat(64)] {
            let bad = Options { publication: publication.into(), ..good.clone() };
            assert_eq!(code(&bad), Some("publication_name"));
        }
        let bad = Options { user: "a\0b".into(), ..good };
        assert_eq!(code(&bad), Some("connect_options"));
    }

    #[test]
    fn init_sql_must_create_the_configured_publication() {
        for (sql, name, expected) in [
            ("CREATE PUBLICATION p FOR ALL TABLES", "p", true),
            ("  create\n publication P for table t;", "p", true),
            ("create publication \"P\" for table t", "P", true),
            ("create publication \"a\"\"b\"", "a\"b", true),
            ("create publication \"a\"\"b\"", "a", false),
            ("create publication P for table t", "P", false),
            ("create publication pp for table t", "p", false),
            ("drop publication p", "p", false),
            ("createpublication p", "p", false),
            ("create table p ()", "p", false),
            ("", "p", false),
        ] {
            assert_eq!(creates_publication(sql, name), expected, "{sql} of {name}");
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        let mut options = Options::new("h", "u", "d", "s", "p");
        options.password = Some(Password::new("hunter2"));
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
