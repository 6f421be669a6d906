//! A plugin that is a function of a change.

use std::sync::Arc;
use std::time::Duration;

use model::BoxFuture;
use model::change::Change;
use model::page::Value;
use model::plugin::{
    Data, Document, DocumentEffect, Fault, OnError, Outcome, Patch, Plugin, PluginError, Presence,
    Rows, SetColumn,
};

type Judge = Box<dyn Fn(&Change) -> Result<Outcome, PluginError> + Send + Sync>;

struct Function {
    name: &'static str,
    digest: String,
    judge: Judge,
}

pub(crate) fn function(
    judge: impl Fn(&Change) -> Result<Outcome, PluginError> + Send + Sync + 'static,
) -> Arc<dyn Plugin> {
    named("f", judge)
}

pub(crate) fn named(
    name: &'static str,
    judge: impl Fn(&Change) -> Result<Outcome, PluginError> + Send + Sync + 'static,
) -> Arc<dyn Plugin> {
    Arc::new(Function { name, digest: format!("sha256:{name}"), judge: Box::new(judge) })
}

/// A version of the function `f` that sets the column `v` to its number.
pub(crate) fn version(number: u64) -> Arc<dyn Plugin> {
    version_of(number, move |_| Ok(set([("v", text(&number.to_string()))])))
}

/// A version of the function `f`.
pub(crate) fn version_of(
    number: u64,
    judge: impl Fn(&Change) -> Result<Outcome, PluginError> + Send + Sync + 'static,
) -> Arc<dyn Plugin> {
    Arc::new(Function { name: "f", digest: format!("sha256:{number}"), judge: Box::new(judge) })
}

/// A row that goes on with these columns.
pub(crate) fn set<const N: usize>(columns: [(&str, Data); N]) -> Outcome {
    let column = |(name, data): (&str, Data)| SetColumn {
        name: name.into(),
        presence: vec![Presence::Value],
        data,
    };
    let columns = columns.map(column).into();
    Outcome::Set(Patch { columns, only: None, row: 0, below: None })
}

/// The value of one text column.
pub(crate) fn text(text: &str) -> Data {
    Data::Texts(vec![text.to_owned()])
}

/// A plugin's refusal of a row.
pub(crate) fn refusal<T>() -> Result<T, PluginError> {
    Err(PluginError { fault: Fault::Guest, message: "no thanks".to_owned() })
}

/// What a plugin is shown in a column.
pub(crate) fn shown(change: &Change, name: &str) -> Option<String> {
    let index = change.relation.column(name)?;
    match change.row()?.value(index) {
        Value::Text(text) => Some(text.to_owned()),
        Value::Null => Some("null".to_owned()),
        Value::Unchanged => None,
    }
}

/// A document that a transform gives, to be treated as its row.
pub(crate) fn document(json: &str) -> Document {
    Document { effect: DocumentEffect::Usual, json: json.into() }
}

impl Plugin for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn digest(&self) -> &str {
        &self.digest
    }

    fn run(&self, rows: Rows) -> BoxFuture<'_, Vec<Result<Outcome, PluginError>>> {
        let alike = |change: &Change| change.relation == rows.relation;
        assert!(!rows.changes.is_empty() && rows.changes.iter().all(alike), "as the port says");
        let judged = rows.changes.iter().map(|change| (self.judge)(change)).collect();
        Box::pin(async move { judged })
    }
}

/// A filter that keeps every row and takes its time for each call.
pub(crate) fn slow_function(takes: Duration) -> Arc<dyn Plugin> {
    Arc::new(Slow(takes))
}

struct Slow(Duration);

impl Plugin for Slow {
    fn name(&self) -> &str {
        "slow"
    }

    fn digest(&self) -> &str {
        "sha256:s"
    }

    fn run(&self, rows: Rows) -> BoxFuture<'_, Vec<Result<Outcome, PluginError>>> {
        Box::pin(async move {
            tokio::time::sleep_until(tokio::time::Instant::now() + self.0).await;
            rows.changes.iter().map(|_| Ok(Outcome::Keep)).collect()
        })
    }
}

/// A plugin whose owner wants this done with rows that it fails on.
pub(crate) fn owned(plugin: Arc<dyn Plugin>, on_error: OnError) -> Arc<dyn Plugin> {
    Arc::new(Owned(plugin, on_error))
}

struct Owned(Arc<dyn Plugin>, OnError);

impl Plugin for Owned {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn digest(&self) -> &str {
        self.0.digest()
    }

    fn on_error(&self) -> OnError {
        self.1
    }

    fn run(&self, rows: Rows) -> BoxFuture<'_, Vec<Result<Outcome, PluginError>>> {
        self.0.run(rows)
    }
}
