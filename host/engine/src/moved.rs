//! Edits under which sinks, functions and databases go by other names and keep what is kept of them.
//!
//! All that is kept goes by name. So the slots that write under such a name end first, in order;
//! then whoever keeps it gives it its new name, all at once; and the slots begin again with what they
//! find under it. Slots of other databases notice nothing. A kill leaves what was kept as it was
//! before, or as it is then: both are what an orderly stop leaves.

use std::sync::Arc;

use model::BoxFuture;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::run::{Engine, Run};
use crate::spec::SlotSpec;

/// What is to go by another name.
pub struct Moving {
    /// Databases whose slots write under one of the names, by what they are called so far.
    pub stop: Vec<Arc<str>>,
    /// Which.
    pub names: Names,
    /// Gives what is kept its new names, once nobody writes to it: all of it, or nothing.
    pub record: Box<dyn FnOnce() -> BoxFuture<'static, Result<(), String>> + Send>,
}

/// What goes by another name.
#[derive(Debug, Default)]
pub struct Names {
    /// Sinks.
    pub sinks: Vec<MovedSink>,
    /// Functions: what they were called, and are.
    pub functions: Vec<(Arc<str>, Arc<str>)>,
    /// Databases, likewise.
    pub databases: Vec<(Arc<str>, Arc<str>)>,
}

/// A sink that goes by another name.
#[derive(Debug)]
pub struct MovedSink {
    /// What it was called.
    pub from: Arc<str>,
    /// What it is called.
    pub to: Arc<str>,
    /// Its id by now.
    pub id: Arc<str>,
}

/// Why the names are as they were.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotMoved {
    /// Something under way goes by one of them.
    #[error("{0}")]
    Busy(String),
    /// They were not recorded.
    #[error("the names are not recorded: {0}")]
    NotRecorded(String),
}

impl Names {
    pub(crate) fn sink(&self, name: &str) -> Option<&MovedSink> {
        self.sinks.iter().find(|sink| *sink.from == *name)
    }

    pub(crate) fn function(&self, name: &str) -> Option<&Arc<str>> {
        to(&self.functions, name)
    }

    pub(crate) fn database(&self, name: &str) -> Option<&Arc<str>> {
        to(&self.databases, name)
    }
}

fn to<'a>(names: &'a [(Arc<str>, Arc<str>)], name: &str) -> Option<&'a Arc<str>> {
    names.iter().find(|(from, _)| **from == *name).map(|(_, to)| to)
}

impl Engine {
    /// Gives what is kept its new names. The slots that it is of have ended then, and are begun by
    /// whoever makes these slots run; where it is refused they run again as they did.
    pub(crate) async fn rename(
        &mut self,
        Moving { stop, names, record }: Moving,
        slots: &[SlotSpec],
        cancelled: &CancellationToken,
    ) -> Result<(), NotMoved> {
        let (backfills, rollouts) = (self.backfills.clone(), self.rollouts.clone());
        let _no_rollout_begins = rollouts.alone().await;
        if let Some(rollout) = rollouts.under(&names) {
            return Err(NotMoved::Busy(format!(
                "rollout {} of function `{}` is {} on sink `{}`: let the configuration name its \
                 version, or abort it, and wait until no row needs it any more; then rename",
                rollout.id,
                rollout.function,
                rollout.state.as_str(),
                rollout.sink
            )));
        }
        // What is read later is read under the new names.
        let loaded = backfills.load().await;
        loaded.map_err(|error| NotMoved::NotRecorded(error.to_string()))?;
        let stopped = self.stop(&stop).await;
        let _no_backfill_begins = backfills.alone().await;
        if let Err(why) = record().await {
            error!(why, "the names are not recorded: what ran goes on");
            for Run { spec, status, wanted, .. } in stopped {
                let wanted = Arc::clone(&wanted.borrow());
                let run = self.begin(spec, status, wanted, cancelled);
                self.runs.push(run);
            }
            return Err(NotMoved::NotRecorded(why));
        }
        backfills.rename(&names);
        rollouts.rename(&names);
        // Before somebody is let in who knows the old names only.
        self.tell(slots).await;
        Ok(())
    }

    /// Ends the slots of these databases in order.
    async fn stop(&mut self, databases: &[Arc<str>]) -> Vec<Run> {
        let is_meant = |run: &mut Run| databases.contains(&run.spec.database);
        let mut stopped: Vec<Run> = self.runs.extract_if(.., is_meant).collect();
        for run in &stopped {
            info!(slot.name = %run.status.name, "the slot's run ends: something of it is renamed");
            run.stop.cancel();
        }
        for run in &mut stopped {
            // A panic was told by the supervisor.
            drop((&mut run.task).await);
        }
        stopped
    }
}
