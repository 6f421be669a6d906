//! `sinks[]`.

use std::fmt;

use serde::de::{Error, IgnoredAny, Visitor};
use serde::{Deserialize, Deserializer};

use super::keys;
use crate::destinations::{self, Written};
use crate::diagnostic::Report;
use crate::tree::{self, Node};

pub(crate) struct Sink {
    pub(crate) fields: Fields,
    pub(crate) destination: Written,
    pub(crate) annotations: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fields {
    #[serde(rename = "name")]
    _name: String,
    pub(crate) status: Option<Status>,
    pub(crate) database: String,
    pub(crate) source: Option<Source>,
    /// The older form of a source of one table.
    pub(crate) table: Option<String>,
    /// The older form of a source of one schema.
    pub(crate) schema: Option<String>,
    pub(crate) actions: Option<Vec<Action>>,
    pub(crate) batch_size: Option<i64>,
    /// Ours.
    pub(crate) batch_timeout_ms: Option<i64>,
    pub(crate) filter: Option<String>,
    pub(crate) transform: Option<String>,
    pub(crate) message_grouping: Option<bool>,
    /// Ours.
    pub(crate) unchanged_values: Option<UnchangedValues>,
    pub(crate) max_retry_count: Option<i64>,
    /// Ours.
    pub(crate) retry_backoff: Option<RetryBackoff>,
    /// Taken out before, like the next, and here to be named among the keys that are known.
    #[serde(rename = "destination")]
    _destination: Option<IgnoredAny>,
    #[serde(rename = "annotations")]
    _annotations: Option<IgnoredAny>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Active,
    Paused,
    Disabled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    Insert,
    Update,
    Delete,
    Truncate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UnchangedValues {
    Omit,
    Fetch,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    pub(crate) include_schemas: Option<Vec<String>>,
    pub(crate) exclude_schemas: Option<Vec<String>>,
    pub(crate) include_tables: Option<Vec<Table>>,
    pub(crate) exclude_tables: Option<Vec<Table>>,
}

/// A table of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// `schema.table`, or a table of `public`.
    Name(String),
    /// Ours: a number is the oid of a table, which is then followed when it is renamed.
    Oid(u32),
}

impl<'de> Deserialize<'de> for Table {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrOid;

        impl Visitor<'_> for NameOrOid {
            type Value = Table;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a table or its oid")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Table, E> {
                Ok(Table::Name(name.to_owned()))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Table, E> {
                let oid = u32::try_from(number).ok().filter(|oid| *oid > 0);
                let error = || E::custom("must be between 1 and 4294967295 to be an oid");
                oid.map(Table::Oid).ok_or_else(error)
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Table, E> {
                // What is negative is told as what is too small.
                self.visit_u64(number.try_into().unwrap_or(0))
            }
        }

        deserializer.deserialize_str(NameOrOid)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetryBackoff {
    pub(crate) first_ms: Option<i64>,
    pub(crate) cap_ms: Option<i64>,
}

pub(crate) fn read(mut node: Node, report: &mut Report<'_>) -> Option<Sink> {
    let leftovers = [
        "consumer_start",
        "active_backfill",
        "active_backfills",
        "message_kind",
        "id",
        "inserted_at",
        "updated_at",
        "account_id",
        "replication_slot_id",
        "sequence_id",
        "health",
    ];
    keys::leftover(&mut node, &leftovers, report);
    let full = "a sink that is behind holds its slot back, and nothing is discarded";
    keys::needless(&mut node, &[("load_shedding_policy", full)], report);
    keys::not_yet(
        &mut node,
        &[
            ("routing", keys::is_none),
            ("enrichment", keys::is_none),
            ("tables", keys::never),
            ("initial_backfill", keys::is_false),
            ("timestamp_format", |node| node.text() == Some("iso8601")),
        ],
        report,
    );
    let annotations = keys::json_map(&mut node, "annotations", report);
    let destination = match node.take("destination") {
        Some(entry) => destinations::read(entry.value, report),
        None => {
            report.error(node.place, "`destination` is missing");
            None
        }
    };
    let fields = tree::read(&node, report);
    Some(Sink { fields: fields?, destination: destination?, annotations })
}
