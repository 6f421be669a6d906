//! What a configuration means. Every name in a spec is the name of something in it, every number
//! is within its bounds, every default is applied.

mod databases;
mod functions;
mod http_endpoints;
mod sinks;

use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::select::Selection;
use model::backoff::Backoff;
use options::{Problem, Secret};
use sha2::{Digest as _, Sha256};

use crate::diagnostic::Report;
use crate::document::{Document, Resource};

/// A configuration that holds together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spec {
    /// Names are unique.
    pub databases: Vec<Database>,
    /// Names are unique.
    pub functions: Vec<Function>,
    /// Names are unique.
    pub sinks: Vec<Sink>,
}

/// A source database and its replication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    pub name: String,
    /// A UUID made from the name: the same as long as the name is.
    pub id: String,
    pub hostname: String,
    pub port: u16,
    /// The database on the server.
    pub database: String,
    pub username: String,
    pub password: Secret,
    pub tls: Tls,
    pub slot: Slot,
    pub publication: Publication,
    /// After so much time without changes, a message is written into the source's log.
    pub heartbeat: Option<Duration>,
    /// A JSON object.
    pub annotations: String,
}

/// How connections to a database are encrypted. The words are libpq's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    pub mode: SslMode,
    /// There if the mode verifies.
    pub roots: Option<Roots>,
    pub client: Option<ClientCertificate>,
    pub channel_binding: ChannelBinding,
}

/// `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// Whose certificates are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    System,
    /// Not looked at: it may not exist.
    File(PathBuf),
}

/// Who we are. The files are not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// `channel_binding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    Disable,
    Prefer,
    Require,
}

/// A replication slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// As Postgres takes it: 1 to 63 of `a`-`z`, `0`-`9` and `_`.
    pub name: String,
    /// Whether to create it if it is not there.
    pub create: bool,
    /// Whether standbys keep it too.
    pub failover: bool,
    pub origin: Origin,
}

/// Which changes a slot sends, by where they were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    #[default]
    Any,
    /// Not those that the source replicates from elsewhere.
    None,
}

/// A publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    pub name: String,
    /// How to create it if it is not there; None: it must be there.
    pub create: Option<CreatePublication>,
}

/// How to create a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreatePublication {
    /// For all tables.
    AllTables {
        /// Whether changes of partitions come under the name of their root.
        via_partition_root: bool,
    },
    /// By the user's statement, which begins with `create publication` and the name. It may hold
    /// more than one statement: run it in a way that refuses that.
    Sql(String),
}

/// A plugin with its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    pub role: Role,
    /// The component. Not looked at: it may not exist.
    pub file: PathBuf,
    /// A JSON object.
    pub config_json: String,
}

/// What a function is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Filter,
    Transform,
}

/// A sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    pub name: String,
    /// A UUID made from the name: the same as long as the name is.
    pub id: String,
    pub status: Status,
    /// The name of a database of this spec.
    pub database: String,
    pub selection: Selection,
    pub destination: Destination,
    /// 1 to 1000. Typesense has its own, which wins.
    pub batch_size: usize,
    /// How long the first message of an incomplete batch waits for company.
    pub batch_timeout: Duration,
    /// The name of a filter of this spec.
    pub filter: Option<String>,
    /// The name of a transform of this spec.
    pub transform: Option<String>,
    /// After this many attempts a message is put aside; 1 or more. None: never.
    pub max_retry_count: Option<u32>,
    pub backoff: Backoff,
    /// Whether messages of one row keep their order.
    pub message_grouping: bool,
    /// Whether values that Postgres did not send, because an update did not touch them, are read
    /// from the table.
    pub fetch_unchanged: bool,
    /// A JSON object.
    pub annotations: String,
}

impl Sink {
    /// The names of the functions that it uses.
    pub fn functions(&self) -> impl Iterator<Item = &str> {
        self.filter.iter().chain(&self.transform).map(String::as_str)
    }
}

/// Whether a sink runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Active,
    /// Collects changes and sends none.
    Paused,
    /// Collects none; they pass by.
    Disabled,
}

/// Where a sink sends to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    Webhook(options::webhook::Ready),
    Typesense(options::typesense::Ready),
}

/// Turns what was written into what it means. None if something is wrong, which is told.
pub(crate) fn resolve(
    document: &Document,
    base_dir: &Path,
    report: &mut Report<'_>,
) -> Option<Spec> {
    let functions = functions::resolve(&document.functions, base_dir, report);
    let databases = databases::resolve(&document.databases, base_dir, report);
    let endpoints = http_endpoints::resolve(&document.http_endpoints, report);
    let sinks = sinks::resolve(document, &endpoints, report);
    (report.errors() == 0).then_some(Spec { databases, functions, sinks })
}

/// Says what is wrong with options, whose fields are keys below `path`.
fn told<R, T>(
    resource: &Resource<R>,
    path: &[&str],
    result: Result<T, Vec<Problem>>,
    report: &mut Report<'_>,
) -> Option<T> {
    let problems = match result {
        Ok(ready) => return Some(ready),
        Err(problems) => problems,
    };
    for problem in problems {
        let place = resource.place(&[path, &[problem.field]].concat());
        match &problem.help {
            Some(help) => report.error_with_help(place, &problem, help),
            None => report.error(place, &problem),
        }
    }
    None
}

/// A UUID (version 8, RFC 9562) that is the same for the same kind and name, everywhere.
fn id(kind: &str, name: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(format!("sequin {kind} {name}")).into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(digest.split_at(16).0);
    let number = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0b11 << 62);
    let hex = format!("{:032x}", number | 0x8 << 76 | 0b10 << 62);
    let mut id = String::new();
    for (at, digit) in hex.char_indices() {
        if matches!(at, 8 | 12 | 16 | 20) {
            id.push('-');
        }
        id.push(digit);
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuids_that_stay() {
        // Written into messages: a change here is seen by consumers.
        assert_eq!(id("sink", "orders"), "c0c349dc-a176-8007-af1f-3c9b58a6f419");
        assert_ne!(id("sink", "orders"), id("database", "orders"));
    }
}
