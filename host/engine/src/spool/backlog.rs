//! What of the change log one sink has read.

use std::sync::{Mutex, MutexGuard, PoisonError};

use model::position::Position;
use model::store::Address;
use tokio::sync::Notify;

/// Shared by the sink's reader, the slot, and who trims the log.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    state: Mutex<State>,
    /// Tells the reader that it has to pass something by.
    changed: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// The highest position that was read, or passed.
    read: Position,
    /// Everything of the stream's part below was read.
    at: Address,
    /// What was in the log when the sink was started is read.
    caught_up: bool,
    /// The slot hands the sink its changes as they are read: nothing in the log is for it.
    direct: bool,
    /// Everything of the stream's part below is to be thrown away.
    discard: Address,
}

impl Backlog {
    /// Begins at this address: what is below was read before. If nothing is in the log there is
    /// nothing to catch up with.
    pub(crate) fn new(at: Address, is_empty: bool) -> Self {
        let state = State { at, caught_up: is_empty, ..State::default() };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether all is read up to what went to the log last.
    pub(crate) fn is_read(&self, last: Option<Position>) -> bool {
        let state = self.lock();
        state.caught_up && last.is_none_or(|last| last <= state.read)
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

    pub(super) fn passed(&self, at: Address, high: Position) {
        let mut state = self.lock();
        state.at = state.at.max(at);
        state.read = state.read.max(high);
    }

    /// Whether what was in the log when the sink was started is read.
    pub(super) fn has_caught_up(&self) -> bool {
        self.lock().caught_up
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

    /// Resolves once something is to be thrown away.
    pub(super) async fn told(&self) {
        self.changed.notified().await;
    }
}
