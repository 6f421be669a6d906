//! `databases[]`.

use options::Secret;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::keys;
use crate::diagnostic::Report;
use crate::tree::{self, Node};

const POOL: &str = "there is no pool of connections to tune";
/// Keys and why nobody needs them.
pub(crate) const NEEDLESS: [(&str, &str); 4] = [
    ("pool_size", POOL),
    ("queue_interval", POOL),
    ("queue_target", POOL),
    ("ipv6", "both versions are tried"),
];
pub(crate) const NOT_YET: [keys::NotYet; 1] = [("use_local_tunnel", keys::is_false)];

/// How long an apply waits for a new database.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AwaitDatabase {
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) interval_ms: Option<u64>,
}

pub(crate) struct Database {
    pub(crate) fields: Fields,
    pub(crate) annotations: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fields {
    #[serde(rename = "name")]
    _name: String,
    /// Instead of the five fields below.
    pub(crate) url: Option<Secret>,
    pub(crate) hostname: Option<String>,
    pub(crate) port: Option<i64>,
    pub(crate) database: Option<String>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Secret>,
    /// The predecessor's word for `sslmode`.
    pub(crate) ssl: Option<bool>,
    // As libpq has them, also as parameters of `url`.
    pub(crate) sslmode: Option<String>,
    pub(crate) sslrootcert: Option<String>,
    pub(crate) sslcert: Option<String>,
    pub(crate) sslkey: Option<String>,
    pub(crate) channel_binding: Option<String>,
    /// Of a read replica.
    pub(crate) primary: Option<Server>,
    pub(crate) slot: Option<Slot>,
    /// The older form of `slot`.
    pub(crate) slot_name: Option<String>,
    pub(crate) publication: Option<Publication>,
    /// The older form of `publication`.
    pub(crate) publication_name: Option<String>,
    pub(crate) heartbeat_interval_ms: Option<i64>,
    pub(crate) await_database: Option<AwaitDatabase>,
    /// Taken out before, and here to be named among the keys that are known.
    #[serde(rename = "annotations")]
    _annotations: Option<IgnoredAny>,
}

/// How a server is reached, as [`Fields`] say it.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Server {
    pub(crate) url: Option<Secret>,
    pub(crate) hostname: Option<String>,
    pub(crate) port: Option<i64>,
    pub(crate) database: Option<String>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) ssl: Option<bool>,
    pub(crate) sslmode: Option<String>,
    pub(crate) sslrootcert: Option<String>,
    pub(crate) sslcert: Option<String>,
    pub(crate) sslkey: Option<String>,
    pub(crate) channel_binding: Option<String>,
    /// Needless.
    pub(crate) ipv6: Option<IgnoredAny>,
}

impl Fields {
    /// Whether anything says how to read from it.
    pub(crate) fn names_replication(&self) -> bool {
        let slot = self.slot.is_some() || self.slot_name.is_some();
        slot || self.publication.is_some() || self.publication_name.is_some()
    }

    /// How the database itself is reached.
    pub(crate) fn server(&self) -> Server {
        Server {
            url: self.url.clone(),
            hostname: self.hostname.clone(),
            port: self.port,
            database: self.database.clone(),
            username: self.username.clone(),
            password: self.password.clone(),
            ssl: self.ssl,
            sslmode: self.sslmode.clone(),
            sslrootcert: self.sslrootcert.clone(),
            sslcert: self.sslcert.clone(),
            sslkey: self.sslkey.clone(),
            channel_binding: self.channel_binding.clone(),
            ipv6: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Slot {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) create_if_not_exists: bool,
    #[serde(default)]
    pub(crate) failover: bool,
    pub(crate) origin: Option<String>,
    pub(crate) on_mismatch: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Publication {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) create_if_not_exists: bool,
    pub(crate) init_sql: Option<String>,
    pub(crate) publish_via_partition_root: Option<bool>,
}

pub(crate) fn read(mut node: Node, report: &mut Report<'_>) -> Option<Database> {
    keys::leftover(&mut node, &keys::EXPORTED, report);
    keys::leftover(&mut node, &["tables"], report);
    keys::needless(&mut node, &NEEDLESS, report);
    keys::not_yet(&mut node, &NOT_YET, report);
    let annotations = keys::json_map(&mut node, "annotations", report);
    let fields = tree::read(&node, report)?;
    Some(Database { fields, annotations })
}
