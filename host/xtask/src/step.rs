//! A named part of a longer task, with the time it took.

use std::time::{Duration, Instant};

use anyhow::Context as _;

/// Runs one part under a heading; its error names the part.
pub(crate) fn step<T>(title: &str, body: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    println!("\n=== {title}");
    let start = now();
    let value = body().with_context(|| format!("stopped at: {title}"))?;
    println!("=== {title}: {}", seconds(start.elapsed()));
    Ok(value)
}

#[expect(clippy::disallowed_methods, reason = "there is no runtime whose clock could be paused")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
