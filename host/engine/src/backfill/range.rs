//! The pages of one range: read, marked, handed over, settled, one after the other. The next one is
//! read while the sink works on the last of the one before.
//!
//! While changes of the stream come, the sink gets a page in parts, each with a mark of its own: how much
//! one has to be for the effort of its query says nothing of how much live changes can wait for.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::backfill::{Ask, Cursor, Page, Snapshot};
use model::backoff::Backoff;
use model::change::{Change, Operation, Transaction};
use model::lsn::Lsn;
use model::position::Position;
use model::source::SourceError;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::job::{Job, Left};
use super::notes::{key_names, key_of};
use super::pace::Pace;
use super::registry::{Arrived, HandedPage, OpenPage, Recording};

/// After this time without its mark, a page gets another one: the stream may be far behind, or the
/// mark was lost with the slot that was to bring it.
const MARK_PATIENCE: Duration = Duration::from_secs(30);
/// Before a page is read again that does not show what the stream brought before.
const SNAPSHOT_RETRY: Backoff =
    Backoff { first: Duration::from_millis(20), cap: Duration::from_secs(2) };
/// Before a source is asked again that did not answer.
const RETRY: Backoff = Backoff { first: Duration::from_millis(500), cap: Duration::from_secs(30) };
/// How often it is looked whether a sink has room again.
const LOOK: Duration = Duration::from_millis(100);
/// Pages in a row that could not be compared with the stream: the next will not be either.
const INVALID_MAX: u32 = 100;
/// So many rows become changes before another task has its turn: live changes do not wait for a page.
const ROWS_A_TURN: usize = 128;
/// Timeouts in a row with one row a page.
const TIMEOUTS_MAX: u32 = 5;

/// A page that was read, with its place.
pub(super) struct Fresh {
    /// Its rows, in parts that are handed over one after the other.
    parts: VecDeque<Box<OpenPage>>,
    read: u64,
    /// Keys of rows of it that were delivered before.
    known: Vec<String>,
    next: Option<Cursor>,
}

/// What comes after a page.
enum After {
    /// The next one. None if it was told to stop.
    Next(Option<Fresh>),
    /// The same one: what the stream brought could not be compared with it.
    Again,
    /// Nothing.
    End,
}

/// What the reading of a range knows.
pub(super) struct Reader<'a> {
    job: &'a Job,
    index: usize,
    pace: Pace,
    /// Changes of the stream that the sink was handed, when it was last looked.
    live: u64,
    recording: Option<Recording>,
    /// The page before showed as much.
    floor: Option<Arc<Snapshot>>,
    /// The mark that was written when the recording began.
    began: u32,
    /// Rows that were delivered before the last graceful stop.
    beyond: HashSet<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(job: &'a Job, index: usize) -> Self {
        let pace = Pace::new(job.place.budget.bytes_max());
        let range = job.entry.range(index);
        let beyond = range.map(|range| range.beyond.into_iter().collect()).unwrap_or_default();
        let live = job.live();
        Self { job, index, pace, live, recording: None, floor: None, began: 0, beyond }
    }

    /// Reads and hands over what is left of the range.
    pub(super) async fn run(mut self) -> Result<(), Left> {
        let end = self.pages().await;
        let kept = self.job.keep_noted().await;
        end.and(kept)
    }

    async fn pages(&mut self) -> Result<(), Left> {
        let Some(range) = self.job.entry.range(self.index) else { return Ok(()) };
        if range.done {
            return Ok(());
        }
        let mut fresh = self.read(range.after).await?;
        loop {
            let Some(page) = fresh else { return Err(Left::Told) };
            let mut delivered = Vec::new();
            let end = self.page(page, &mut delivered).await;
            if !matches!(end, Ok(After::Next(_) | After::End)) && !delivered.is_empty() {
                self.job.keep_beyond(self.index, &delivered).await;
            }
            fresh = match end? {
                After::End => return Ok(()),
                After::Next(ahead) => ahead,
                After::Again => {
                    self.beyond.extend(delivered);
                    self.read(self.cursor()).await?
                }
            };
        }
    }

    /// Hands a page over, part by part. `delivered` has the keys of what was delivered of it, until the
    /// cursor is behind all of them.
    async fn page(&mut self, page: Fresh, delivered: &mut Vec<String>) -> Result<After, Left> {
        let Fresh { mut parts, read, known, next } = page;
        let (job, index) = (self.job, self.index);
        let mut passed = Some((read, known));
        let mut ahead = None;
        while let Some(part) = parts.pop_front() {
            self.look_for_live();
            // While changes of the stream come, they find one part before them at most.
            let turn = match self.pace.is_live() {
                true => self.turn().await?,
                false => None,
            };
            let Some((handed, handed_at)) = self.hand_over(part).await? else {
                return Ok(After::Again);
            };
            let rows = handed.rows.len();
            let is_last = parts.is_empty();
            let settled = async {
                job.settled(handed, delivered).await?;
                let took = handed_at.elapsed();
                // The next part need not wait for the disk.
                drop(turn);
                if is_last && let Some((read, known)) = passed.take() {
                    job.passed(index, read, known, next.clone());
                    delivered.clear();
                }
                job.keep_often().await.map(|()| took)
            };
            let (settled, read) = tokio::join!(settled, async {
                match next.is_some() && is_last {
                    true => self.read(next.clone()).await,
                    false => Ok(None),
                }
            });
            ahead = Some(read);
            self.look_for_live();
            self.pace.settled(rows, settled?);
        }
        if let Some((read, known)) = passed {
            // All of it was delivered before.
            job.passed(index, read, known, next.clone());
        }
        match (next, ahead) {
            (None, _) => Ok(After::End),
            (Some(_), Some(ahead)) => Ok(After::Next(ahead?)),
            (Some(next), None) => Ok(After::Next(self.read(Some(next)).await?)),
        }
    }

    /// Notes whether changes of the stream came for the sink since it was last asked.
    fn look_for_live(&mut self) {
        let live = self.job.live();
        if std::mem::replace(&mut self.live, live) != live {
            self.pace.live();
        }
    }

    /// The place of the one part of the sink that changes of the stream may find before them.
    async fn turn(&self) -> Result<Option<OwnedSemaphorePermit>, Left> {
        let turns = self.job.place.registry.turns(&self.job.sink);
        tokio::select! {
            turn = turns.acquire_owned() => Ok(turn.ok()),
            () = self.job.told() => Err(Left::Told),
        }
    }

    fn cursor(&self) -> Option<Cursor> {
        self.job.entry.range(self.index)?.after
    }

    /// Reads the page behind a cursor, as soon as it may be read. None if it was told to stop.
    async fn read(&mut self, after: Option<Cursor>) -> Result<Option<Fresh>, Left> {
        let (mut failures, mut timeouts) = (0_u32, 0_u32);
        let mut stale = 0_u32;
        loop {
            if !self.ready().await? {
                return Ok(None);
            }
            if self.recording.is_none() && !self.begin().await? {
                return Ok(None);
            }
            let Ok(turn) = self.job.place.reading.acquire().await else { return Ok(None) };
            let page = self.ask(after.clone()).await;
            drop(turn);
            let page = match page {
                Ok(page) => page,
                Err(SourceError::Definite { code: "backfill_timeout", .. })
                    if self.pace.rows() > 1 || timeouts < TIMEOUTS_MAX =>
                {
                    timeouts += u32::from(self.pace.rows() == 1);
                    self.pace.timed_out();
                    debug!(backfill = %self.job.id, rows = self.pace.rows(), "a page took too long");
                    continue;
                }
                Err(error @ SourceError::Definite { .. }) => {
                    return Err(Left::Failed(super::told(&error)));
                }
                Err(SourceError::Transient(reason)) => {
                    failures += 1;
                    if failures == 1 {
                        warn!(backfill = %self.job.id, reason, "a page cannot be read; trying again");
                    }
                    self.job
                        .wait(format!("the source does not answer: {reason}"), RETRY, failures)
                        .await;
                    continue;
                }
            };
            let snapshot = Arc::new(page.snapshot.clone());
            if !self.shows_enough(&snapshot) {
                stale += 1;
                let why = "the server that is read does not show yet what the stream brought";
                self.job.wait(why.to_owned(), SNAPSHOT_RETRY, stale).await;
                continue;
            }
            let known = self.recording.as_ref().is_some_and(|it| it.page(&snapshot));
            if !known {
                self.recording = None;
                continue;
            }
            self.floor = Some(Arc::clone(&snapshot));
            self.pace.read(page.rows.len(), page.bytes, page.took);
            self.pace.throttle(page.rows.len(), self.job.limits().rows_per_second);
            self.job.entry.waiting.set(None);
            return self.fresh(page, snapshot).await.map(Some);
        }
    }

    async fn ask(&self, after: Option<Cursor>) -> Result<Page, SourceError> {
        let ask = {
            let record = self.job.entry.record();
            let range = record.ranges.get(self.index).map(|range| range.range.clone());
            Ask {
                wanted: record.wanted.clone(),
                order: record.order.unwrap_or(model::backfill::Order::Key),
                range: range.unwrap_or_else(|| model::backfill::Range("".into())),
                after,
                rows_max: self.pace.rows(),
                bytes_max: self.pace.bytes_max(),
                timeout: record.limits.page_timeout,
            }
        };
        self.job.place.tables.page(&ask).await
    }

    /// Whether the page shows all that came in the stream before it was noted.
    fn shows_enough(&self, snapshot: &Snapshot) -> bool {
        match (&self.floor, &self.recording) {
            (Some(floor), _) => snapshot.shows_all_of(floor),
            (None, Some(recording)) => {
                snapshot.shows(self.began)
                    && recording.before.iter().all(|xid| snapshot.shows(*xid))
            }
            (None, None) => false,
        }
    }

    /// Begins to note what the stream brings of the table: known once a mark has come that was
    /// written after that. False if it was told to stop.
    async fn begin(&mut self) -> Result<bool, Left> {
        let registry = &self.job.place.registry;
        let recording = registry.record(self.job.oid);
        let (waiting, answer) = registry.await_xid();
        let mut answer = std::pin::pin!(answer);
        let began = loop {
            self.job.mark(&waiting.text()).await;
            tokio::select! {
                began = &mut answer => break began,
                () = tokio::time::sleep_until(Instant::now() + MARK_PATIENCE) => {}
                () = self.job.told() => return Ok(false),
            }
        };
        let Ok(began) = began else { return Ok(false) };
        (self.began, self.floor, self.recording) = (began, None, Some(recording));
        Ok(true)
    }

    async fn fresh(&mut self, page: Page, snapshot: Arc<Snapshot>) -> Result<Fresh, Left> {
        let Page { relation, rows, bytes, next, .. } = page;
        let transaction = Arc::new(Transaction::new(Lsn::ZERO, 0, 0));
        let key = key_names(&relation);
        let (count, mut known) = (rows.len(), Vec::new());
        let mut changes = Vec::with_capacity(count);
        for (index, row) in rows.into_iter().enumerate() {
            if index % ROWS_A_TURN == ROWS_A_TURN - 1 {
                tokio::task::yield_now().await;
            }
            let Some(key) = key_of(&relation, &row) else {
                return Err(Left::Failed("the source gave a row without its key".to_owned()));
            };
            if self.beyond.remove(&key) {
                known.push(key);
                continue;
            }
            let (relation, transaction) = (Arc::clone(&relation), Arc::clone(&transaction));
            let change = Change {
                position: Position::ZERO,
                operation: Operation::Read,
                relation,
                before: None,
                after: Some(row),
                transaction,
                annotations: None,
                fetched: None,
                enrichment: None,
            };
            changes.push((change, key));
        }
        let generation = self.recording.as_ref().map_or(0, |recording| recording.generation);
        let mut parts = VecDeque::new();
        let (row_bytes, part_rows) = (bytes / count.max(1), self.pace.part_rows());
        while !changes.is_empty() {
            let behind = changes.split_off(part_rows.min(changes.len()));
            let rows = std::mem::replace(&mut changes, behind);
            let bytes = row_bytes * rows.len();
            parts.push_back(Box::new(OpenPage {
                sink: Arc::clone(&self.job.sink),
                oid: self.job.oid,
                generation,
                snapshot: Arc::clone(&snapshot),
                key: key.clone(),
                rows,
                evicted: 0,
                bytes,
                charge: self.job.place.budget.charge(bytes),
            }));
        }
        Ok(Fresh { parts, read: count as u64, known, next })
    }

    /// Writes the part's mark, and waits until it has come, which is told with the time of it. None if
    /// it has to be read again.
    async fn hand_over(
        &mut self,
        mut page: Box<OpenPage>,
    ) -> Result<Option<(HandedPage, Instant)>, Left> {
        loop {
            let (waiting, answer) = self.job.place.registry.await_page(page);
            let mut answer = std::pin::pin!(answer);
            let arrived = loop {
                self.job.mark(&waiting.text()).await;
                tokio::select! {
                    arrived = &mut answer => break arrived,
                    () = tokio::time::sleep_until(Instant::now() + MARK_PATIENCE) => {
                        self.job.entry.waiting.set("the page's mark has not come in the stream".to_owned());
                    }
                    () = self.job.told() => {
                        if waiting.withdraw() {
                            return Err(Left::Told);
                        }
                        // It has come this very moment.
                        break answer.await;
                    }
                }
            };
            match arrived {
                Ok(Arrived::Handed(handed)) => {
                    self.job.invalid.store(0, Ordering::Relaxed);
                    self.job.entry.waiting.set(None);
                    return Ok(Some((handed, Instant::now())));
                }
                Ok(Arrived::NoRoom(same)) => {
                    page = same;
                    tokio::time::sleep_until(Instant::now() + LOOK).await;
                    if !self.ready().await? {
                        return Err(Left::Told);
                    }
                }
                Ok(Arrived::Invalid) => {
                    self.recording = None;
                    let invalid = self.job.invalid.fetch_add(1, Ordering::Relaxed);
                    if invalid >= INVALID_MAX {
                        return Err(Left::Failed(INCOMPARABLE.to_owned()));
                    }
                    let why = "what came in the stream cannot be compared with the page";
                    self.job.wait(why.to_owned(), SNAPSHOT_RETRY, invalid + 1).await;
                    return Ok(None);
                }
                // The stream is over.
                Err(_) => return Err(Left::Told),
            }
        }
    }

    /// Waits until a page may be read: live changes go first. False if it was told to stop.
    async fn ready(&mut self) -> Result<bool, Left> {
        loop {
            if self.job.is_told() {
                return Ok(false);
            }
            let now = Instant::now();
            let due = self.pace.due().filter(|due| *due > now);
            let blocked = self.job.blocked();
            if due.is_none() && blocked.is_none() {
                return Ok(true);
            }
            if let Some(why) = blocked {
                self.job.entry.waiting.set(why.to_owned());
            }
            tokio::select! {
                () = tokio::time::sleep_until(due.unwrap_or(now + LOOK)) => {}
                () = self.job.told() => {}
            }
        }
    }
}

const INCOMPARABLE: &str = "backfill_incomparable: what the stream brings of the table cannot be \
    compared with its rows, because both have another key, or more changes than can be noted while a \
    page is read (fix: see that the replica identity of the table is its primary key; read it while \
    less is written)";
