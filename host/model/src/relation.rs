//! A table as it was at one place in the stream.

use std::sync::{Arc, OnceLock};

use crate::json;

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
    /// The partitioned tables whose partition it is, as far as that is known: the nearest first,
    /// the root last. None if it is no partition, or if Postgres published the row as its root's.
    pub ancestors: Vec<Ancestor>,
    /// What Postgres sends of the old row.
    pub identity: Identity,
    /// In attribute order.
    pub columns: Vec<Column>,
    /// What its messages share: `Rendered::default()` at first.
    pub rendered: Rendered,
}

/// Texts that are the same in all messages of a relation version, made for the first of them. They
/// are no part of what the version is: all are equal.
#[derive(Clone, Debug, Default)]
pub struct Rendered(OnceLock<Texts>);

#[derive(Clone, Debug)]
struct Texts {
    head: Box<str>,
    fields: Box<[Box<str>]>,
}

impl PartialEq for Rendered {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Rendered {}

/// A partitioned table above a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ancestor {
    /// Postgres' id of it.
    pub oid: u32,
    /// Schema, unquoted.
    pub schema: Arc<str>,
    /// Table, unquoted.
    pub table: Arc<str>,
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
    /// The columns with the text that begins each in a JSON object: `,"name":`.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&Column, &str)> {
        self.columns.iter().zip(self.texts().fields.iter().map(|field| &**field))
    }

    /// `"table_schema":…,"table_name":…,`.
    pub(crate) fn head(&self) -> &str {
        &self.texts().head
    }

    fn texts(&self) -> &Texts {
        self.rendered.0.get_or_init(|| {
            let mut head = String::from("\"table_schema\":");
            json::string(&mut head, &self.schema);
            head.push_str(",\"table_name\":");
            json::string(&mut head, &self.table);
            head.push(',');
            let field = |column: &Column| {
                let mut field = String::from(",");
                json::string(&mut field, &column.name);
                field.push(':');
                field.into_boxed_str()
            };
            let fields = self.columns.iter().map(field).collect();
            Texts { head: head.into(), fields }
        })
    }

    /// Indexes of the key columns in attribute order; none if the table has no key.
    pub fn key(&self) -> impl Iterator<Item = usize> + '_ {
        self.columns.iter().enumerate().filter(|(_, column)| column.key).map(|(index, _)| index)
    }

    /// The oid of the table that a reader sees: the root of a partition, else its own.
    #[must_use]
    pub fn root_oid(&self) -> u32 {
        self.ancestors.last().map_or(self.oid, |root| root.oid)
    }

    /// The index of the column of this name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| &*column.name == name)
    }
}
