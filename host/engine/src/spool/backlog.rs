//! What of the change log one sink has read.

use std::sync::{Mutex, MutexGuard, PoisonError};

use model::store::Address;
use tokio::sync::Notify;

use super::before::Before;

/// What went to the log for one sink, in all its versions. Positions would not do: what an earlier
/// process left there may go beyond what is sent again.
#[derive(Debug, Default)]
pub(crate) struct Sent(Mutex<Under>);

#[derive(Clone, Copy, Debug, Default)]
struct Under {
    /// Batches that are not written yet.
    way: usize,
    /// Behind the last one that is.
    written: Address,
}

impl Sent {
    fn lock(&self) -> MutexGuard<'_, Under> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A batch with something for it is on its way.
    pub(crate) fn send(&self) {
        self.lock().way += 1;
    }

    /// A batch with something for it is in the log, and ends there.
    pub(super) fn write(&self, end: Address) {
        let mut under = self.lock();
        under.way = under.way.saturating_sub(1);
        under.written = under.written.max(end);
    }

    /// Behind the last of all; None while something is on its way.
    fn written(&self) -> Option<Address> {
        let under = self.lock();
        (under.way == 0).then_some(under.written)
    }
}

/// Shared by the sink's reader, the slot, and who trims the log.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    state: Mutex<State>,
    /// What was kept for it before it was started.
    pub(super) before: Before,
    /// Tells the reader that it has to pass something by.
    changed: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Everything of the stream's part below was read.
    at: Address,
    /// What was in the log when the sink was started is read.
    caught_up: bool,
    /// The slot hands the sink its changes as they are read: nothing in the log is for it.
    direct: bool,
    /// Everything of the stream's part below is to be thrown away.
    discard: Address,
    /// Somebody reads it.
    has_reader: bool,
}

impl Backlog {
    /// Begins at this address: what is below was read before. If nothing is in the log there is
    /// nothing to catch up with.
    pub(crate) fn new(at: Address, is_empty: bool) -> Self {
        let state = State { at, caught_up: is_empty, ..State::default() };
        let before = if is_empty { Before::nothing() } else { Before::default() };
        Self { state: Mutex::new(state), before, changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether all is read that went to the log.
    pub(crate) fn is_read(&self, sent: &Sent) -> bool {
        let state = self.lock();
        state.caught_up && sent.written().is_some_and(|written| written <= state.at)
    }

    /// Whether the slot hands the sink its changes itself, from now on. Said before anything for it
    /// is appended to the log.
    pub(crate) fn set_direct(&self, direct: bool) {
        self.lock().direct = direct;
    }

    /// Where it stands. While nothing in the log is for it, that is the end of it.
    pub(crate) fn at(&self, end: impl FnOnce() -> Address) -> Address {
        let mut state = self.lock();
        if state.direct {
            // Nothing for it was appended before this lock was taken.
            state.at = state.at.max(end());
        }
        state.at
    }

    pub(super) fn passed(&self, at: Address) {
        let mut state = self.lock();
        state.at = state.at.max(at);
    }

    pub(super) fn catch_up(&self) {
        self.lock().caught_up = true;
    }

    /// What is below is to be thrown away.
    pub(super) fn discard(&self, below: Address) {
        {
            let mut state = self.lock();
            state.discard = state.discard.max(below);
        }
        self.changed.notify_one();
    }

    pub(super) fn discarded(&self) -> Address {
        self.lock().discard
    }

    /// Somebody reads it, as long as this is held.
    pub(super) fn reading(&self) -> Reading<'_> {
        self.lock().has_reader = true;
        Reading(self)
    }

    /// Whether somebody reads it, and so passes by himself what is to be thrown away.
    pub(super) fn has_reader(&self) -> bool {
        self.lock().has_reader
    }

    /// Resolves once something is to be thrown away.
    pub(super) async fn told(&self) {
        self.changed.notified().await;
    }
}

/// See [`Backlog::reading`].
pub(super) struct Reading<'a>(&'a Backlog);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.lock().has_reader = false;
    }
}
