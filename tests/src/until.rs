//! Waiting for something to become true.
//!
//! The only place that sleeps. A wait ends as soon as the probe says so, and when it does not, the
//! error says what was awaited and how far it got.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, timeout_at};

/// Short enough not to be felt, long enough to leave the processor to what is awaited.
const INTERVAL: Duration = Duration::from_millis(15);

/// Asks `probe` until it answers `Ok(Ok(value))`, and returns the value.
///
/// `Ok(Err(state))` and `Err(error)` both mean not yet; the last of them is part of the error when
/// the deadline passes. A probe that hangs is cut off at the deadline, so it must be cancel-safe. It
/// is asked at least once.
///
/// The probe may borrow, mutably too. The price is that a task which waits like this cannot be moved
/// between threads (the compiler cannot see that it is `Send`): wait in the test, or `join!`.
pub async fn until<T>(
    what: &str,
    deadline: Duration,
    mut probe: impl AsyncFnMut() -> Result<Result<T, String>>,
) -> Result<T> {
    let start = Instant::now();
    let end = start + deadline;
    let mut state = String::from("never answered");
    loop {
        match timeout_at(end, probe()).await {
            Ok(Ok(Ok(value))) => return Ok(value),
            Ok(Ok(Err(not_yet))) => state = not_yet,
            Ok(Err(error)) => state = format!("{error:#}"),
            Err(_) => state = format!("the probe hangs; before that: {state}"),
        }
        if Instant::now() >= end {
            let elapsed = start.elapsed().as_secs_f64();
            bail!("gave up after {elapsed:.1} s waiting for: {what}; last state: {state}");
        }
        pause().await;
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that polls")]
async fn pause() {
    tokio::time::sleep(INTERVAL).await;
}
