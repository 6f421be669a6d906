//! Dead letters, sent again: beside the stream, at their own places and with their own idempotency
//! keys, through the functions as they are configured now, behind what waits in their groups.
//!
//! A letter is closed once all of its messages are delivered, and stays where it is if any of them
//! is not. A state sink gets nothing that is older than what it has: newer state of a row marks the
//! letters of the row in the store before it is settled (`bury.rs`), and what is on its way is found
//! in the lanes (`deliver/desk.rs`). A log sink gets it in any case, with `metadata.replay`.

mod bench;
mod manage;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use model::plugin::Plugin;
use model::store::{Close, LetterId, LetterQuery, Letters, StoreError, StoredLetter};
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::desk::{Again, Command, Desk, Outcome, Turn};
use crate::status::Counter;
use bench::{Bench, Made};
pub use manage::ManageError;

/// Letters of a replay that are on their way at once: what is live goes between them.
const UNDER_WAY_MAX: usize = 32;

/// Letters that are read at once.
const PAGE: usize = 64;

/// Letters of a dry run.
const DRY_RUN_MAX: usize = 100;

/// Which letters of a sink are replayed.
#[derive(Clone, Debug)]
pub enum Selection {
    /// These.
    Letters(Vec<LetterId>),
    /// All open ones that are like this; its sink, its page and its state are not looked at.
    Like(LetterQuery),
}

/// What a function of the sink is replaced by for a replay.
#[derive(Clone)]
pub struct Instead {
    /// The function's name.
    pub function: String,
    /// What runs in its place.
    pub plugin: Arc<dyn Plugin>,
}

/// A function that a replay sends rows through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judge {
    /// Its name.
    pub function: String,
    /// Its component.
    pub digest: String,
    /// Whether the same row gets the same outcome each time: it is granted nothing.
    pub is_deterministic: bool,
}

/// How far a replay came.
#[derive(Debug, Default)]
pub struct Progress {
    /// Letters that were looked at.
    pub selected: Counter,
    /// Delivered, and closed.
    pub delivered: Counter,
    /// Not sent: newer state of their rows is there, or on its way.
    pub superseded: Counter,
    /// Closed without a message: the functions have nothing to send for them now.
    pub filtered: Counter,
    /// Failed again: they are as they were, with the newest error.
    pub failed: Counter,
    /// Not sent and not judged: the sink stopped, or the letter cannot be sent again.
    pub left: Counter,
    done: AtomicBool,
    problem: crate::status::Note,
    changed: tokio::sync::Notify,
}

impl Progress {
    /// Whether it is over.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Why it ended early, or a letter was left.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.problem.get()
    }

    /// Waits until it is over.
    pub async fn until_done(&self) {
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            if self.is_done() {
                return;
            }
            changed.await;
        }
    }

    fn finish(&self) {
        self.done.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }
}

/// What a replay of a letter would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRun {
    /// The letter.
    pub letter: LetterId,
    /// `send`, `superseded`, `filtered`, `fail` or `impossible`.
    pub verdict: &'static str,
    /// What would be sent, as [`model::outgoing`] writes it.
    pub messages: Vec<String>,
    /// Why it would fail, or cannot be sent.
    pub error: Option<String>,
}

/// One replay of one sink.
pub(crate) struct Replay {
    desk: Arc<Desk>,
    letters: Arc<dyn Letters>,
    selection: Selection,
    bench: Bench,
    progress: Arc<Progress>,
    _turn: Option<Turn>,
}

type UnderWay = FuturesUnordered<BoxFuture<'static, ()>>;

impl Replay {
    pub(crate) fn new(
        desk: &Arc<Desk>,
        selection: Selection,
        instead: Option<&Instead>,
        turn: Option<Turn>,
    ) -> Self {
        let letters = Arc::clone(&desk.burial.letters);
        let bench = Bench::new(desk, instead);
        let desk = Arc::clone(desk);
        Self { desk, letters, selection, bench, progress: Arc::default(), _turn: turn }
    }

    pub(crate) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Sends them all, and waits for what becomes of them.
    pub(crate) async fn run(mut self) {
        let stopped = self.desk.stopped.clone();
        let progress = Arc::clone(&self.progress);
        let sink = Arc::clone(&self.desk.burial.spec.name);
        tokio::select! {
            biased;
            () = stopped.cancelled() => progress.problem.set("the sink stopped".to_owned()),
            () = self.send_all() => {}
        }
        progress.finish();
        info!(
            sink.name = %sink,
            selected = progress.selected.get(),
            delivered = progress.delivered.get(),
            superseded = progress.superseded.get(),
            filtered = progress.filtered.get(),
            failed = progress.failed.get(),
            "letters were replayed"
        );
    }

    async fn send_all(&mut self) {
        let mut under_way = UnderWay::new();
        let mut pages = Pages::new(self.selection.clone(), &self.desk);
        loop {
            let page = match pages.next(self.letters.as_ref()).await {
                Ok(Some(page)) => page,
                Ok(None) => break,
                Err(error) => {
                    self.progress.problem.set(error.to_string());
                    break;
                }
            };
            for stored in page {
                while under_way.len() >= UNDER_WAY_MAX {
                    under_way.next().await;
                }
                self.progress.selected.add(1);
                self.send(&stored, &mut under_way).await;
            }
        }
        while under_way.next().await.is_some() {}
    }

    async fn send(&mut self, stored: &StoredLetter, under_way: &mut UnderWay) {
        let letter = stored.id;
        let burial = self.desk.burial.clone();
        let progress = Arc::clone(&self.progress);
        let is_closed = !stored.state.is_open();
        let is_foreign = stored.letter.origin != *burial.origin;
        let messages = match self.bench.make(stored).await {
            _ if is_closed => {
                progress.problem.set(format!("letter {letter} is closed"));
                return progress.left.add(1);
            }
            Made::Messages(messages) => messages,
            Made::Filtered => {
                progress.filtered.add(1);
                return close(&burial, letter, "replayed: the functions have nothing to send")
                    .await;
            }
            Made::Failed(error) => {
                progress.failed.add(1);
                return fail(&burial, letter, &error, 0).await;
            }
            Made::Impossible(why) => {
                progress.problem.set(format!("letter {letter}: {why}"));
                return progress.left.add(1);
            }
        };
        let mut outcomes = Vec::with_capacity(messages.len());
        for (message, charges) in messages {
            let (outcome, judged) = oneshot::channel();
            let again = Again { letter, message, charges, is_foreign, outcome };
            if self.desk.commands.send(Command::Replay(again)).await.is_err() {
                return progress.left.add(1);
            }
            outcomes.push(judged);
        }
        under_way.push(Box::pin(async move {
            let (mut failed, mut tried, mut superseded, mut left) = (None, 0, false, false);
            for outcome in outcomes {
                match outcome.await {
                    Ok(Outcome::Delivered) => {}
                    Ok(Outcome::Superseded) => superseded = true,
                    Ok(Outcome::Failed { error, attempts }) => {
                        (failed, tried) = (Some(error), attempts.max(tried));
                    }
                    Err(_) => left = true,
                }
            }
            match failed {
                Some(error) => {
                    progress.failed.add(1);
                    fail(&burial, letter, &error, tried).await;
                }
                None if left => progress.left.add(1),
                None if superseded => progress.superseded.add(1),
                None => {
                    burial.status.replayed.add(1);
                    close(&burial, letter, "replayed").await;
                    progress.delivered.add(1);
                }
            }
        }));
    }

    /// What it would do with the first letters.
    pub(crate) async fn dry_run(mut self) -> Result<Vec<DryRun>, StoreError> {
        let mut pages = Pages::new(self.selection.clone(), &self.desk);
        let mut told = Vec::new();
        while let Some(page) = pages.next(self.letters.as_ref()).await? {
            for stored in page {
                if told.len() >= DRY_RUN_MAX {
                    return Ok(told);
                }
                told.push(self.dry_run_one(&stored).await);
            }
        }
        Ok(told)
    }

    async fn dry_run_one(&mut self, stored: &StoredLetter) -> DryRun {
        let (verdict, messages, error) = match self.bench.make(stored).await {
            _ if !stored.state.is_open() => {
                let why = format!("it is {}", stored.state.as_str());
                ("impossible", Vec::new(), Some(why))
            }
            Made::Messages(messages) => {
                let written = messages.iter().map(|(message, _)| model::outgoing::write(message));
                let is_state = self.desk.burial.spec.sink.kind() == model::sink::SinkKind::State;
                let is_superseded =
                    is_state && stored.state == model::store::LetterState::Superseded;
                (if is_superseded { "superseded" } else { "send" }, written.collect(), None)
            }
            Made::Filtered => ("filtered", Vec::new(), None),
            Made::Failed(error) => ("fail", Vec::new(), Some(error)),
            Made::Impossible(why) => ("impossible", Vec::new(), Some(why)),
        };
        DryRun { letter: stored.id, verdict, messages, error }
    }
}

/// The selected letters, a page at a time.
struct Pages {
    selection: Selection,
    sink: String,
    after: Option<LetterId>,
    /// How many of those that were named.
    taken: usize,
}

impl Pages {
    fn new(selection: Selection, desk: &Desk) -> Self {
        Self { selection, sink: desk.burial.spec.name.to_string(), after: Some(0), taken: 0 }
    }

    async fn next(
        &mut self,
        letters: &dyn Letters,
    ) -> Result<Option<Vec<StoredLetter>>, StoreError> {
        match &self.selection {
            Selection::Letters(ids) => {
                let Some(id) = ids.get(self.taken) else { return Ok(None) };
                self.taken += 1;
                let found = letters.get(*id).await?;
                let found = found.filter(|stored| stored.letter.sink == self.sink);
                let none = || StoreError::Refused(format!("{} has no letter {id}", self.sink));
                Ok(Some(vec![found.ok_or_else(none)?]))
            }
            Selection::Like(query) => {
                let Some(after) = self.after else { return Ok(None) };
                let query = LetterQuery {
                    sink: Some(self.sink.clone()),
                    state: None,
                    after,
                    limit: PAGE,
                    whole: true,
                    ..query.clone()
                };
                let page = letters.list(query).await?;
                self.after = page.next;
                Ok(Some(page.letters))
            }
        }
    }
}

async fn close(burial: &crate::bury::Burial, letter: LetterId, why: &str) {
    let closed = burial.letters.close(burial.epoch, letter, Close::Replayed, why).await;
    if let Err(error) = closed {
        // It is sent again if somebody replays it again, with the same key.
        warn!(letter, %error, "a letter that was delivered cannot be closed");
    }
}

async fn fail(burial: &crate::bury::Burial, letter: LetterId, error: &str, attempts: u32) {
    let noted = burial.letters.failed_again(burial.epoch, letter, error, attempts).await;
    if let Err(error) = noted {
        warn!(letter, %error, "the error of a letter cannot be noted");
    }
}
