//! A plugin that is a function of a change.

use model::BoxFuture;
use model::change::Change;
use model::plugin::{Outcome, Plugin, PluginError, Rows};

type Judge = Box<dyn Fn(&Change) -> Result<Outcome, PluginError> + Send + Sync>;

pub(crate) struct Function(Judge);

impl Function {
    pub(crate) fn new(
        judge: impl Fn(&Change) -> Result<Outcome, PluginError> + Send + Sync + 'static,
    ) -> std::sync::Arc<dyn Plugin> {
        std::sync::Arc::new(Self(Box::new(judge)))
    }
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
