//! What the owner of a function wants done with rows that it fails on.

use std::sync::Arc;

use model::BoxFuture;
use model::plugin::{Cost, OnError, Outcome, Plugin, PluginError, Rows, TableReads};

/// A plugin, and what its owner wants done with rows that it fails on.
struct Owned {
    plugin: Arc<dyn Plugin>,
    on_error: OnError,
}

impl Plugin for Owned {
    fn name(&self) -> &str {
        self.plugin.name()
    }

    fn digest(&self) -> &str {
        self.plugin.digest()
    }

    fn cost(&self) -> Option<Cost> {
        self.plugin.cost()
    }

    fn is_deterministic(&self) -> bool {
        self.plugin.is_deterministic()
    }

    fn on_error(&self) -> OnError {
        self.on_error
    }

    fn reads(&self) -> Vec<TableReads> {
        self.plugin.reads()
    }

    fn run(&self, rows: Rows) -> BoxFuture<'_, Vec<Result<Outcome, PluginError>>> {
        self.plugin.run(rows)
    }
}

pub(super) fn with_policy(plugin: Arc<dyn Plugin>, on_error: OnError) -> Arc<dyn Plugin> {
    match on_error {
        OnError::DeadLetter => plugin,
        on_error => Arc::new(Owned { plugin, on_error }),
    }
}
