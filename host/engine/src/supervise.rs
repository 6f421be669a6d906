//! The one place that spawns tasks. Each has a kind, a name and a policy for its panic.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::error;

/// The kinds of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKind {
    /// Reads a slot and hands changes over.
    Slot,
    /// Runs the plugins of one sink.
    Intake,
    /// Delivers for one sink.
    Deliver,
    /// Reads the change log for one sink.
    Spool,
    /// Writes the change log of one slot, or looks after it.
    Log,
    /// Records progress of one slot.
    Progress,
    /// Reads a table for one sink, or sees to it that somebody does.
    Backfill,
    /// Answers HTTP requests.
    Serve,
    /// Takes up changes of the configuration.
    Reload,
    /// Looks once whether a destination answers.
    Check,
    /// Sends letters again.
    Replay,
    /// Judges how all of it is.
    Health,
    /// Shows rows to another version of a function.
    Rollout,
}

impl TaskKind {
    /// What a panic of such a task means.
    #[must_use]
    pub const fn on_panic(self) -> OnPanic {
        match self {
            // Without it nothing moves, and what it knew is gone: a new process reads it again.
            Self::Slot | Self::Progress | Self::Log | Self::Serve | Self::Reload => {
                OnPanic::StopProcess
            }
            // The neighbours must not notice. What it owed stays unconfirmed at the source.
            Self::Intake | Self::Deliver | Self::Spool => OnPanic::StopSink,
            // A backfill is shown as failed.
            Self::Check | Self::Replay | Self::Health | Self::Backfill | Self::Rollout => {
                OnPanic::GoOn
            }
        }
    }
}

/// What a panic means for the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnPanic {
    /// The process stops in order and says so with its exit status.
    StopProcess,
    /// The sink is shown as stopped; everything else goes on.
    StopSink,
    /// It is logged; nothing depends on the task.
    GoOn,
}

/// Spawns tasks and tells when the process must stop because of one.
#[derive(Clone, Debug, Default)]
pub struct Supervisor {
    fatal: CancellationToken,
}

impl Supervisor {
    /// Cancelled once a task whose panic stops the process has panicked.
    #[must_use]
    pub fn fatal(&self) -> &CancellationToken {
        &self.fatal
    }

    /// Spawns a task. The handle resolves to None if it panicked.
    pub fn spawn<F>(&self, kind: TaskKind, name: &str, task: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.spawn_watched(kind, name, task, |_| ())
    }

    /// Spawns a task; `on_panic` is told the text of its panic.
    pub fn spawn_watched<F>(
        &self,
        kind: TaskKind,
        name: &str,
        task: F,
        on_panic: impl FnOnce(&str) + Send + 'static,
    ) -> JoinHandle<Option<F::Output>>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let fatal = self.fatal.clone();
        let name = name.to_owned();
        let guarded = async move {
            match AssertUnwindSafe(task).catch_unwind().await {
                Ok(output) => Some(output),
                Err(panic) => {
                    let panic = text_of(&*panic);
                    error!(task.kind = ?kind, task.name = name, panic, "a task panicked");
                    on_panic(panic);
                    if kind.on_panic() == OnPanic::StopProcess {
                        fatal.cancel();
                    }
                    None
                }
            }
        };
        #[expect(clippy::disallowed_methods, reason = "this is the place that may spawn")]
        tokio::spawn(guarded)
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_stops_what_its_kind_says() {
        let supervisor = Supervisor::default();
        let sink = supervisor.spawn(TaskKind::Deliver, "a", async { panic!("as planned") });
        assert_eq!(sink.await.unwrap(), None::<()>);
        assert!(!supervisor.fatal().is_cancelled());
        let slot = supervisor.spawn(TaskKind::Slot, "b", async { panic!("as planned") });
        assert_eq!(slot.await.unwrap(), None::<()>);
        assert!(supervisor.fatal().is_cancelled());
    }
}
