//! A table as it was at one place in the stream.

use std::sync::Arc;

/// One version of a table. A change carries the version in force at its own place in the stream,
/// never the newest one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Postgres' id of the table: stays when the table is renamed.
    pub oid: u32,
    /// Schema, unquoted.
    pub schema: Arc<str>,
    /// Table, unquoted.
    pub table: Arc<str>,
    /// What Postgres sends of the old row.
    pub identity: Identity,
    /// In attribute order.
    pub columns: Vec<Column>,
}

/// `REPLICA IDENTITY` of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Old key values only.
    Default,
    /// Old values of one unique index.
    Index,
    /// The whole old row.
    Full,
    /// Nothing: the source refuses updates and deletes of published rows.
    Nothing,
}

/// One column of a [`Relation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name, unquoted.
    pub name: Arc<str>,
    /// How its values are written in JSON and handed to plugins.
    pub kind: Kind,
    /// Postgres' name of the type, e.g. `timestamptz`, for plugins that must know more.
    pub type_name: Arc<str>,
    /// Whether it belongs to the primary key, or without one to the replica identity index.
    pub key: bool,
}

/// The form of a column's canonical text, decided once per relation version by the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// Decimal digits that fit 64 bits with sign.
    Integer,
    /// A JSON number, or one of `NaN`, `Infinity`, `-Infinity` (written as JSON strings).
    Float,
    /// Any text; also numbers that do not fit, dates, uuids: nothing is rounded.
    Text,
    /// A JSON document: `json`, `jsonb`, arrays, intervals.
    Json,
    /// `\x` and hexadecimal digits.
    Bytes,
}

impl Kind {
    /// All there are.
    pub const ALL: [Self; 6] =
        [Self::Boolean, Self::Integer, Self::Float, Self::Text, Self::Json, Self::Bytes];

    /// The word used in recorded messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Float => "float",
            Self::Text => "text",
            Self::Json => "json",
            Self::Bytes => "bytes",
        }
    }
}

impl Relation {
    /// Indexes of the key columns in attribute order; none if the table has no key.
    pub fn key(&self) -> impl Iterator<Item = usize> + '_ {
        self.columns.iter().enumerate().filter(|(_, column)| column.key).map(|(index, _)| index)
    }

    /// The index of the column of this name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| &*column.name == name)
    }
}
