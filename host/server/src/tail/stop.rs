//! When it is time to end: a signal, the time that was given, or nobody who reads.

use std::io::stdout;
use std::os::fd::AsFd as _;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::Interest;
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

/// Listens from its making on.
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    /// None where its end cannot be noticed: a file.
    output: Option<pipe::Sender>,
    seconds: Option<u64>,
    deadline: Option<Instant>,
    requested: bool,
}

impl Stop {
    pub(super) fn listen(seconds: Option<u64>) -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            // The terminal is gone: what was made for the run must go too.
            hangup: listen(SignalKind::hangup())?,
            output: output(),
            seconds,
            deadline: None,
            requested: false,
        })
    }

    /// The stream is open: the time that was given begins.
    pub(super) fn begin(&mut self) {
        if let Some(seconds) = self.seconds.take() {
            self.deadline = Instant::now().checked_add(Duration::from_secs(seconds));
        }
    }

    /// Returns when it is time to end, and from then on at once. Cancel-safe.
    pub(super) async fn requested(&mut self) {
        if !self.requested {
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
                _ = self.hangup.recv() => {}
                () = nobody_reads(self.output.as_ref()) => {}
                () = at(self.deadline) => {}
            }
            self.requested = true;
        }
    }
}

/// Returns when standard output is a pipe and its other end is closed: `| head -1` is to end now,
/// not with the next change.
async fn nobody_reads(output: Option<&pipe::Sender>) {
    let closed = match output {
        Some(output) => output.ready(Interest::ERROR).await.is_ok_and(|ready| ready.is_error()),
        None => false,
    };
    if !closed {
        std::future::pending::<()>().await;
    }
}

/// Standard output, to be watched and not to be written: it stays as blocking as it was, for the
/// programs that share it.
fn output() -> Option<pipe::Sender> {
    let copy = stdout().as_fd().try_clone_to_owned().ok()?;
    pipe::Sender::from_owned_fd_unchecked(copy).ok()
}

/// At that time, or never.
pub(super) async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
