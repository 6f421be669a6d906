//! Calls of a guest to what it was granted.
//!
//! Guarantees that nothing answers but what was granted, and only while rows are judged (secrets also
//! while it is configured); that a batch has so many calls and no more; that a call which waits is
//! given up when the time of the batch for waiting is over, with the guest; and that what a guest
//! writes to its store stays only if its whole call was good.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use model::BoxFuture;
use model::grants::{
    CallError, Capability, Failure, FoundRow, Grants, HttpRequest, HttpResponse, RowsQuery, Writes,
};
use rustix::time::ClockId;

use crate::budget::{Stop, Time, now};
use crate::limits::Limits;

/// Of one call for random bytes: as the contract says.
const RANDOM_BYTES_MAX: usize = 4 << 10;
/// Of a key of the store, in bytes: as the contract says.
pub(crate) const KEY_BYTES_MAX: usize = 256;
/// Of a value of the store, in bytes: as the contract says.
pub(crate) const VALUE_BYTES_MAX: usize = 64 << 10;
/// What one batch may write, in bytes.
const WRITTEN_BYTES_MAX: usize = 1 << 20;
/// Rows of one question, and columns, and columns of its key.
const LOOKUP_KEYS_MAX: usize = 1_000;
const LOOKUP_COLUMNS_MAX: usize = 100;

/// What the guest is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its start functions, or it says what it is.
    Start,
    /// It takes its configuration.
    Configure,
    /// It judges rows.
    Run,
}

/// What one instance may call.
#[derive(Debug)]
pub(crate) struct Calls {
    grants: Arc<Grants>,
    /// Nothing outside is to change.
    is_aside: bool,
    phase: Phase,
    left: u32,
    wait_max: Duration,
    waited: Duration,
    writes: Writes,
    written_bytes: usize,
}

/// Why a call has no answer: for the guest, or with its end.
#[derive(Debug)]
pub(crate) enum Unanswered {
    Error(CallError),
    Stop(Stop),
}

type Answer<T> = Result<T, Unanswered>;

impl From<CallError> for Unanswered {
    fn from(error: CallError) -> Self {
        Self::Error(error)
    }
}

fn error<T>(failure: Failure, message: impl Into<String>) -> Answer<T> {
    Err(CallError::new(failure, message).into())
}

impl Calls {
    /// For one batch.
    pub(crate) fn new(grants: Arc<Grants>, is_aside: bool, limits: &Limits) -> Self {
        Self {
            grants,
            is_aside,
            phase: Phase::Start,
            left: limits.calls_max,
            wait_max: limits.wait_max,
            waited: Duration::ZERO,
            writes: Writes::new(),
            written_bytes: 0,
        }
    }

    /// For a guest that is granted nothing.
    pub(crate) fn none(limits: &Limits) -> Self {
        Self::new(Arc::default(), false, limits)
    }

    /// With less time to wait.
    pub(crate) fn waiting(mut self, wait_max: Duration) -> Self {
        self.wait_max = self.wait_max.min(wait_max);
        self
    }

    pub(crate) fn enter(&mut self, phase: Phase) {
        self.phase = phase;
    }

    /// Counts a call, if it may be made.
    fn begin<'a, T: ?Sized>(
        &mut self,
        capability: Capability,
        of: impl FnOnce(&'a Grants) -> Option<&'a Arc<T>>,
        grants: &'a Grants,
    ) -> Answer<&'a T> {
        let Some(left) = self.left.checked_sub(1) else {
            return error(Failure::Exhausted, "the calls of this batch are used up");
        };
        self.left = left;
        let now = match self.phase {
            Phase::Run => true,
            Phase::Configure => capability == Capability::Secrets,
            Phase::Start => false,
        };
        if !now {
            let message = format!("`{capability}` has no answer before rows are judged");
            return error(Failure::Denied, message);
        }
        match of(grants) {
            Some(granted) => Ok(granted),
            None => error(Failure::Denied, format!("`{capability}` is not granted")),
        }
    }

    pub(crate) fn clock(&mut self) -> Answer<i64> {
        let grants = Arc::clone(&self.grants);
        let clock = self.begin(Capability::Clock, |grants| grants.clock.as_ref(), &grants)?;
        Ok(clock.now_us()?)
    }

    pub(crate) fn random(&mut self, count: u32) -> Answer<Vec<u8>> {
        let grants = Arc::clone(&self.grants);
        let random = self.begin(Capability::Random, |grants| grants.random.as_ref(), &grants)?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > RANDOM_BYTES_MAX {
            let message = format!("{count} random bytes at once, and {RANDOM_BYTES_MAX} may be");
            return error(Failure::TooLarge, message);
        }
        let mut bytes = vec![0; count];
        random.fill(&mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn secret(&mut self, name: &str) -> Answer<String> {
        let grants = Arc::clone(&self.grants);
        let secrets = self.begin(Capability::Secrets, |grants| grants.secrets.as_ref(), &grants)?;
        Ok(secrets.get(name)?)
    }

    pub(crate) fn kv_get(&mut self, time: &Time, key: &str) -> Answer<Option<Vec<u8>>> {
        let grants = Arc::clone(&self.grants);
        let kv = self.begin(Capability::Kv, |grants| grants.kv.as_ref(), &grants)?;
        check_key(key)?;
        if let Some(written) = self.writes.get(key) {
            return Ok(written.clone());
        }
        Ok(self.wait(time, kv.get(key))??)
    }

    /// A value, or None to delete.
    pub(crate) fn kv_write(&mut self, key: String, value: Option<Vec<u8>>) -> Answer<()> {
        let grants = Arc::clone(&self.grants);
        self.begin(Capability::Kv, |grants| grants.kv.as_ref(), &grants)?;
        check_key(&key)?;
        let bytes = value.as_ref().map_or(0, Vec::len);
        if bytes > VALUE_BYTES_MAX {
            let message = format!("a value of {bytes} bytes, and {VALUE_BYTES_MAX} may be");
            return error(Failure::TooLarge, message);
        }
        let size =
            |key: &str, value: &Option<Vec<u8>>| key.len() + value.as_ref().map_or(0, Vec::len);
        let before = self.writes.get(&key).map_or(0, |value| size(&key, value));
        let after = self.written_bytes.saturating_sub(before).saturating_add(size(&key, &value));
        if after > WRITTEN_BYTES_MAX {
            let message = format!("a batch may write {WRITTEN_BYTES_MAX} bytes to its store");
            return error(Failure::TooLarge, message);
        }
        self.written_bytes = after;
        self.writes.insert(key, value);
        Ok(())
    }

    /// Keeps what was written, now that the call was good.
    pub(crate) fn commit(&mut self, time: &Time) -> Answer<()> {
        self.written_bytes = 0;
        let writes = std::mem::take(&mut self.writes);
        let grants = Arc::clone(&self.grants);
        match &grants.kv {
            Some(kv) if !writes.is_empty() && !self.is_aside => {
                Ok(self.wait(time, kv.write(writes))??)
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn http(&mut self, time: &Time, request: HttpRequest) -> Answer<HttpResponse> {
        let grants = Arc::clone(&self.grants);
        let http = self.begin(Capability::Http, |grants| grants.http.as_ref(), &grants)?;
        let changes = !matches!(&*request.method, "GET" | "HEAD");
        if self.is_aside && changes {
            let message =
                "a plugin in the shadow may GET and HEAD only: nothing outside is to change";
            return error(Failure::Denied, message);
        }
        Ok(self.wait(time, http.send(request))??)
    }

    pub(crate) fn rows(&mut self, time: &Time, query: RowsQuery) -> Answer<Vec<Option<FoundRow>>> {
        let grants = Arc::clone(&self.grants);
        let lookup = self.begin(Capability::Lookup, |grants| grants.lookup.as_ref(), &grants)?;
        let (keys, columns) = (query.keys.len(), query.columns.len().max(query.key.len()));
        if keys > LOOKUP_KEYS_MAX || columns > LOOKUP_COLUMNS_MAX {
            let message = format!(
                "a question has at most {LOOKUP_KEYS_MAX} keys and {LOOKUP_COLUMNS_MAX} columns"
            );
            return error(Failure::TooLarge, message);
        }
        if query.key.is_empty() || query.keys.iter().any(|key| key.len() != query.key.len()) {
            let message = "each key has as many values as there are key columns, and at least one";
            return error(Failure::Invalid, message);
        }
        Ok(self.wait(time, lookup.rows(query))??)
    }

    /// Waits on this thread, no longer than there is time.
    fn wait<T>(&mut self, time: &Time, future: BoxFuture<'_, T>) -> Answer<T> {
        let begun = now(ClockId::Monotonic);
        let left = self.wait_max.saturating_sub(self.waited);
        let found = block(future, left.min(time.wall_left()));
        self.waited += now(ClockId::Monotonic).saturating_sub(begun);
        found.ok_or(Unanswered::Stop(Stop::Wait(self.wait_max)))
    }
}

fn check_key(key: &str) -> Answer<()> {
    match key.len() {
        0 => error(Failure::Invalid, "a key is empty"),
        bytes if bytes > KEY_BYTES_MAX => {
            error(Failure::TooLarge, format!("a key of {bytes} bytes, and {KEY_BYTES_MAX} may be"))
        }
        _ => Ok(()),
    }
}

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The future's answer, if it comes in this time. It needs no runtime on this thread: whatever is
/// behind it has its own.
fn block<T>(mut future: BoxFuture<'_, T>, left: Duration) -> Option<T> {
    let until = now(ClockId::Monotonic).saturating_add(left);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(found) = future.as_mut().poll(&mut context) {
            return Some(found);
        }
        let left = until.saturating_sub(now(ClockId::Monotonic));
        if left.is_zero() {
            return None;
        }
        std::thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_waited_for_no_longer_than_there_is_time() {
        assert_eq!(block(Box::pin(async { 7 }), Duration::ZERO), Some(7));
        let never: BoxFuture<'_, ()> = Box::pin(std::future::pending());
        assert_eq!(block(never, Duration::from_millis(20)), None);
        let (send, receive) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || send.send(3));
        let found = block(Box::pin(receive), Duration::from_secs(60));
        assert_eq!(found.unwrap().unwrap(), 3);
        thread.join().unwrap().unwrap();
    }

    #[test]
    fn b269_nothing_answers_that_is_not_granted_or_before_rows_are_judged() {
        struct One;
        impl model::grants::Secrets for One {
            fn get(&self, _: &str) -> Result<String, CallError> {
                Ok("s".to_owned())
            }
        }
        impl model::grants::Clock for One {
            fn now_us(&self) -> Result<i64, CallError> {
                Ok(1)
            }
        }
        let failure = |unanswered| match unanswered {
            Unanswered::Error(error) => error.failure,
            Unanswered::Stop(stop) => panic!("{stop}"),
        };
        let limits = Limits { calls_max: 6, ..Limits::default() };
        let grants = Grants {
            secrets: Some(Arc::new(One)),
            clock: Some(Arc::new(One)),
            ..Grants::default()
        };
        let mut calls = Calls::new(Arc::new(grants), false, &limits);
        assert_eq!(calls.secret("a").map_err(failure), Err(Failure::Denied));
        calls.enter(Phase::Configure);
        assert_eq!(calls.secret("a").map_err(failure), Ok("s".to_owned()));
        assert_eq!(calls.clock().map_err(failure), Err(Failure::Denied));
        calls.enter(Phase::Run);
        assert_eq!(calls.clock().map_err(failure), Ok(1));
        assert_eq!(calls.random(1).map_err(failure), Err(Failure::Denied));
        calls.clock().unwrap();
        assert_eq!(calls.clock().map_err(failure), Err(Failure::Exhausted));
    }
}
