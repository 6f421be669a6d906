//! One backfill while it runs: looks at the table, reads its ranges, keeps what was done.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use model::backfill::{Cursor, Order, Survey, Tables};
use model::backoff::Backoff;
use model::position::Position;
use model::source::SourceError;
use model::store::{BackfillLimits, BackfillRange, BackfillState, StoreError};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::control::{Backfills, Entry};
use super::range::Reader;
use super::registry::{HandedPage, Registry};
use crate::budget::Budget;
use crate::select::Choice;
use crate::status::SlotStatus;

/// Before the source or the store is asked again.
const RETRY: Backoff = Backoff { first: Duration::from_millis(500), cap: Duration::from_secs(30) };
/// At the latest it is looked as often whether a page is settled: everything that settles tells.
const LOOK: Duration = Duration::from_secs(1);

/// How often it is kept what sinks have settled, at the most, but for the end of a range.
const KEEP_EVERY: Duration = Duration::from_millis(100);

/// What all backfills of a stream share.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) backfills: Backfills,
    pub(super) tables: Arc<dyn Tables>,
    pub(super) registry: Arc<Registry>,
    pub(super) budget: Arc<Budget>,
    pub(super) status: Arc<SlotStatus>,
    /// Pages of all of them that are read, or wait for their marks.
    pub(super) reading: Arc<Semaphore>,
    /// The stream is over, and what sinks had under way has ended.
    pub(super) stop: CancellationToken,
}

/// Why a range is left before its end.
#[derive(Debug)]
pub(super) enum Left {
    /// It was told to: somebody paused or cancelled the backfill, or the stream is over.
    Told,
    /// It cannot go on.
    Failed(String),
}

/// One backfill.
pub(super) struct Job {
    pub(super) place: Place,
    pub(super) entry: Arc<Entry>,
    pub(super) id: Arc<str>,
    pub(super) sink: Arc<str>,
    pub(super) oid: u32,
    /// Pages in a row that could not be compared with the stream.
    pub(super) invalid: AtomicU32,
}

/// Runs a backfill until it is over or told to stop.
pub(super) async fn run(place: Place, entry: Arc<Entry>) {
    let (id, sink) = {
        let record = entry.record();
        (Arc::clone(&record.id), Arc::clone(&record.sink))
    };
    let mut job = Job { place, entry, id, sink, oid: 0, invalid: AtomicU32::new(0) };
    let end = match job.survey().await {
        Ok(oid) => {
            job.oid = oid;
            job.ranges().await
        }
        Err(left) => Err(left),
    };
    let (state, problem) = match end {
        Ok(()) => (BackfillState::Completed, None),
        Err(Left::Told) => return,
        Err(Left::Failed(problem)) => (BackfillState::Failed, Some(problem)),
    };
    job.end(state, problem).await;
}

impl Job {
    async fn end(&self, state: BackfillState, problem: Option<String>) {
        if let Some(problem) = &problem {
            error!(backfill = %self.id, sink.name = %self.sink, problem, "the backfill failed");
        } else {
            let counts = self.entry.record().counts;
            info!(
                backfill = %self.id,
                sink.name = %self.sink,
                rows = counts.read,
                delivered = counts.delivered,
                evicted = counts.evicted,
                "the backfill is complete"
            );
        }
        end(&self.place, &self.entry, state, problem).await;
    }

    /// Looks at the table: its oid.
    async fn survey(&self) -> Result<u32, Left> {
        let wanted = self.entry.record().wanted.clone();
        let mut failures = 0;
        let survey = loop {
            match self.place.tables.survey(&wanted).await {
                Ok(survey) => break survey,
                Err(error @ SourceError::Definite { .. }) => {
                    return Err(Left::Failed(super::told(&error)));
                }
                Err(SourceError::Transient(reason)) => {
                    failures += 1;
                    let why = format!("the source does not answer: {reason}");
                    self.wait(why, RETRY, failures).await;
                }
            }
            if self.is_told() {
                return Err(Left::Told);
            }
        };
        self.check(&wanted.schema, &wanted.table, &survey)?;
        let Survey { oid, order, rows_estimate, ranges } = survey;
        let known = self.entry.record().ranges.clone();
        if known.is_empty() {
            let new = |range| BackfillRange { range, after: None, done: false, beyond: Vec::new() };
            let ranges: Vec<BackfillRange> = ranges.into_iter().map(new).collect();
            self.keep(move |record| {
                record.order = Some(order);
                record.rows_estimate = rows_estimate;
                record.ranges.clone_from(&ranges);
            })
            .await?;
        }
        Ok(oid)
    }

    fn check(&self, schema: &str, table: &str, survey: &Survey) -> Result<(), Left> {
        if survey.order == Order::Place && !self.limits().by_place {
            return Err(Left::Failed(format!(
                "backfill_no_key: {schema}.{table} has no primary key and no other that identifies \
                 its rows, so it cannot be read page by page in an order that stays (fix: give it a \
                 primary key; or allow `by_place`, which reads it by the place of its rows on disk: \
                 rows that move meanwhile may come twice)"
            )));
        }
        let known = self.entry.record().order;
        if known.is_some_and(|known| known != survey.order) {
            return Err(Left::Failed(format!(
                "backfill_key_changed: {schema}.{table} has another key than when the backfill \
                 began, so what is left cannot be told (fix: start it anew)"
            )));
        }
        let relation = super::relation_of(survey.oid, schema, table);
        let Some(view) = self.place.registry.view(&self.sink) else { return Ok(()) };
        match view.spec.selection.choice(&relation) {
            Choice::Wanted | Choice::Inherited(_) => Ok(()),
            Choice::NotIncluded | Choice::Excluded => Err(Left::Failed(format!(
                "backfill_table_not_chosen: sink `{}` does not take {schema}.{table} (fix: add it to \
                 the sink's `source`)",
                self.sink
            ))),
        }
    }

    /// Reads all ranges, several at once.
    async fn ranges(&self) -> Result<(), Left> {
        let count = self.entry.record().ranges.len();
        let mut waiting = 0..count;
        let mut running = FuturesUnordered::new();
        let mut left = Ok(());
        loop {
            while running.len() < super::RANGES_AT_ONCE
                && left.is_ok()
                && let Some(index) = waiting.next()
            {
                running.push(Reader::new(self, index).run());
            }
            match running.next().await {
                None => return left,
                Some(Ok(())) => {}
                Some(Err(Left::Failed(problem))) => return Err(Left::Failed(problem)),
                // The others are told as well, and finish what is in their sink's hands.
                Some(Err(Left::Told)) => left = Err(Left::Told),
            }
        }
    }

    pub(super) fn limits(&self) -> BackfillLimits {
        self.entry.record().limits
    }

    /// Why no page may be read at the moment.
    pub(super) fn blocked(&self) -> Option<&'static str> {
        use std::sync::atomic::Ordering::Relaxed;
        let Place { registry, budget, status, .. } = &self.place;
        let Some(view) = registry.view(&self.sink) else { return Some("the sink does not run") };
        let sink = &view.status;
        if sink.stopped.get().is_some() {
            Some("the sink has stopped")
        } else if sink.paused.get() > 0 {
            Some("the sink is paused")
        } else if !status.connected.load(Relaxed) {
            Some("there is no stream")
        } else if sink.spooling.get() > 0 {
            Some("the sink is behind with live changes")
        } else if sink.waiting.get().is_some() {
            Some("the sink waits itself")
        } else if !budget.has_room() || status.paused.get() > 0 {
            Some("the memory budget is used up by live changes")
        } else if view.share.used() > view.share.bytes_max() / 2 {
            Some("the sink has enough to do")
        } else {
            None
        }
    }

    /// How many changes of the stream the sink was handed, of this table and others.
    pub(super) fn live(&self) -> u64 {
        let Place { registry, .. } = &self.place;
        let received = registry.view(&self.sink).map_or(0, |view| view.status.received.get());
        received.saturating_sub(registry.reads(&self.sink))
    }

    /// Whether somebody has paused or cancelled it, or the stream is over.
    pub(super) fn is_told(&self) -> bool {
        self.entry.state() != BackfillState::Active || self.place.stop.is_cancelled()
    }

    /// Resolves when somebody has paused or cancelled it, or the stream is over.
    pub(super) async fn told(&self) {
        loop {
            let mut changed = std::pin::pin!(self.entry.changed.notified());
            changed.as_mut().enable();
            if self.is_told() {
                return;
            }
            tokio::select! {
                () = changed => {}
                () = self.place.stop.cancelled() => return,
            }
        }
    }

    /// Waits before the next attempt, or until it is told to stop.
    pub(super) async fn wait(&self, why: String, backoff: Backoff, attempts: u32) {
        self.entry.waiting.set(why);
        let deadline = Instant::now() + backoff.delay(attempts, fastrand::Rng::new().f64());
        tokio::select! {
            () = tokio::time::sleep_until(deadline) => {}
            () = self.told() => {}
        }
    }

    /// Writes a mark, trying until the source takes one. Whoever waits for it writes another if
    /// this was told to stop.
    pub(super) async fn mark(&self, text: &str) {
        let mut failures = 0;
        while let Err(error) = self.place.tables.mark(text).await {
            failures += 1;
            if failures == 1 {
                warn!(backfill = %self.id, %error, "a mark cannot be written; trying again");
            }
            self.wait(format!("a mark cannot be written: {error}"), RETRY, failures).await;
            if self.is_told() {
                return;
            }
        }
    }

    /// Waits until the sink has settled a part of a page. The keys of what is settled are added to
    /// `delivered`: all of them, unless it was told to stop.
    pub(super) async fn settled(
        &self,
        part: HandedPage,
        delivered: &mut Vec<String>,
    ) -> Result<(), Left> {
        let registry = &self.place.registry;
        let HandedPage { rows, evicted } = part;
        let first_last = rows.first().zip(rows.last()).map(|(first, last)| (first.0, last.0));
        if let Some((first, last)) = first_last {
            loop {
                let mut changed = std::pin::pin!(registry.changed());
                changed.as_mut().enable();
                if !registry.is_open(&self.sink, first, last) {
                    break;
                }
                if self.entry.state() == BackfillState::Cancelled {
                    return Err(Left::Told);
                }
                tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(Instant::now() + LOOK) => {}
                    () = self.place.stop.cancelled() => {
                        let settled = self.settled_of(rows);
                        self.count(settled.len(), 0);
                        delivered.extend(settled);
                        return Err(Left::Told);
                    }
                }
            }
        }
        self.count(rows.len(), evicted);
        delivered.extend(rows.into_iter().map(|(_, key)| key));
        Ok(())
    }

    fn count(&self, delivered: usize, evicted: u64) {
        let delivered = delivered as u64;
        self.entry.count(delivered);
        self.entry.note(|record| {
            record.counts.evicted += evicted;
            record.counts.delivered += delivered;
        });
    }

    /// A page is through: moves the cursor behind it. What is noted so is kept by [`Job::keep_noted`].
    pub(super) fn passed(&self, index: usize, read: u64, known: Vec<String>, next: Option<Cursor>) {
        self.entry.note(|record| {
            record.counts.read += read;
            if let Some(range) = record.ranges.get_mut(index) {
                range.done = next.is_none();
                range.after = next;
                let known: HashSet<String> = known.into_iter().collect();
                range.beyond.retain(|key| !known.contains(key));
            }
        });
    }

    /// Keeps what was noted, trying until the store takes it.
    pub(super) async fn keep_noted(&self) -> Result<(), Left> {
        if self.entry.is_noted() { self.keep(|_| ()).await } else { Ok(()) }
    }

    /// As [`Job::keep_noted`], but now and then: what a kill makes it read again is little, and a disk
    /// that is waited for at every part would set the pace.
    pub(super) async fn keep_often(&self) -> Result<(), Left> {
        let kept = self.entry.kept_at();
        match kept.is_none_or(|at| at.elapsed() >= KEEP_EVERY) {
            true => self.keep_noted().await,
            false => Ok(()),
        }
    }

    /// The keys of those that the sink has settled. The stream stops in order, so that is the end of it.
    fn settled_of(&self, rows: Vec<(Position, String)>) -> Vec<String> {
        let Some(view) = self.place.registry.view(&self.sink) else { return Vec::new() };
        let acks = view.ledger.lock();
        let settled = rows.into_iter().filter(|(position, _)| !acks.is_open(*position));
        settled.map(|(_, key)| key).collect()
    }

    /// A page is left in the middle: what of it the sink has settled is not read again.
    pub(super) async fn keep_beyond(&self, index: usize, settled: &[String]) {
        let kept = self.place.backfills.update(&self.entry, |record| {
            if let Some(range) = record.ranges.get_mut(index) {
                range.beyond.extend_from_slice(settled);
            }
        });
        if let Err(error) = kept.await {
            warn!(backfill = %self.id, %error, "a restart reads the last page again");
        }
    }

    /// Keeps what was done, trying until the store takes it.
    async fn keep(&self, update: impl FnOnce(&mut model::store::Backfill)) -> Result<(), Left> {
        let Place { backfills, stop, .. } = &self.place;
        let mut kept = backfills.update(&self.entry, update).await;
        let mut failures = 0;
        while let Err(error) = kept {
            if matches!(error, StoreError::Fenced { .. }) || stop.is_cancelled() {
                return Err(Left::Told);
            }
            failures += 1;
            self.wait(format!("the store does not answer: {error}"), RETRY, failures).await;
            kept = backfills.update(&self.entry, |_| ()).await;
        }
        Ok(())
    }
}

/// A backfill is over, as soon as the store takes that.
pub(super) async fn end(
    place: &Place,
    entry: &Arc<Entry>,
    state: BackfillState,
    problem: Option<String>,
) {
    let mut failures = 0;
    loop {
        match place.backfills.become_state(entry, state, problem.clone()).await {
            Err(super::control::Refused::Store(error)) => {
                failures += 1;
                entry.waiting.set(format!("the store does not answer: {error}"));
                let deadline = Instant::now() + RETRY.delay(failures, 0.5);
                tokio::select! {
                    () = tokio::time::sleep_until(deadline) => {}
                    () = place.stop.cancelled() => return,
                }
            }
            // Somebody was faster and cancelled it.
            Ok(()) | Err(_) => return,
        }
    }
}
