//! A child process that ends with the value that stands for it.
//!
//! Dropping it sends its parting signal, waits for a bounded time, then kills it: also when a test
//! panics. If this process itself is killed, nobody is left to do that; as children stay in its
//! process group, what ends the group (nextest's timeout, a Ctrl-C in a terminal) ends them too.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, kill_process};

pub use rustix::process::Signal;

use crate::until;

/// How long a dropped process may take to end by itself.
const PARTING: Duration = Duration::from_secs(10);

static OWN_GROUPS: AtomicBool = AtomicBool::new(false);

/// From now on, children are started in process groups of their own: a Ctrl-C reaches this process
/// only, which can then end them in order. For the demo; in tests it would let children outlive a
/// killed test.
pub fn use_own_groups() {
    OWN_GROUPS.store(true, Ordering::Relaxed);
}

/// A running child, or one that has ended and not been forgotten.
pub struct Process {
    name: &'static str,
    child: Child,
    parting: Signal,
}

impl Process {
    /// Starts it. `parting` is the signal that a drop sends.
    pub fn spawn(name: &'static str, command: &mut Command, parting: Signal) -> Result<Self> {
        if OWN_GROUPS.load(Ordering::Relaxed) {
            command.process_group(0);
        }
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { name, child, parting })
    }

    /// The kernel's number of it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("look after {}", self.name))
    }

    /// Sends a signal, unless it has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.exited()?.is_some() {
            return Ok(());
        }
        // It has not been waited for, so the id is still its own.
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).with_context(|| format!("signal {}", self.name))
    }

    /// Waits until it ends.
    pub async fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let what = format!("{} to end", self.name);
        until(&what, deadline, async || {
            Ok(self.exited()?.ok_or_else(|| String::from("still running")))
        })
        .await
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub async fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.wait(PARTING).await?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let pid = Pid::from_child(&self.child);
        let child = &mut self.child;
        // A stopped process would not see any signal but SIGKILL.
        let signals = [self.parting, Signal::CONT];
        let sent = signals.map(|signal| kill_process(pid, signal).is_ok());
        let (ended, end) = mpsc::sync_channel(1);
        std::thread::scope(|scope| {
            scope.spawn(move || ended.send(child.wait()).ok());
            if !sent.contains(&true) || end.recv_timeout(PARTING).is_err() {
                kill_process(pid, Signal::KILL).ok();
            }
        });
    }
}
