//! A transform that turns a list of names into one boolean column per name.
//!
//! ```yaml
//! functions:
//!   - name: poi-features
//!     type: transform
//!     file: plugins/feature-flags.wasm
//!     config:
//!       table: public.poi
//!       column: features
//!       flags: [wifi, shower]
//!       prefix: has_
//!       unknown: ignore
//! ```
//!
//! makes of `["wifi", "sauna"]` the columns `has_wifi` true and `has_shower` false.
//!
//! - **table**: only rows of this table are touched, named `schema.table`; those of others pass as
//!   they are. Without it, rows of every table are.
//! - **column**: JSON or an array, such as `text[]`, that holds texts; with `separator: ","` also a
//!   text, of whose parts the blanks around them are cut off.
//! - **flags**: the names that become columns, and no others, so that what users write does not make
//!   columns at a destination.
//! - **prefix**: stands before the name in the name of the column; it may be left out.
//! - **unknown**: what becomes of names that are not in `flags`. `ignore` (the default) passes over
//!   them, `fail` fails the row, `{column: other_features}` puts them into that column as a JSON
//!   list.
//!
//! What there is to say of special rows:
//!
//! - **Null**, and an empty list: none of the flags. A null in an array, or an empty name, is passed
//!   over.
//! - **Not sent** (an unchanged TOAST value, or the old row of a delete that is no more than its
//!   key): the columns are left alone.
//! - **Delete**: as any other row, if the list was sent.
//! - **What is not a list of texts**, and a table that has no such column: the row fails.

mod names;
#[cfg(test)]
mod tests;

use std::fmt;

use sequin_plugin::prelude::*;
use sequin_plugin::schemars::JsonSchema;
use sequin_plugin::serde::Deserialize;
use sequin_plugin::serde::de::{self, DeserializeSeed, Deserializer, SeqAccess, Visitor};

use names::Names;

/// See the documentation of the crate.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(crate = "sequin_plugin::serde", from = "Fields")]
#[schemars(crate = "sequin_plugin::schemars", into = "Fields")]
pub struct FeatureFlags {
    fields: Fields,
    /// The name of the column of each flag.
    columns: Vec<String>,
    names: Names,
}

sequin_plugin::config! {
    /// Which columns to make of what.
    struct Fields {
        /// Only rows of this table are touched, named `schema.table`.
        table: Option<String>,
        /// The column with the list.
        column: String,
        /// The names that become columns.
        flags: Vec<String>,
        /// Stands before each name.
        #[serde(default)]
        prefix: String,
        /// Between the names in a column of text.
        separator: Option<String>,
        /// What becomes of names that are not in `flags`.
        #[serde(default)]
        unknown: Unknown,
    }
}

sequin_plugin::config! {
    /// What becomes of names that are not in `flags`.
    #[derive(Default)]
    #[serde(rename_all = "lowercase")]
    enum Unknown {
        /// They are passed over.
        #[default]
        Ignore,
        /// The row fails.
        Fail,
        /// They are listed in this column.
        Column(String),
    }
}

impl From<Fields> for FeatureFlags {
    fn from(fields: Fields) -> Self {
        let columns = fields.flags.iter().map(|flag| format!("{}{flag}", fields.prefix)).collect();
        let names = Names::new(&fields.flags);
        Self { fields, columns, names }
    }
}

impl Plugin for FeatureFlags {
    // What is kept is the configuration, and nothing changes it.
    const WARM: bool = true;

    fn reads(&self) -> Reads {
        let reads = Reads::columns([&self.fields.column]);
        match &self.fields.table {
            Some(table) => reads.of_table(table),
            None => reads,
        }
    }

    fn check(&self) -> Vec<ConfigError> {
        let Fields { table, column, flags, separator, unknown, .. } = &self.fields;
        let mut wrong = Vec::new();
        if table.as_ref().is_some_and(|table| !table.contains('.')) {
            wrong.push(ConfigError::new("table", "expected a name such as `public.poi`"));
        }
        if column.is_empty() {
            wrong.push(ConfigError::new("column", "expected a name"));
        }
        if flags.is_empty() {
            wrong.push(ConfigError::new("flags", "expected one name or more"));
        }
        for (index, flag) in flags.iter().enumerate() {
            if flag.is_empty() || flags[..index].contains(flag) {
                let message = "expected a name that is not empty and occurs once";
                wrong.push(ConfigError::new(format!("flags[{index}]"), message));
            }
        }
        if separator.as_deref() == Some("") {
            wrong.push(ConfigError::new("separator", "expected a text that is not empty"));
        }
        if let Unknown::Column(name) = unknown
            && (name.is_empty() || self.columns.contains(name))
        {
            let message = "expected a name that is not empty and not one of a flag's column";
            wrong.push(ConfigError::new("unknown.column", message));
        }
        wrong
    }
}

impl Transform for FeatureFlags {
    fn transform(&self, row: &Row<'_>, out: &mut Output) -> Result<(), Error> {
        let Fields { column, separator, unknown, .. } = &self.fields;
        let mut found =
            Found { plugin: self, set: vec![false; self.columns.len()], others: vec![] };
        let value = match (separator, row.get(column)?) {
            (Some(separator), Value::Known(Datum::Text(text))) => {
                text.split(separator.as_str()).for_each(|name| found.add(name.trim()));
                Value::Known(())
            }
            _ => row.json_seed(column, &mut found)?,
        };
        if value == Value::Unchanged {
            return Ok(());
        }
        for (name, set) in self.columns.iter().zip(&found.set) {
            out.set_bool(name, *set);
        }
        match unknown {
            Unknown::Ignore => {}
            Unknown::Fail if found.others.is_empty() => {}
            Unknown::Fail => {
                let count = found.others.len();
                let message = format!("it has {count} of the names that are not in `flags`");
                return Err(Error::column(column, message));
            }
            Unknown::Column(name) => out.set_json_of(name, &found.others)?,
        }
        Ok(())
    }
}

/// What is in a list.
struct Found<'a> {
    plugin: &'a FeatureFlags,
    /// Per flag.
    set: Vec<bool>,
    /// Names that are no flags, where somebody wants to know.
    others: Vec<String>,
}

impl Found<'_> {
    fn add(&mut self, name: &str) {
        let FeatureFlags { fields: Fields { unknown, .. }, names, .. } = self.plugin;
        match names.get(name) {
            Some(flag) => self.set[flag] = true,
            None if name.is_empty() || matches!(unknown, Unknown::Ignore) => {}
            None => self.others.push(name.to_owned()),
        }
    }
}

/// Reads the list without building one.
impl<'de> DeserializeSeed<'de> for &mut Found<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Found<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of texts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Name(&mut *self))?.is_some() {}
        Ok(())
    }

    /// JSON's null is as good as SQL's.
    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// One name.
struct Name<'a, 'b>(&'a mut Found<'b>);

impl<'de> DeserializeSeed<'de> for Name<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl Visitor<'_> for Name<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<(), E> {
        self.0.add(name);
        Ok(())
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }
}

sequin_plugin::export_transform!(FeatureFlags);
