//! What a configuration means. Every name in a spec is the name of something in it, every number
//! is within its bounds, every default is applied.

mod change_retentions;
mod databases;
mod functions;
mod grants;
mod http_endpoints;
mod plugins;
mod sinks;
mod tokens;
mod versions;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use engine::backfill::Initial;
use engine::select::{Selection, Table};
use engine::spec::{OnFull, RateLimit};
use engine::trip::LetterLimit;
use model::backoff::Backoff;
use model::conditions::Condition;
use model::json::Timestamps;
use model::path::Path;
use model::plugin::OnError;
use model::tokens::{Limits, Scope};
use options::{Problem, Secret};
use sha2::{Digest as _, Sha256};

use crate::Surroundings;
pub use crate::destinations::Destination;
use crate::diagnostic::Report;
use crate::document::{Document, Resource};
pub use grants::{AllowedHost, Grants, HttpGrant, LookupGrant};
pub(crate) use sinks::webhook;
pub use versions::layout;

/// A configuration that holds together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spec {
    /// Names are unique.
    pub databases: Vec<Database>,
    /// Names are unique.
    pub functions: Vec<Function>,
    /// Names are unique. Change retentions are among them, behind the others: as sinks of one table,
    /// whose names no sink can have.
    pub sinks: Vec<Sink>,
    /// Where components are that are not named by their file. It may not exist.
    pub plugin_dir: PathBuf,
    /// Whose signatures are asked for; None: nobody's.
    pub signatures: Option<Signatures>,
    /// Tokens of the API. Names are unique.
    pub api_tokens: Vec<ApiToken>,
    /// How long an apply waits for databases that are new, by their names.
    pub awaited: BTreeMap<String, Await>,
    /// Versions of plugins that the configuration brings, or counts on. Name and version are unique
    /// together.
    pub versions: Vec<Version>,
}

/// A token of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    pub name: String,
    pub token: Secret,
    /// At least one, in their order.
    pub scopes: Vec<Scope>,
    /// And to what.
    pub limits: Limits,
}

/// How long an apply waits for a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Await {
    /// In all.
    pub timeout: Duration,
    /// Between two attempts.
    pub interval: Duration,
}

/// A version of a plugin, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub name: String,
    pub version: String,
    /// `sha256:` and 64 lower case digits: what it must be.
    pub digest: Option<String>,
    /// None: it was uploaded before.
    pub source: Option<VersionSource>,
}

/// Where the component of a version is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionSource {
    /// A component; not looked at: it may not exist.
    File(PathBuf),
    /// An artifact in a registry, as `registry.example.com/team/name:tag`. The digest is given.
    Oci(String),
    /// A directory in the OCI image layout; with several artifacts, the tag says which.
    OciLayout(PathBuf, Option<String>),
}

/// Whose signatures are asked for. A plugin that no rule is for is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signatures {
    /// By their names, which are unique.
    pub keys: Vec<(String, PublicKey)>,
    /// Their names are different.
    pub rules: Vec<SignatureRule>,
}

/// A key that signatures are checked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// 32 bytes.
    Ed25519(Vec<u8>),
    /// A point that is not compressed: 65 bytes.
    P256(Vec<u8>),
}

/// Who must have signed plugins of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureRule {
    /// A name, or its beginning and a `*`.
    pub plugin: String,
    /// Names of keys; at least one.
    pub signers: Vec<String>,
    /// All of them; else one is enough.
    pub all: bool,
}

/// A source database and its replication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    pub name: String,
    /// A UUID made from the name: the same as long as the name is.
    pub id: String,
    pub hostname: String,
    pub port: u16,
    /// Further servers, tried in order where those before them cannot be reached: after a failover
    /// one of them is the primary.
    pub more_hosts: Vec<(String, u16)>,
    /// The database on the server.
    pub database: String,
    pub username: String,
    pub password: Secret,
    pub tls: Tls,
    /// Of a read replica: what has to be written into the source's log is written there.
    pub primary: Option<Server>,
    pub slot: Slot,
    pub publication: Publication,
    /// After so much time without changes, a message is written into the source's log.
    pub heartbeat: Option<Duration>,
    /// A JSON object.
    pub annotations: String,
}

/// How a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub hostname: String,
    pub port: u16,
    /// As [`Database::more_hosts`].
    pub more_hosts: Vec<(String, u16)>,
    pub database: String,
    pub username: String,
    pub password: Secret,
    pub tls: Tls,
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
    pub on_mismatch: OnMismatch,
}

/// What to do where the slot stands beyond what is recorded, was read by another engine, or is on
/// another server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMismatch {
    /// Nothing is read until an operator accepts the loss.
    #[default]
    Fail,
    /// It is read from where it stands.
    ContinueFromSlot,
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

/// A function that sinks use by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    pub kind: FunctionKind,
}

/// What a function is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FunctionKind {
    Plugin(Plugin),
    /// The path of a value in a message, which becomes the payload.
    Path(Path),
    /// SQL that is run on the source, with arrays of keys.
    Enrichment(String),
}

/// A component with its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin {
    pub role: Role,
    pub component: Component,
    /// A JSON object.
    pub config_json: String,
    /// The type of the destination that a router works for; empty for the other roles.
    pub sink_type: String,
    /// What becomes of rows that it fails on; filters alone let them pass.
    pub on_error: OnError,
    /// What it may use beside its rows.
    pub grants: Box<Grants>,
    /// What it may use of the machine.
    pub limits: PluginLimits,
}

/// What a component may use, where that is less than what every one may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PluginLimits {
    /// Of one instance.
    pub memory_bytes: Option<u64>,
    /// CPU time of a batch.
    pub batch_cpu: Option<Duration>,
    /// CPU time of a row that is run again alone.
    pub row_cpu: Option<Duration>,
}

/// Which component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Component {
    /// Not looked at: it may not exist.
    File(PathBuf),
    /// One of the plugin directory, by what its author wrote into it.
    Named { name: String, version: String },
    /// One of the plugin directory: `sha256:` and 64 lower case digits.
    Digest(String),
}

/// What a plugin is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Filter,
    Route,
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
    /// The names of filters of this spec, in the order that they are run in.
    pub filters: Vec<String>,
    /// The names of routers of this spec, likewise.
    pub routers: Vec<String>,
    /// The names of transforms of this spec, likewise. Empty if there is a path.
    pub transforms: Vec<String>,
    /// The path of the value that becomes the payload.
    pub path: Option<Path>,
    /// At most one for each table.
    pub enrichments: Vec<TableEnrichment>,
    /// Tables whose messages are grouped by these columns, not by their key; each table once.
    pub groups: Vec<TableGroup>,
    pub group_scope: GroupScope,
    /// How timestamps are written into messages.
    pub timestamps: Timestamps,
    /// After this many attempts a message is put aside; 1 or more. None: never.
    pub max_retry_count: Option<u32>,
    /// What becomes of its changes when the change log is full.
    pub on_full: OnFull,
    pub backoff: Backoff,
    /// It sends no more than this.
    pub rate_limit: Option<RateLimit>,
    /// It stops itself if more are put aside.
    pub letter_limit: LetterLimit,
    /// Which of its tables it gets as a whole, and how.
    pub initial: Initial,
    /// Whether messages of one row keep their order.
    pub message_grouping: bool,
    /// Whether values that Postgres did not send, because an update did not touch them, are read
    /// from the table.
    pub fetch_unchanged: bool,
    /// A JSON object.
    pub annotations: String,
}

/// Columns whose values make the group of a table's messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableGroup {
    pub table: Table,
    /// One or more, all different.
    pub columns: Vec<String>,
}

/// SQL that completes the messages of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableEnrichment {
    pub table: Table,
    /// The name of the function, for messages.
    pub function: String,
    pub sql: String,
}

/// Within what groups with the same values are one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupScope {
    /// Within one table.
    #[default]
    Table,
    /// In all tables of the sink: messages of different tables keep their order, too.
    Sink,
}

/// What stands before the name of a change retention in the name of its sink. The names of resources
/// have no colon.
pub const RETENTION: &str = "change_retention:";

/// What a change retention is beside a sink of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// What its changes must be like: all of it.
    pub conditions: Vec<Condition>,
    /// The name of the database that they are kept in.
    pub database: String,
    /// How that is reached.
    pub server: Server,
    /// Of the table that they are kept in.
    pub schema: String,
    /// Its name in it.
    pub table: String,
    /// Whether to create it if it is not there.
    pub create: bool,
}

/// What the owner of a sink with this name calls it: kind of resource and name.
#[must_use]
pub fn resource_of(sink: &str) -> (&'static str, &str) {
    match sink.strip_prefix(RETENTION) {
        Some(name) => ("change_retention", name),
        None => ("sink", sink),
    }
}

/// The same for messages: sink `orders`.
#[must_use]
pub fn called(sink: &str) -> String {
    let (kind, name) = resource_of(sink);
    format!("{} `{name}`", kind.replace('_', " "))
}

impl Sink {
    /// What it is beside a sink, if it is a change retention.
    #[must_use]
    pub fn retention(&self) -> Option<&Retention> {
        match &self.destination {
            Destination::Retention(retention) => Some(retention),
            _ => None,
        }
    }

    /// The names of the plugins that it uses.
    pub fn functions(&self) -> impl Iterator<Item = &str> {
        let plugins = self.filters.iter().chain(&self.routers).chain(&self.transforms);
        plugins.map(String::as_str)
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

/// Turns what was written into what it means. None if something is wrong, which is told.
pub(crate) fn resolve(
    document: &Document,
    around: &Surroundings<'_>,
    report: &mut Report<'_>,
) -> Option<Spec> {
    let functions = functions::resolve(document, around, report);
    let used = used(document, functions.as_slice());
    let (databases, servers) =
        databases::resolve(&document.databases, &used, around.base_dir, report);
    let endpoints = http_endpoints::resolve(&document.http_endpoints, report);
    let context =
        sinks::Context { document, endpoints: &endpoints, functions: functions.as_slice() };
    let mut sinks = sinks::resolve(&context, report);
    sinks.extend(change_retentions::resolve(document, &servers, report));
    let signatures = plugins::resolve(document.plugins.as_ref(), report);
    let versions = versions::resolve(document.plugins.as_ref(), around, report);
    let plugin_dir = around.plugin_dir.to_owned();
    let awaited = databases::awaited(&document.databases, report);
    let api_tokens = tokens::resolve(&document.api_tokens, report);
    let spec =
        Spec { databases, functions, sinks, plugin_dir, signatures, api_tokens, awaited, versions };
    (report.errors() == 0).then_some(spec)
}

/// What the databases of a document are for.
fn used<'a>(document: &'a Document, functions: &'a [Function]) -> databases::Used<'a> {
    let retentions = document.change_retentions.list.iter().map(|it| &it.value);
    let sinks = document.sinks.list.iter().map(|it| it.value.fields.database.as_str());
    let lookups = functions.iter().filter_map(|function| match &function.kind {
        FunctionKind::Plugin(plugin) => {
            plugin.grants.lookup.as_ref().map(|it| it.database.as_str())
        }
        FunctionKind::Path(_) | FunctionKind::Enrichment(_) => None,
    });
    let sources = retentions.clone().map(|it| it.source_database.as_str());
    databases::Used {
        read: sinks.chain(lookups).chain(sources).collect(),
        kept_in: retentions.map(|it| it.destination_database.as_str()).collect(),
    }
}

/// Says what is wrong with options, whose fields are keys below `path`.
pub(crate) fn told<R, T>(
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
pub(crate) fn id(kind: &str, name: &str) -> String {
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
