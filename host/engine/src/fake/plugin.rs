//! A plugin that is a function of a change.

use std::sync::Arc;
use std::time::Duration;

use model::BoxFuture;
use model::change::Change;
use model::plugin::{Document, DocumentEffect, Outcome, Plugin, PluginError, Rows};

type Judge = Box<dyn Fn(&Change) -> Result<Outcome, PluginError> + Send + Sync>;

struct Function(Judge);

pub(crate) fn function(
    judge: impl Fn(&Change) -> Result<Outcome, PluginError> + Send + Sync + 'static,
) -> Arc<dyn Plugin> {
    Arc::new(Function(Box::new(judge)))
}

/// A document that a transform gives, to be treated as its row.
pub(crate) fn document(json: &str) -> Document {
    Document { effect: DocumentEffect::Usual, json: json.into() }
}

impl Plugin for Function {
    fn name(&self) -> &str {
        "function"
    }

    fn digest(&self) -> &str {
        "sha256:f"
    }

    fn run(&self, rows: Rows) -> BoxFuture<'_, Vec<Result<Outcome, PluginError>>> {
        let judged = rows.changes.iter().map(|change| (self.0)(change)).collect();
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
