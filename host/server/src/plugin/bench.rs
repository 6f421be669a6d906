//! `sequin plugin bench`: what a plugin costs on recorded messages.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use model::change::Change;
use model::plugin::{Plugin, Rows};
use plugin::{Host, Limits};

use super::lines::Lines;
use super::{Ready, gate, read, usage};
use crate::Failure;
use crate::cli::BenchArguments;

/// From a message alone to more than the engine hands over at once.
const BATCHES: [u16; 5] = [1, 8, 64, 256, 1024];

/// As `--batch` allows.
const ROWS_MAX: usize = 1024;

pub(super) fn run(arguments: &BenchArguments) -> Result<(), Failure> {
    // One thread, so that the time of a call is the time of its work.
    let one = std::num::NonZeroUsize::MIN;
    let limits =
        Limits { rows_max: ROWS_MAX, batch_bytes_max: 64 << 20, threads: one, ..Limits::default() };
    let ready = Ready::new(&arguments.plugin, limits)?;
    let changes = changes(arguments)?;
    let relation = changes.first().map(|change| Arc::clone(&change.relation));
    let Some(relation) = relation else {
        return Err(usage(
            "there are no messages: pipe some of one table into it, or name a file of them",
        ));
    };
    let duration = Duration::try_from_secs_f64(arguments.seconds)
        .map_err(|error| usage(format_args!("--seconds: {error}")))?;
    let batches = if arguments.batches.is_empty() { &BATCHES[..] } else { &arguments.batches };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.context("start the runtime")?;
    let mut text = String::from(" rows a call     ns a row  failed rows\n");
    for size in batches {
        let size = usize::from(*size);
        let batch: Vec<Change> = changes.iter().cycle().take(size).cloned().collect();
        let measured =
            runtime.block_on(measure(ready.plugin.as_ref(), &relation, &batch, duration));
        let (nanos, failed) = measured;
        text.push_str(&format!("{size:12} {nanos:12.0} {failed:12}\n"));
    }
    text.push_str(&load_times(arguments, &ready)?);
    super::print(&text)?;
    gate::run(arguments, &changes)
}

/// Messages of the first table, as many as a call can have: a live stream would never end.
fn changes(arguments: &BenchArguments) -> Result<Vec<Change>, Failure> {
    let mut lines = Lines::start(arguments.messages.as_deref())?;
    let mut changes: Vec<Change> = Vec::new();
    loop {
        let batch = lines.batch()?;
        if batch.is_empty() || changes.len() >= ROWS_MAX {
            return Ok(changes);
        }
        let same =
            |change: &Change| changes.first().is_none_or(|first| first.relation == change.relation);
        let batch: Vec<Change> = batch.into_iter().filter(same).collect();
        changes.extend(batch.into_iter().filter(|change| change.row().is_some()));
    }
}

/// Nanoseconds a row: the median of the calls; and the rows that failed in one of them.
async fn measure(
    plugin: &dyn Plugin,
    relation: &Arc<model::relation::Relation>,
    batch: &[Change],
    duration: Duration,
) -> (f64, usize) {
    let begun = now();
    let mut calls = Vec::new();
    let mut failed = 0;
    while begun.elapsed() < duration || calls.len() < 3 {
        let rows = Rows { relation: Arc::clone(relation), changes: batch.to_vec() };
        let call = now();
        let outcomes = plugin.run(rows).await;
        calls.push(call.elapsed());
        failed = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    }
    calls.sort_unstable();
    let median = calls.get(calls.len() / 2).copied().unwrap_or_default();
    (median.as_secs_f64() * 1e9 / batch.len() as f64, failed)
}

/// What it takes until a component can be called.
fn load_times(arguments: &BenchArguments, ready: &Ready) -> Result<String, Failure> {
    let bytes = read(&arguments.plugin.file)?;
    let fresh = || Host::new(Limits::default()).context("start the plugin host");
    let host = fresh()?;
    let (_, compiled) = timed(|| host.load(&bytes).map_err(usage))?;
    let (_, described) = timed(|| ready.host.describe("bench", &ready.program).map_err(usage))?;
    let dir = tempfile::tempdir().context("make a directory for compiled code")?;
    fresh()?.with_cache(dir.path()).and_then(|host| host.load(&bytes)).map_err(usage)?;
    let cached = fresh()?.with_cache(dir.path()).map_err(usage)?;
    let (_, loaded) = timed(|| cached.load(&bytes).map_err(usage))?;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(format!(
        "compile {:.1} ms, load compiled {:.2} ms, start and describe {:.3} ms\n",
        ms(compiled),
        ms(loaded),
        ms(described)
    ))
}

fn timed<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<(T, Duration), Failure> {
    let begun = now();
    Ok((work()?, begun.elapsed()))
}

#[expect(clippy::disallowed_methods, reason = "a measurement")]
fn now() -> Instant {
    Instant::now()
}
