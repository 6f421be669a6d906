//! `sequin:plugin` as wasmtime sees it: `wit/plugin.wit`, type by type.
//!
//! The types are those of all worlds there are (`worlds.rs`): what 0.2 added are interfaces of their
//! own. A world whose types differ gets a module like this one, and a conversion.
//!
//! Written by hand rather than by `bindgen!`, whose types own what they hold: these are lowered
//! straight from the texts of a page, at two thirds of the cost. The order and names of fields and
//! cases are those of the WIT; wasmtime compares them when a function is looked up.

use wasmtime::component::{ComponentType, Lift, Lower};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum Action {
    #[component(name = "insert")]
    Insert,
    #[component(name = "update")]
    Update,
    #[component(name = "delete")]
    Delete,
    #[component(name = "read")]
    Read,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lower, Lift)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum Presence {
    #[component(name = "value")]
    Value,
    #[component(name = "null")]
    Null,
    #[component(name = "unchanged")]
    Unchanged,
    #[component(name = "absent")]
    #[cfg_attr(not(any(test, feature = "fuzz")), expect(dead_code, reason = "guests make them"))]
    Absent,
}

/// Texts in one piece, on their way in or out.
#[derive(Clone, Debug, Default, PartialEq, Eq, ComponentType, Lower, Lift)]
#[component(record)]
pub(crate) struct Packed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ends: Vec<u32>,
}

/// Data on its way in.
#[derive(Debug, PartialEq, ComponentType, Lower)]
#[component(variant)]
pub(crate) enum DataIn<'a> {
    #[component(name = "booleans")]
    Booleans(Vec<bool>),
    #[component(name = "integers")]
    Integers(Vec<i64>),
    #[component(name = "floats")]
    Floats(Vec<f64>),
    #[component(name = "texts")]
    Texts(Vec<&'a str>),
    #[component(name = "json")]
    Json(Vec<&'a str>),
    #[component(name = "bytes")]
    Bytes(Vec<Vec<u8>>),
    #[component(name = "packed-texts")]
    PackedTexts(Packed),
    #[component(name = "packed-json")]
    PackedJson(Packed),
}

/// A column on its way in.
#[derive(Debug, PartialEq, ComponentType, Lower)]
#[component(record)]
pub(crate) struct ColumnIn<'a> {
    pub(crate) name: &'a str,
    #[component(name = "type-name")]
    pub(crate) type_name: &'a str,
    pub(crate) key: bool,
    pub(crate) presence: Vec<Presence>,
    pub(crate) data: DataIn<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lower)]
#[component(record)]
pub(crate) struct Position {
    #[component(name = "commit-lsn")]
    pub(crate) commit_lsn: u64,
    pub(crate) ordinal: u64,
}

#[derive(Debug, ComponentType, Lower)]
#[component(record)]
pub(crate) struct Batch<'a> {
    pub(crate) schema: &'a str,
    pub(crate) table: &'a str,
    pub(crate) actions: Vec<Action>,
    pub(crate) positions: Vec<Position>,
    pub(crate) columns: Vec<ColumnIn<'a>>,
    pub(crate) old: Vec<ColumnIn<'a>>,
    pub(crate) metadata: Vec<ColumnIn<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[cfg_attr(not(any(test, feature = "fuzz")), expect(dead_code, reason = "guests make them"))]
pub(crate) enum Verdict {
    #[component(name = "keep")]
    Keep,
    #[component(name = "drop")]
    Drop,
    #[component(name = "evict")]
    Evict,
    #[component(name = "replace")]
    Replace,
    #[component(name = "many")]
    Many,
    #[component(name = "error")]
    Error,
}

/// Data on its way out.
#[derive(Debug, ComponentType, Lift)]
#[component(variant)]
pub(crate) enum DataOut {
    #[component(name = "booleans")]
    Booleans(Vec<bool>),
    #[component(name = "integers")]
    Integers(Vec<i64>),
    #[component(name = "floats")]
    Floats(Vec<f64>),
    #[component(name = "texts")]
    Texts(Vec<String>),
    #[component(name = "json")]
    Json(Vec<String>),
    #[component(name = "bytes")]
    Bytes(Vec<Vec<u8>>),
    #[component(name = "packed-texts")]
    PackedTexts(Packed),
    #[component(name = "packed-json")]
    PackedJson(Packed),
}

/// A column on its way out.
#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct ColumnOut {
    pub(crate) name: String,
    pub(crate) presence: Vec<Presence>,
    pub(crate) data: DataOut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[cfg_attr(not(any(test, feature = "fuzz")), expect(dead_code, reason = "guests make them"))]
pub(crate) enum Effect {
    #[component(name = "usual")]
    Usual,
    #[component(name = "write")]
    Write,
    #[component(name = "complete")]
    Complete,
    #[component(name = "remove")]
    Remove,
}

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Document {
    pub(crate) row: u32,
    pub(crate) effect: Effect,
    pub(crate) json: String,
}

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct RowError {
    pub(crate) row: u32,
    pub(crate) column: String,
    pub(crate) message: String,
    /// For hosts that grant what changes with time.
    #[component(name = "retry")]
    pub(crate) _retry: bool,
}

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Reply {
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) columns: Vec<ColumnOut>,
    pub(crate) only: Option<Vec<String>>,
    pub(crate) documents: Vec<Document>,
    pub(crate) errors: Vec<RowError>,
}

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Description {
    #[component(name = "config-schema")]
    pub(crate) config_schema: String,
    pub(crate) capabilities: Vec<String>,
    pub(crate) warm: bool,
    /// Of a later version of the world; there are none that this host knows.
    #[component(name = "extra")]
    pub(crate) _extra: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Reads {
    pub(crate) table: String,
    pub(crate) columns: Vec<String>,
    #[component(name = "old-columns")]
    pub(crate) old_columns: Vec<String>,
    pub(crate) metadata: Vec<String>,
}

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Requirements {
    pub(crate) reads: Vec<Reads>,
    pub(crate) packed: bool,
    /// As of a description.
    #[component(name = "extra")]
    pub(crate) _extra: Vec<(String, String)>,
}

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct ConfigError {
    pub(crate) field: String,
    pub(crate) message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "guests make them")]
pub(crate) enum Level {
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum CallFailure {
    #[component(name = "denied")]
    Denied,
    #[component(name = "invalid")]
    Invalid,
    #[component(name = "too-large")]
    TooLarge,
    #[component(name = "timeout")]
    Timeout,
    #[component(name = "unavailable")]
    Unavailable,
    #[component(name = "exhausted")]
    Exhausted,
}

#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lower)]
#[component(record)]
pub(crate) struct CallError {
    pub(crate) failure: CallFailure,
    pub(crate) message: String,
}

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct HttpRequest {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    #[component(name = "timeout-ms")]
    pub(crate) timeout_ms: Option<u32>,
}

#[derive(Debug, ComponentType, Lower)]
#[component(record)]
pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct RowsQuery {
    pub(crate) table: String,
    pub(crate) columns: Vec<String>,
    pub(crate) key: Vec<String>,
    pub(crate) keys: Vec<Vec<String>>,
}
