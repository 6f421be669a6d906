//! The port to a sandboxed plugin, and what plugins say about rows.

use std::sync::Arc;
use std::time::Duration;

use crate::BoxFuture;
use crate::change::Change;
use crate::relation::{Kind, Relation};

/// A plugin with its configuration, in one role.
pub trait Plugin: Send + Sync {
    /// The name it has in the configuration.
    fn name(&self) -> &str;

    /// Its identity, `sha256:` and hexadecimal digits.
    fn digest(&self) -> &str;

    /// What it has used since it was bound, by whomever it is used; None if that is not counted.
    fn cost(&self) -> Option<Cost> {
        None
    }

    /// What its owner wants done with rows that it fails on.
    fn on_error(&self) -> OnError {
        OnError::default()
    }

    /// Whether the same row gets the same outcome whenever and wherever it is judged: so it is of a
    /// plugin that is granted nothing.
    fn is_deterministic(&self) -> bool {
        true
    }

    /// Whether a filter is asked about deleted rows, too. Most are not: a row that is gone is gone.
    fn judges_deletes(&self) -> bool {
        false
    }

    /// The columns that it reads of tables which it names; of the source's, or set by who is before it.
    fn reads(&self) -> Vec<TableReads> {
        Vec::new()
    }

    /// Judges rows of one relation: one result per row, in order. A failure of one row never
    /// touches another.
    fn run(&self, rows: Rows) -> BoxFuture<'_, Vec<Result<Outcome, PluginError>>>;
}

/// Columns that a plugin reads of a table which it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableReads {
    /// The function.
    pub function: Arc<str>,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// Their names.
    pub columns: Vec<String>,
}

/// The classes of a call's fuel: the SDK's transform takes some thousands a row, a call has up to 256.
pub const FUELS: [u64; 10] = [
    3_000,
    10_000,
    30_000,
    100_000,
    300_000,
    1_000_000,
    3_000_000,
    10_000_000,
    100_000_000,
    1_000_000_000,
];

/// What a plugin has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Calls of it.
    pub calls: u64,
    /// CPU time of its calls: of the guest, and of handing rows over.
    pub cpu: Duration,
    /// What the guest did, about one for each instruction of WebAssembly; zero unless it is counted.
    pub fuel: u64,
    /// Calls that took at most so much fuel, by [`FUELS`]; of meaning where fuel is counted.
    pub fuel_calls: [u64; FUELS.len()],
    /// Instances that were made for it.
    pub instances: u64,
    /// The largest memory that one instance had, in bytes.
    pub memory_bytes_max: u64,
    /// How long its component took to compile, or to be found compiled.
    pub compile: Duration,
}

/// What becomes of a row that a plugin fails on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// The plugin is asked again, with back-off, and all behind the row waits.
    Retry,
    /// It is put aside.
    #[default]
    DeadLetter,
    /// It passes the filter that failed on it.
    Pass,
    /// The sink stands until somebody resumes it, and then asks again.
    Stop,
}

/// What one call carries. Never empty.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The table of all the rows.
    pub relation: Arc<Relation>,
    /// The rows.
    pub changes: Vec<Change>,
}

/// What a plugin decided about one row.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It goes on as it is.
    Keep,
    /// It is of no interest.
    Drop,
    /// It is outside the set: a state sink removes its document.
    Evict,
    /// It goes on with these columns added or replaced.
    Set(Patch),
    /// This document goes on in its place.
    Replace(Document),
    /// These documents go on in its place.
    Many(Vec<Document>),
}

/// A document in the place of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// What becomes of it in a state sink. A log sink sends it whatever this is.
    pub effect: DocumentEffect,
    /// JSON.
    pub json: Box<str>,
}

/// What becomes of a document in a state sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentEffect {
    /// As the row: it is written, or removed if the row is to go.
    Usual,
    /// It is written, also for a row that was deleted.
    Write,
    /// Its fields are set in the document that is there, also for a row that was deleted.
    Complete,
    /// The document of its identity is removed.
    Remove,
}

/// New columns of one row: a window onto the columns of its batch. In a chain of plugins each patch
/// lies on what those before it made of the row.
#[derive(Clone, Debug)]
pub struct Patch {
    /// The columns that the plugin set, for all rows of the batch.
    pub columns: Arc<[SetColumn]>,
    /// Of the columns that the plugin was shown, those that go on; None: all of them.
    pub only: Option<Arc<[Box<str>]>>,
    /// Which row of the batch this is.
    pub row: usize,
    /// What it lies on; None: the row as it came.
    pub below: Option<Arc<Patch>>,
}

/// A column that was set, for one row.
#[derive(Clone, Copy, Debug)]
pub struct SetValue<'a> {
    /// The column.
    pub column: &'a SetColumn,
    /// Which of its rows.
    pub row: usize,
}

/// What a patch makes of one of the row's own columns.
#[derive(Clone, Copy, Debug)]
pub enum Fate<'a> {
    /// It stays as it is.
    Kept,
    /// This stands in its place.
    Set(SetValue<'a>),
    /// The row goes on without it.
    Absent,
}

/// One column that a plugin set.
#[derive(Clone, Debug, PartialEq)]
pub struct SetColumn {
    /// Its name.
    pub name: Box<str>,
    /// Per row, what stands there.
    pub presence: Vec<Presence>,
    /// Per row, the value; meaningless where there is none.
    pub data: Data,
}

/// What a set column has for one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The value in the data.
    Value,
    /// Null.
    Null,
    /// The plugin leaves this row's column as it is.
    Unchanged,
    /// The row goes on without the column.
    Absent,
}

/// The values of a set column, one per row.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Booleans.
    Booleans(Vec<bool>),
    /// 64-bit integers.
    Integers(Vec<i64>),
    /// Floats.
    Floats(Vec<f64>),
    /// Texts.
    Texts(Vec<String>),
    /// JSON documents, checked by the host.
    Json(Vec<String>),
    /// Bytes.
    Bytes(Vec<Vec<u8>>),
    /// Texts in one piece.
    PackedTexts(Packed),
    /// JSON documents in one piece, checked by the host.
    PackedJson(Packed),
}

/// Texts one after another, one for each row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// All of them.
    pub text: String,
    /// Where each ends, in bytes, at the end of a character; it begins where the one before ends.
    pub ends: Vec<u32>,
}

impl Packed {
    /// The text of `row`.
    #[must_use]
    pub fn get(&self, row: usize) -> Option<&str> {
        let end = *self.ends.get(row)? as usize;
        let start = match row.checked_sub(1) {
            None => 0,
            Some(before) => *self.ends.get(before)? as usize,
        };
        self.text.get(start..end)
    }
}

/// Why a row got no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PluginError {
    /// The class of the failure.
    pub fault: Fault,
    /// What happened, with the guest's stack if there is one.
    pub message: String,
}

/// Classes of failures in a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The guest trapped: a panic, a bad access, a stack overflow.
    Trap,
    /// It used up its time.
    Deadline,
    /// It wanted more memory than its limit.
    Memory,
    /// It gave back too much, or something the host cannot use.
    Output,
    /// It said so itself.
    Guest,
    /// The host could not run it.
    Host,
}

impl Fault {
    /// The stable name of the reason in dead letters and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trap => "plugin_trap",
            Self::Deadline => "plugin_deadline",
            Self::Memory => "plugin_memory",
            Self::Output => "plugin_output",
            Self::Guest => "plugin_error",
            Self::Host => "plugin_host",
        }
    }
}

impl Patch {
    /// What becomes of the row's own column `name`, or of one that was set before.
    #[must_use]
    pub fn fate(&self, name: &str) -> Fate<'_> {
        let row = self.row;
        let touched = |column: &&SetColumn| &*column.name == name && column.touches(row);
        match self.columns.iter().find(touched) {
            Some(column) if column.is_absent(row) => Fate::Absent,
            Some(column) => Fate::Set(SetValue { column, row }),
            None => match (&self.only, &self.below) {
                (Some(only), _) if !only.iter().any(|kept| **kept == *name) => Fate::Absent,
                (_, Some(below)) => below.fate(name),
                (_, None) => Fate::Kept,
            },
        }
    }

    /// The value that stands in the column `name` now; None if none was set, or it was taken away.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<SetValue<'_>> {
        match self.fate(name) {
            Fate::Set(set) => Some(set),
            Fate::Kept | Fate::Absent => None,
        }
    }

    /// All values that were set and still stand, of the lowest patch first.
    pub fn for_each_value<'a>(&'a self, mut visit: impl FnMut(SetValue<'a>)) {
        self.visit(self, &mut visit);
    }

    fn visit<'a>(&'a self, top: &'a Self, visit: &mut impl FnMut(SetValue<'a>)) {
        if let Some(below) = &self.below {
            below.visit(top, visit);
        }
        for column in self.set() {
            let stands = std::ptr::eq(self, top)
                || top.value(&column.name).is_some_and(|set| std::ptr::eq(set.column, column));
            if stands {
                visit(SetValue { column, row: self.row });
            }
        }
    }

    /// What this patch itself has for the column `name`: None if it sets none of that name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&SetColumn> {
        self.set().find(|column| &*column.name == name)
    }

    /// The columns that this patch itself sets for its row.
    pub fn set(&self) -> impl Iterator<Item = &SetColumn> {
        let row = self.row;
        self.columns.iter().filter(move |column| column.touches(row) && !column.is_absent(row))
    }
}

impl SetValue<'_> {
    /// Whether it is null.
    #[must_use]
    pub fn is_null(self) -> bool {
        self.column.presence.get(self.row) != Some(&Presence::Value)
    }

    /// Appends it as JSON.
    pub fn write_json(self, out: &mut String) {
        self.column.write_json(out, self.row);
    }

    /// Appends its canonical text (see [`Kind`]); nothing if it is null.
    pub fn write_text(self, out: &mut String) {
        use crate::json::push_fmt;
        if self.is_null() {
            return;
        }
        let row = self.row;
        let text = match &self.column.data {
            Data::Texts(values) | Data::Json(values) => values.get(row).map(String::as_str),
            Data::PackedTexts(values) | Data::PackedJson(values) => values.get(row),
            Data::Booleans(values) => {
                values.get(row).map(|value| if *value { "true" } else { "false" })
            }
            Data::Integers(values) => {
                if let Some(value) = values.get(row) {
                    push_fmt(out, format_args!("{value}"));
                }
                None
            }
            Data::Floats(values) => {
                if let Some(value) = values.get(row) {
                    float(out, *value);
                }
                None
            }
            Data::Bytes(values) => {
                if let Some(value) = values.get(row) {
                    hexadecimal(out, "\\x", value);
                }
                None
            }
        };
        out.push_str(text.unwrap_or_default());
    }
}

impl Data {
    /// The form of its values' canonical text.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Booleans(_) => Kind::Boolean,
            Self::Integers(_) => Kind::Integer,
            Self::Floats(_) => Kind::Float,
            Self::Texts(_) | Self::PackedTexts(_) => Kind::Text,
            Self::Json(_) | Self::PackedJson(_) => Kind::Json,
            Self::Bytes(_) => Kind::Bytes,
        }
    }
}

/// A float with the source's own spelling of what is no number.
fn float(out: &mut String, value: f64) {
    if value.is_finite() {
        crate::json::push_fmt(out, format_args!("{value:?}"));
    } else if value.is_nan() {
        out.push_str("NaN");
    } else {
        out.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
}

fn hexadecimal(out: &mut String, prefix: &str, bytes: &[u8]) {
    out.push_str(prefix);
    for byte in bytes {
        crate::json::push_fmt(out, format_args!("{byte:02x}"));
    }
}

impl SetColumn {
    /// Whether it says anything of `row`.
    #[must_use]
    pub fn touches(&self, row: usize) -> bool {
        self.presence.get(row).is_some_and(|presence| *presence != Presence::Unchanged)
    }

    fn is_absent(&self, row: usize) -> bool {
        self.presence.get(row) == Some(&Presence::Absent)
    }

    /// Appends the value of `row` as JSON.
    pub fn write_json(&self, out: &mut String, row: usize) {
        use crate::json::{push_fmt, string};
        if self.presence.get(row) != Some(&Presence::Value) {
            out.push_str("null");
            return;
        }
        let written = match &self.data {
            Data::Booleans(values) => {
                values.get(row).map(|value| push_fmt(out, format_args!("{value}")))
            }
            Data::Integers(values) => {
                values.get(row).map(|value| push_fmt(out, format_args!("{value}")))
            }
            Data::Floats(values) => values.get(row).map(|value| {
                let quotes = if value.is_finite() { "" } else { "\"" };
                out.push_str(quotes);
                float(out, *value);
                out.push_str(quotes);
            }),
            Data::Texts(values) => values.get(row).map(|value| string(out, value)),
            Data::Json(values) => values.get(row).map(|value| out.push_str(value)),
            Data::PackedTexts(values) => values.get(row).map(|value| string(out, value)),
            Data::PackedJson(values) => values.get(row).map(|value| out.push_str(value)),
            Data::Bytes(values) => values.get(row).map(|value| {
                hexadecimal(out, "\"\\\\x", value);
                out.push('"');
            }),
        };
        if written.is_none() {
            out.push_str("null");
        }
    }
}
