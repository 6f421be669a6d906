//! The roles that a plugin can have.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::bindings::types::{self, Batch, Reply};
use crate::view::View;
use crate::{Capability, ConfigError, Error, Output, Reads, Row, output};

/// A plugin with its configuration: the fields of the type are what stands below `config` in
/// `sequin.yaml`. [`config!`](crate::config!) writes the type with all that it needs.
pub trait Plugin: DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// Whether an instance may be used for more than one batch, which saves 40 to 60 µs each time.
    /// The plugin promises that nothing it keeps between batches changes an answer.
    const WARM: bool = false;

    /// What it wants granted: see [`capabilities`](crate::capabilities).
    const CAPABILITIES: &'static [Capability] = &[];

    /// What the plugin reads; other columns are not handed to it.
    fn reads(&self) -> Reads;

    /// All that is wrong with the configuration beyond the types of its fields.
    fn check(&self) -> Vec<ConfigError> {
        Vec::new()
    }
}

/// Decides which rows belong to the set. [`filter!`](crate::filter!) writes one in a few lines;
/// [`export_filter!`](crate::export_filter!) exports it.
pub trait Filter: Plugin {
    /// Judges one row. Deletes never come here: they pass.
    ///
    /// # Errors
    /// Why the row cannot be judged. It then fails alone.
    fn filter(&self, row: &Row<'_>) -> Result<Verdict, Error>;
}

/// Says where a row is sent. [`route!`](crate::route!) writes one in a few lines;
/// [`export_route!`](crate::export_route!) exports it.
pub trait Route: Plugin {
    /// Sets routing keys for one row, which is as it comes from the source, whatever a transform
    /// makes of it. `sink` is the kind of the sink, `webhook` or `kafka`, on which the keys depend;
    /// one that is not set keeps the sink's default.
    ///
    /// # Errors
    /// Why it cannot be said where the row goes. It then fails alone.
    fn route(&self, sink: &str, row: &Row<'_>, keys: &mut Keys<'_>) -> Result<(), Error>;
}

/// Changes what is sent for a row. [`transform!`](crate::transform!) writes one in a few lines;
/// [`export_transform!`](crate::export_transform!) exports it.
pub trait Transform: Plugin {
    /// Changes one row. Deletes do come here.
    ///
    /// # Errors
    /// Why the row cannot be changed. It then fails alone.
    fn transform(&self, row: &Row<'_>, out: &mut Output) -> Result<(), Error>;

    /// Of this table's own columns, those that go on; None: all of them. Columns that the transform
    /// sets go on in any case.
    fn only(&self, _schema: &str, _table: &str) -> Option<Vec<String>> {
        None
    }
}

/// What a filter says of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It belongs to the set.
    Keep,
    /// It is of no interest: nothing is sent, and nothing at the destination changes.
    Drop,
    /// It is outside the set: a destination that holds state removes its document.
    Evict,
}

impl Verdict {
    /// Keeps what is in the set, and evicts the rest.
    #[must_use]
    pub fn keep_if(in_set: bool) -> Self {
        if in_set { Self::Keep } else { Self::Evict }
    }
}

/// Where the row at hand goes: the routing keys that the documentation of a sink lists.
#[derive(Debug)]
pub struct Keys<'a>(&'a mut Output);

impl Keys<'_> {
    /// Sets a key to a text: `keys.set("topic", "pois")`.
    pub fn set(&mut self, key: &str, value: impl AsRef<str>) {
        self.0.set_text(key, value);
    }

    /// Sets a key to a whole number.
    pub fn set_int(&mut self, key: &str, value: i64) {
        self.0.set_int(key, value);
    }

    /// Sets a key to a boolean.
    pub fn set_bool(&mut self, key: &str, value: bool) {
        self.0.set_bool(key, value);
    }

    /// Sets a key to a JSON document, which must be one.
    pub fn set_json(&mut self, key: &str, value: impl AsRef<str>) {
        self.0.set_json(key, value);
    }
}

/// Reads a configuration; an error names the field.
pub(crate) fn parse<T: Plugin>(config: &str) -> Result<T, Vec<ConfigError>> {
    let mut json = serde_json::Deserializer::from_str(config);
    let parsed: T = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { String::new() } else { path };
        vec![ConfigError { field, message: error.into_inner().to_string() }]
    })?;
    json.end().map_err(|error| vec![ConfigError::new("", error.to_string())])?;
    let wrong = parsed.check();
    if wrong.is_empty() { Ok(parsed) } else { Err(wrong) }
}

/// The JSON Schema of a configuration.
pub(crate) fn schema<T: Plugin>() -> String {
    // A map with texts as keys, which can always be written.
    serde_json::to_string(&schemars::schema_for!(T)).unwrap_or_default()
}

/// Judges all rows of a batch.
pub(crate) fn filter<T: Filter>(plugin: &T, batch: &Batch) -> Result<Reply, String> {
    let view = View::new(batch)?;
    let rows = batch.actions.len();
    let mut reply = output::empty(rows);
    for row in 0..rows {
        reply.verdicts.push(match plugin.filter(&Row::new(&view, row)) {
            Ok(Verdict::Keep) => types::Verdict::Keep,
            Ok(Verdict::Drop) => types::Verdict::Drop,
            Ok(Verdict::Evict) => types::Verdict::Evict,
            Err(error) => {
                reply.errors.push(error.of_row(row));
                types::Verdict::Error
            }
        });
    }
    Ok(reply)
}

/// Says where all rows of a batch go.
pub(crate) fn route<T: Route>(plugin: &T, sink: &str, batch: &Batch) -> Result<Reply, String> {
    each(batch, |row, out| plugin.route(sink, row, &mut Keys(out))).map(|out| out.finish(None))
}

/// Changes all rows of a batch.
pub(crate) fn transform<T: Transform>(plugin: &T, batch: &Batch) -> Result<Reply, String> {
    let only = plugin.only(&batch.schema, &batch.table);
    each(batch, |row, out| plugin.transform(row, out)).map(|out| out.finish(only))
}

fn each(
    batch: &Batch,
    mut change: impl FnMut(&Row<'_>, &mut Output) -> Result<(), Error>,
) -> Result<Output, String> {
    let view = View::new(batch)?;
    let rows = batch.actions.len();
    let mut out = Output::new(rows);
    for row in 0..rows {
        out.begin_row(row);
        if let Err(error) = change(&Row::new(&view, row), &mut out) {
            out.fail(error);
        }
    }
    Ok(out)
}
