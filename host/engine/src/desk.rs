//! What an operator asks of one sink while it runs: which messages wait, to try or to discard them
//! now, to replay letters, to show what passes.
//!
//! Each running sink has a desk; what is asked there is answered by the sink's own tasks, so nobody
//! else notices.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::message::Message;
use model::position::Position;
use model::store::LetterId;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::budget::{Budget, Charge, Share, ShareCharge};
use crate::bury::Burial;
use crate::replay::Progress;
use crate::rollout::Rollouts;

/// What waits to be answered: each asker waits for his answer, so more are not asked for.
const COMMANDS_MAX: usize = 64;

/// A message of a sink: its place, and its index among the outputs of its change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageId {
    /// Its place.
    pub position: Position,
    /// Its index.
    pub output: u32,
}

/// A message that was tried in vain and waits.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Which it is.
    pub id: MessageId,
    /// What is to be sent.
    pub message: Arc<Message>,
    /// Attempts that failed.
    pub attempts: u32,
    /// What the destination said last.
    pub last_error: Option<String>,
    /// Until its next attempt; None if it is under way, or behind another message of its group.
    pub next_retry: Option<Duration>,
    /// It is being sent, or put aside.
    pub in_flight: bool,
    /// It is a replay of a letter.
    pub replay: bool,
}

/// What cannot be done at a desk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeskError {
    /// No sink of this name runs: there is none, it is disabled, or its source is away.
    #[error("no sink `{name}` runs; these do: {known}")]
    NotRunning {
        /// The name that was asked for.
        name: String,
        /// Who runs, by name.
        known: String,
    },
    /// It stopped meanwhile.
    #[error("the sink stopped meanwhile: ask again once it runs")]
    Stopped,
    /// One replay at a time: their messages would overtake each other.
    #[error("letters of this sink are being replayed already: wait until that is done")]
    Replaying,
    /// No such message waits.
    #[error("no such message waits: it may have been delivered or put aside meanwhile")]
    NoMessage,
    /// It cannot be taken back.
    #[error("the message is being sent just now: wait for the answer of the destination")]
    InFlight,
    /// What was asked for cannot be done.
    #[error("{0}")]
    Refused(String),
}

/// What became of a message of a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Delivered,
    /// Newer state of its row is on its way, or there.
    Superseded,
    Failed {
        error: String,
        attempts: u32,
    },
}

/// A message of a letter, charged.
pub(crate) struct Again {
    pub(crate) letter: LetterId,
    pub(crate) message: Arc<Message>,
    pub(crate) charges: (Charge, ShareCharge),
    /// The letter is of another stream: everything of this one is newer.
    pub(crate) is_foreign: bool,
    pub(crate) outcome: oneshot::Sender<Outcome>,
}

/// What is asked of the delivery.
pub(crate) enum Command {
    Waiting { max: usize, answer: oneshot::Sender<Vec<Waiting>> },
    Retry { which: Option<MessageId>, answer: oneshot::Sender<usize> },
    Discard { which: MessageId, reason: String, answer: oneshot::Sender<Result<(), DeskError>> },
    Replay(Again),
}

/// The desk of one running sink.
pub(crate) struct Desk {
    pub(crate) burial: Burial,
    pub(crate) budget: Arc<Budget>,
    /// The sink's own: what is replayed counts as what it has from the stream.
    pub(crate) share: Arc<Share>,
    pub(crate) rollouts: Rollouts,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) stopped: CancellationToken,
    is_replaying: AtomicBool,
    pub(crate) progress: Mutex<Arc<Progress>>,
}

/// Held by the one replay of a sink.
pub(crate) struct Turn(Arc<Desk>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.is_replaying.store(false, Ordering::Release);
    }
}

/// The desks of all sinks that run, by name.
#[derive(Clone, Default)]
pub(crate) struct Desks(Arc<Mutex<HashMap<Arc<str>, Arc<Desk>>>>);

impl Desks {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Desk>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sink starts.
    pub(crate) fn open(
        &self,
        burial: &Burial,
        (budget, share, rollouts): (&Arc<Budget>, &Arc<Share>, &Rollouts),
        stopped: &CancellationToken,
    ) -> mpsc::Receiver<Command> {
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let desk = Desk {
            burial: burial.clone(),
            budget: Arc::clone(budget),
            share: Arc::clone(share),
            rollouts: rollouts.clone(),
            commands: sender,
            stopped: stopped.clone(),
            is_replaying: AtomicBool::new(false),
            progress: Mutex::default(),
        };
        self.lock().insert(Arc::clone(&burial.spec.name), Arc::new(desk));
        commands
    }

    pub(crate) fn find(&self, name: &str) -> Result<Arc<Desk>, DeskError> {
        let desks = self.lock();
        let runs = |desk: &&Arc<Desk>| !desk.stopped.is_cancelled();
        let is_it =
            |desk: &&Arc<Desk>| *desk.burial.spec.name == *name || *desk.burial.spec.id == *name;
        if let Some(desk) = desks.values().filter(runs).find(is_it) {
            return Ok(Arc::clone(desk));
        }
        let mut known: Vec<&str> =
            desks.values().filter(runs).map(|desk| &*desk.burial.spec.name).collect();
        known.sort_unstable();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Err(DeskError::NotRunning { name: name.to_owned(), known })
    }
}

impl Desk {
    /// Takes the turn to replay.
    pub(crate) fn turn(self: &Arc<Self>) -> Result<Turn, DeskError> {
        if self.is_replaying.swap(true, Ordering::AcqRel) {
            return Err(DeskError::Replaying);
        }
        Ok(Turn(Arc::clone(self)))
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, DeskError> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(command(answer)).await.map_err(|_| DeskError::Stopped)?;
        answered.await.map_err(|_| DeskError::Stopped)
    }

    pub(crate) async fn waiting(&self, max: usize) -> Result<Vec<Waiting>, DeskError> {
        self.ask(|answer| Command::Waiting { max, answer }).await
    }

    pub(crate) async fn retry(&self, which: Option<MessageId>) -> Result<usize, DeskError> {
        self.ask(|answer| Command::Retry { which, answer }).await
    }

    pub(crate) async fn discard(&self, which: MessageId, reason: String) -> Result<(), DeskError> {
        self.ask(|answer| Command::Discard { which, reason, answer }).await?
    }
}
