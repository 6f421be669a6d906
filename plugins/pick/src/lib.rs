//! A transform that renames, drops, keeps, nests and sets columns: the common cases need no code.
//!
//! ```yaml
//! functions:
//!   - name: poi-shape
//!     type: transform
//!     file: plugins/pick.wasm
//!     config:
//!       tables:
//!         public.poi:
//!           only: [id, name]
//!           rename: {description: text}
//!           nest: {address: [street, city]}
//!           set: {source: app, version: 3}
//!         public.user:
//!           drop: [password]
//! ```
//!
//! Rules may also stand without `tables`; they are then for every table that has none of its own.
//! Without either, rows of other tables pass as they are.
//!
//! - **only**: of the table's own columns, these go on, and those that are renamed or nested.
//! - **drop**: these do not. A name that the table does not have is passed over; for what must never
//!   get out, say with `only` what may.
//! - **rename**: old name to new name.
//! - **nest**: makes one JSON object of columns, with their names as keys, in place of them.
//! - **set**: a column with the same value in every row; a list or an object becomes JSON.
//!
//! What there is to say of special rows:
//!
//! - **Null** stays null, under its new name or in its object.
//! - **Not sent** (an unchanged TOAST value): stays absent, under the old name and the new, and never
//!   becomes null. It is missing in a nested object too; a destination that replaces objects as a
//!   whole then loses it there, which `unchanged_values: fetch` at the sink prevents. An object of
//!   which nothing was sent is not set.
//! - **Delete**: as any other row, with what was sent of the old one, which is at least its key.
//! - **A column to rename or nest that the table does not have**: the row fails.
//! - **The values before an update** (`changes` in messages) are written by the engine from the old
//!   row, under the table's names. What is dropped here may still be seen there.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use sequin_plugin::prelude::*;
use sequin_plugin::schemars::JsonSchema;
use sequin_plugin::serde::Deserialize;
use sequin_plugin::serde_json::Value as Json;

/// See the documentation of the crate.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(crate = "sequin_plugin::serde", from = "Fields")]
#[schemars(crate = "sequin_plugin::schemars", into = "Fields")]
pub struct Pick {
    /// By `schema.table`.
    tables: BTreeMap<String, Rules>,
    /// Of all other tables.
    others: Option<Rules>,
}

sequin_plugin::config! {
    /// What to do with the columns of tables.
    struct Fields {
        /// Rules for tables of these names, `schema.table`.
        #[serde(default)]
        tables: BTreeMap<String, Rules>,
        /// Of the table's own columns, those that go on.
        only: Option<Vec<String>>,
        /// Columns that do not go on.
        #[serde(default)]
        drop: Vec<String>,
        /// Old names to new ones.
        #[serde(default)]
        rename: BTreeMap<String, String>,
        /// Names of objects to the columns in them.
        #[serde(default)]
        nest: BTreeMap<String, Vec<String>>,
        /// Columns to their values.
        #[serde(default)]
        set: BTreeMap<String, Json>,
    }
}

sequin_plugin::config! {
    /// What to do with the columns of a table.
    #[derive(Default, PartialEq)]
    struct Rules {
        /// Of the table's own columns, those that go on.
        only: Option<Vec<String>>,
        /// Columns that do not go on.
        #[serde(default)]
        drop: Vec<String>,
        /// Old names to new ones.
        #[serde(default)]
        rename: BTreeMap<String, String>,
        /// Names of objects to the columns in them.
        #[serde(default)]
        nest: BTreeMap<String, Vec<String>>,
        /// Columns to their values.
        #[serde(default)]
        set: BTreeMap<String, Json>,
    }
}

impl From<Fields> for Pick {
    fn from(Fields { tables, only, drop, rename, nest, set }: Fields) -> Self {
        let others = Rules { only, drop, rename, nest, set };
        Self { tables, others: (others != Rules::default()).then_some(others) }
    }
}

impl Pick {
    fn rules(&self, schema: &str, table: &str) -> Option<&Rules> {
        let is = |name: &str| {
            name.strip_prefix(schema).and_then(|rest| rest.strip_prefix('.')) == Some(table)
        };
        let named = self.tables.iter().find(|(name, _)| is(name));
        named.map(|(_, rules)| rules).or(self.others.as_ref())
    }
}

impl Rules {
    /// The columns whose values are needed.
    fn sources(&self) -> impl Iterator<Item = &String> {
        self.rename.keys().chain(self.nest.values().flatten())
    }

    fn check(&self, place: &str, wrong: &mut Vec<ConfigError>) {
        let Self { only, drop, rename, nest, set } = self;
        let mut expect = |good: bool, field: &str, what: &str| {
            if !good {
                wrong.push(ConfigError::new(format!("{place}{field}"), format!("expected {what}")));
            }
        };
        let either = only.is_none() || drop.is_empty();
        expect(either, "drop", "nothing beside `only`, which drops all others");
        for (name, columns) in nest {
            expect(!columns.is_empty(), &format!("nest.{name}"), "one column or more");
        }
        let mut sources: Vec<&String> = self.sources().collect();
        sources.extend(drop);
        for (at, source) in sources.iter().enumerate() {
            let good = !source.is_empty() && !sources[..at].contains(source);
            expect(
                good,
                "",
                &format!("column `{source}` in one of `rename`, `nest`, `drop`, once"),
            );
        }
        let targets: Vec<&String> = rename.values().chain(nest.keys()).chain(set.keys()).collect();
        for (at, target) in targets.iter().enumerate() {
            let once = !target.is_empty() && !targets[..at].contains(target);
            expect(once, "", &format!("one value for the column `{target}`"));
            expect(!drop.contains(target), "drop", &format!("`{target}` not to be set as well"));
        }
    }

    fn apply(&self, row: &Row<'_>, out: &mut Output) -> Result<(), Error> {
        // All are taken away before any is set: columns may change their names round about.
        for column in &self.drop {
            out.remove(column);
        }
        for column in self.sources() {
            // What was not sent stays what it is: not known, under no name.
            if row.get(column)? != Value::Unchanged {
                out.remove(column);
            }
        }
        for (column, name) in &self.rename {
            out.copy(name, row.get(column)?);
        }
        for (name, columns) in &self.nest {
            if let Some(object) = object(row, columns)? {
                out.set_json(name, object);
            }
        }
        for (name, value) in &self.set {
            set(out, name, value)?;
        }
        Ok(())
    }
}

/// The columns as one object; None if nothing of it was sent.
fn object(row: &Row<'_>, columns: &[String]) -> Result<Option<String>, Error> {
    let mut json = String::new();
    for column in columns {
        let value = match row.get(column)? {
            Value::Unchanged => continue,
            Value::Null => Datum::Json("null"),
            Value::Known(value) => value,
        };
        json.push(if json.is_empty() { '{' } else { ',' });
        Datum::Text(column).push_json(&mut json);
        json.push(':');
        value.push_json(&mut json);
    }
    if json.is_empty() {
        return Ok(None);
    }
    json.push('}');
    Ok(Some(json))
}

fn set(out: &mut Output, name: &str, value: &Json) -> Result<(), Error> {
    match value {
        Json::Null => out.set_null(name),
        Json::Bool(value) => out.set_bool(name, *value),
        Json::String(value) => out.set_text(name, value),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(value), _) => out.set_int(name, value),
            (None, Some(value)) if number.is_f64() => out.set_float(name, value),
            _ => out.set_json_of(name, number)?,
        },
        Json::Array(_) | Json::Object(_) => out.set_json_of(name, value)?,
    }
    Ok(())
}

impl Plugin for Pick {
    // What is kept is the configuration, and nothing changes it.
    const WARM: bool = true;

    fn reads(&self) -> Reads {
        let of = |rules: &Rules| Reads::columns(rules.sources());
        let others = self.others.as_ref().map_or_else(Reads::no_table, of);
        let tables = self.tables.iter();
        tables.fold(others, |reads, (name, rules)| reads.and(of(rules).of_table(name)))
    }

    fn check(&self) -> Vec<ConfigError> {
        let mut wrong = Vec::new();
        if self.tables.is_empty() && self.others.is_none() {
            wrong.push(ConfigError::new("", "expected a rule, or `tables` with rules"));
        }
        if let Some(rules) = &self.others {
            rules.check("", &mut wrong);
        }
        for (name, rules) in &self.tables {
            let place = format!("tables.{name}");
            if !name.contains('.') {
                wrong.push(ConfigError::new(&*place, "expected a name such as `public.poi`"));
            }
            rules.check(&format!("{place}."), &mut wrong);
        }
        // What is wrong with rules as a whole stands at their place, and not at a field.
        for error in &mut wrong {
            error.field.truncate(error.field.trim_end_matches('.').len());
        }
        wrong
    }
}

impl Transform for Pick {
    fn transform(&self, row: &Row<'_>, out: &mut Output) -> Result<(), Error> {
        match self.rules(row.schema(), row.table()) {
            Some(rules) => rules.apply(row, out),
            None => Ok(()),
        }
    }

    fn only(&self, schema: &str, table: &str) -> Option<Vec<String>> {
        let rules = self.rules(schema, table)?;
        let only = rules.only.as_ref()?;
        // A value that was not sent is to be missed under its old name, not forgotten: the document
        // then completes what is there.
        Some(only.iter().chain(rules.sources()).cloned().collect())
    }
}

sequin_plugin::export_transform!(Pick);
