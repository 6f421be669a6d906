//! `sinks[]`.

use std::fmt;

use serde::de::{Error, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::keys;
use crate::destinations::{self, Written};
use crate::diagnostic::Report;
use crate::tree::{self, Node};

pub(crate) struct Sink {
    pub(crate) fields: Fields,
    /// None if it could not be read, which was told.
    pub(crate) destination: Option<Written>,
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
    pub(crate) filter: Option<Chain>,
    pub(crate) routing: Option<Chain>,
    pub(crate) transform: Option<Chain>,
    pub(crate) enrichment: Option<String>,
    pub(crate) tables: Option<Vec<TableFields>>,
    pub(crate) message_grouping: Option<bool>,
    /// Ours.
    pub(crate) group_scope: Option<GroupScope>,
    pub(crate) timestamp_format: Option<TimestampFormat>,
    /// Ours.
    pub(crate) unchanged_values: Option<UnchangedValues>,
    pub(crate) max_retry_count: Option<i64>,
    pub(crate) load_shedding_policy: Option<LoadShedding>,
    /// Ours.
    pub(crate) retry_backoff: Option<RetryBackoff>,
    /// Ours.
    pub(crate) rate_limit: Option<RateLimit>,
    /// Ours.
    pub(crate) dead_letter_limit: Option<DeadLetterLimit>,
    pub(crate) initial_backfill: Option<InitialBackfill>,
    /// Ours.
    pub(crate) backfill: Option<BackfillFields>,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LoadShedding {
    PauseOnFull,
    DiscardOnFull,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum GroupScope {
    Table,
    Sink,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TimestampFormat {
    // Without the underscore that serde would put before the digits.
    #[serde(rename = "iso8601")]
    Iso8601,
    UnixMicrosecond,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RateLimit {
    pub(crate) messages: i64,
    pub(crate) per_ms: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadLetterLimit {
    pub(crate) max_percent: Option<i64>,
    pub(crate) min_messages: Option<i64>,
    pub(crate) window_ms: Option<i64>,
    pub(crate) resume_after_ms: Option<i64>,
}

/// What a table has beside being selected.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TableFields {
    pub(crate) name: Table,
    pub(crate) group_column_names: Option<Vec<String>>,
    /// Ours.
    pub(crate) enrichment: Option<String>,
}

/// How backfills of a sink go about it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackfillFields {
    /// Tables that come later are backfilled too.
    pub(crate) new_tables: Option<bool>,
    pub(crate) max_timeout_ms: Option<i64>,
    pub(crate) max_rows_per_second: Option<i64>,
    pub(crate) by_place: Option<bool>,
}

/// Which tables a new sink gets as a whole.
pub(crate) enum InitialBackfill {
    All(bool),
    Tables(Vec<InitialTable>),
}

/// One of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InitialTable {
    pub(crate) table: Table,
    #[serde(rename = "type")]
    pub(crate) kind: Option<InitialKind>,
    pub(crate) sort_column: Option<String>,
    pub(crate) start_position: Option<Scalar>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum InitialKind {
    Full,
    Partial,
}

/// A value as its text: Postgres reads it.
pub(crate) struct Scalar(pub(crate) String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a number")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(text.to_owned()))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }
        }

        deserializer.deserialize_any(Text)
    }
}

impl<'de> Deserialize<'de> for InitialBackfill {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BoolOrList;

        impl<'de> Visitor<'de> for BoolOrList {
            type Value = InitialBackfill;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or a list of tables")
            }

            fn visit_bool<E: Error>(self, all: bool) -> Result<InitialBackfill, E> {
                Ok(InitialBackfill::All(all))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<InitialBackfill, E> {
                match text {
                    "true" => Ok(InitialBackfill::All(true)),
                    "false" => Ok(InitialBackfill::All(false)),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_unit<E: Error>(self) -> Result<InitialBackfill, E> {
                Ok(InitialBackfill::All(false))
            }

            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> Result<InitialBackfill, A::Error> {
                let mut tables = Vec::new();
                while let Some(table) = list.next_element()? {
                    tables.push(table);
                }
                Ok(InitialBackfill::Tables(tables))
            }
        }

        deserializer.deserialize_any(BoolOrList)
    }
}

impl Sink {
    /// The type of the destination; empty if it could not be read.
    pub(crate) fn destination_type(&self) -> &str {
        self.destination.as_ref().map_or("", Written::name)
    }
}

/// One function, or ours: several, in the order that they are run in.
pub(crate) enum Chain {
    One(String),
    Several(Vec<String>),
}

impl<'de> Deserialize<'de> for Chain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrList;

        impl<'de> Visitor<'de> for NameOrList {
            type Value = Chain;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a function or a list of names")
            }

            fn visit_unit<E: Error>(self) -> Result<Chain, E> {
                Ok(Chain::Several(Vec::new()))
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Chain, E> {
                Ok(Chain::One(name.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Chain, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = list.next_element()? {
                    names.push(name);
                }
                Ok(Chain::Several(names))
            }
        }

        deserializer.deserialize_any(NameOrList)
    }
}

/// What its exports and its past left in files.
pub(crate) const LEFTOVERS: [&str; 7] = [
    "consumer_start",
    "active_backfill",
    "active_backfills",
    "message_kind",
    "replication_slot_id",
    "sequence_id",
    "health",
];
pub(crate) fn read(mut node: Node, report: &mut Report<'_>) -> Option<Sink> {
    keys::leftover(&mut node, &keys::EXPORTED, report);
    keys::leftover(&mut node, &LEFTOVERS, report);
    let annotations = keys::json_map(&mut node, "annotations", report);
    let destination = match node.take("destination") {
        Some(entry) => destinations::read(entry.value, report),
        None => {
            report.error(node.place, "`destination` is missing");
            None
        }
    };
    let fields = tree::read(&node, report);
    Some(Sink { fields: fields?, destination, annotations })
}
