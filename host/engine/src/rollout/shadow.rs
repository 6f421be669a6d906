//! A version that sees what passes and of which nothing is delivered.
//!
//! It never slows the sink: rows are handed over without waiting, and what finds no room is counted
//! and not looked at. Its bound: one call at a time, of at most [`CALL_ROWS_MAX`] rows, and a rest of
//! three times as long behind each, so at most a quarter of one thread, whatever the version does. In
//! memory are at most [`BYTES_MAX`] of rows and outcomes in [`RUNS_MAX`] runs, and the pages of these
//! runs.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use model::change::Change;
use model::page::Row;
use model::plugin::{Outcome, Plugin, PluginError, Rows};
use model::sink::SinkKind;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::compare::Comparison;
use super::{Entry, Rollouts, lock};
use crate::costs;

/// Rows of one call: one that spins ends after a second of CPU time, and each of its rows after a
/// quarter of one.
const CALL_ROWS_MAX: usize = 16;

/// Runs of rows that wait. Each keeps the page in memory that it came with.
const RUNS_MAX: usize = 32;

/// Rows and outcomes that wait, in bytes.
const BYTES_MAX: usize = 4 << 20;

/// It rests so many times as long as it ran.
const REST: u32 = 3;

/// What is handed to a shadow, and what it made of it.
#[derive(Default)]
pub(super) struct Shadow {
    runs: OnceLock<mpsc::Sender<Run>>,
    bytes: Arc<AtomicUsize>,
    skipped: AtomicU64,
    comparison: Mutex<Comparison>,
}

type Judged = Result<Outcome, PluginError>;

/// Rows of one relation version, and what the version in use made of them.
struct Run {
    rows: Vec<(Change, Judged)>,
    _charge: Charge,
}

/// Bytes that are taken until it is dropped.
struct Charge(Arc<AtomicUsize>, usize);

impl Drop for Charge {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

impl Shadow {
    /// Shows rows of one relation version, as many of them as there is room for.
    pub(super) fn show(&self, changes: &[Change], judged: &[Judged]) {
        let Some(runs) = self.runs.get() else { return };
        let Ok(place) = runs.try_reserve() else { return self.skip(changes.len()) };
        let room = BYTES_MAX.saturating_sub(self.bytes.load(Ordering::Relaxed));
        let mut bytes = 0;
        let mut rows = Vec::new();
        for (change, judged) in changes.iter().zip(judged) {
            let given = judged.as_ref().map_or_else(|it| it.message.len(), costs::bytes);
            bytes += change.row().map_or(0, Row::bytes) + given + size_of::<(Change, Judged)>();
            if bytes > room {
                break;
            }
            rows.push((change.clone(), judged.clone()));
        }
        self.skip(changes.len() - rows.len());
        if !rows.is_empty() {
            let bytes = bytes.min(room);
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            place.send(Run { rows, _charge: Charge(Arc::clone(&self.bytes), bytes) });
        }
    }

    fn skip(&self, rows: usize) {
        self.skipped.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// What it made of the rows, and how many it was not shown.
    pub(super) fn seen(&self) -> (Comparison, u64) {
        (lock(&self.comparison).clone(), self.skipped.load(Ordering::Relaxed))
    }
}

impl Rollouts {
    /// Begins to show rows to the new version, on a task of its own.
    pub(super) fn cast(&self, entry: &Arc<Entry>, plugin: Arc<dyn Plugin>, kind: SinkKind) {
        let (sender, runs) = mpsc::channel(RUNS_MAX);
        if entry.shadow.runs.set(sender).is_err() {
            return;
        }
        let name = entry.record().function.to_string();
        let work = work(self.clone(), Arc::clone(entry), plugin, kind, runs);
        let stop = entry.stop.clone();
        let until_stopped = async move { stop.run_until_cancelled(work).await };
        self.0.supervisor.spawn(crate::supervise::TaskKind::Rollout, &name, until_stopped);
    }
}

async fn work(
    rollouts: Rollouts,
    entry: Arc<Entry>,
    plugin: Arc<dyn Plugin>,
    kind: SinkKind,
    mut runs: mpsc::Receiver<Run>,
) {
    while let Some(Run { rows, _charge }) = runs.recv().await {
        for rows in rows.chunks(CALL_ROWS_MAX) {
            let Some((first, _)) = rows.first() else { continue };
            let relation = Arc::clone(&first.relation);
            let changes = rows.iter().map(|(change, _)| change.clone()).collect();
            let begun = Instant::now();
            let judged = plugin.run(Rows { relation, changes }).await;
            let took = begun.elapsed();
            {
                let mut comparison = lock(&entry.shadow.comparison);
                for ((change, old), new) in rows.iter().zip(&judged) {
                    comparison.add(kind, change, old, new);
                }
            }
            entry.count(|arms| arms.new.add(&judged, took));
            rollouts.judge(&entry).await;
            tokio::time::sleep_until(Instant::now() + took * REST).await;
        }
    }
}
