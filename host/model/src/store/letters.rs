//! Dead letters: messages put aside, and what can be done about them.

use std::sync::Arc;

use super::{Epoch, StoreError};
use crate::BoxFuture;
use crate::groups::GroupKey;
use crate::position::Position;

/// Names a letter in its store; rises, and is never used again.
pub type LetterId = i64;

/// Keys, and the letter to go on behind.
pub type KeyPage = (Vec<GroupKey>, Option<LetterId>);

/// Messages put aside: what the engine writes.
pub trait Letters: LetterBox {
    /// Keeps the letters for good: they are on disk when this returns. A letter of the same sink,
    /// origin, position, output and stage replaces the earlier one.
    ///
    /// # Errors
    /// None of them is kept.
    fn bury(&self, epoch: Epoch, letters: Arc<[Letter]>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Keys of the open letters of a sink behind this letter, a page at a time, with the letter to
    /// go on behind: None when there are no more.
    ///
    /// # Errors
    /// The store cannot be read.
    fn keys<'a>(
        &'a self,
        sink: &'a str,
        after: LetterId,
    ) -> BoxFuture<'a, Result<KeyPage, StoreError>>;

    /// Newer state of these rows is at the destination: their open letters of earlier positions, or
    /// of another origin, are marked, on disk when this returns. Which they are.
    ///
    /// # Errors
    /// None of them is marked.
    fn supersede<'a>(
        &'a self,
        epoch: Epoch,
        origin: &'a str,
        sink: &'a str,
        rows: Vec<(GroupKey, Position)>,
    ) -> BoxFuture<'a, Result<Vec<LetterId>, StoreError>>;

    /// A letter needs nothing any more. One that is closed stays as it is.
    ///
    /// # Errors
    /// It is not closed.
    fn close<'a>(
        &'a self,
        epoch: Epoch,
        letter: LetterId,
        how: Close,
        reason: &'a str,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// A replay of the letter failed too: the newest error, and how many attempts that took more.
    ///
    /// # Errors
    /// It is not noted.
    fn failed_again<'a>(
        &'a self,
        epoch: Epoch,
        letter: LetterId,
        error: &'a str,
        attempts: u32,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Changes what a replay sends; what it was is kept beside it.
    ///
    /// # Errors
    /// There is no such open letter, or it has no message to edit.
    fn edit(
        &self,
        epoch: Epoch,
        letter: LetterId,
        edit: Edit,
    ) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// Messages put aside: what people read.
pub trait LetterBox: Send + Sync {
    /// A page of letters, oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    fn list(&self, query: LetterQuery) -> BoxFuture<'_, Result<LetterPage, StoreError>>;

    /// One letter, whole.
    ///
    /// # Errors
    /// The store cannot be read.
    fn get(&self, letter: LetterId) -> BoxFuture<'_, Result<Option<StoredLetter>, StoreError>>;

    /// How many letters there are, by sink, state and reason.
    ///
    /// # Errors
    /// The store cannot be read.
    fn counts(&self) -> BoxFuture<'_, Result<Vec<Counts>, StoreError>>;
}

/// How far a message had come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// A row's change: there is no message of it.
    #[default]
    Change,
    /// A message that was to be delivered.
    Message,
}

impl Stage {
    /// The word in the store and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::Message => "message",
        }
    }
}

/// A message put aside, with all that is needed to understand it and to send it again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Letter {
    /// The stream it came from.
    pub origin: String,
    /// The sink that could not deliver it.
    pub sink: String,
    /// Its place.
    pub position: Position,
    /// Its index among the outputs of its change.
    pub output: u32,
    /// How far it had come.
    pub stage: Stage,
    /// `schema.table`; empty if it is not known.
    pub table: String,
    /// With `relation`: the message of the row as it came, with the types of its columns. Without:
    /// what was to be sent.
    pub input: String,
    /// What [`crate::recorded::Reader`] needs beside the input to make the same change of it.
    pub relation: Option<String>,
    /// What was to be sent, as [`crate::outgoing`] writes it.
    pub message: Option<String>,
    /// The rows and documents it is about: newer state of any of them supersedes it.
    pub keys: Vec<GroupKey>,
    /// Stable name of the reason, e.g. `plugin_deadline`.
    pub reason: String,
    /// What went wrong, with the guest's stack if there is one.
    pub error: String,
    /// The plugin it failed in, if it did: `sha256:…`.
    pub plugin: Option<String>,
    /// A hash of its sink's configuration.
    pub config: String,
    /// How often delivery was tried.
    pub attempts: u32,
}

/// What became of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterState {
    /// It waits for somebody.
    Open,
    /// As above, and newer state of its row is at the destination.
    Superseded,
    /// It was sent after all.
    Replayed,
    /// Somebody decided that it is not needed.
    Discarded,
}

impl LetterState {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Open, Self::Superseded, Self::Replayed, Self::Discarded];

    /// The word in the store and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Superseded => "superseded",
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
        }
    }

    /// Whether a replay has something to do with it.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Open | Self::Superseded)
    }
}

/// How a letter is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// It was sent after all.
    Replayed,
    /// Somebody decided that it is not needed.
    Discarded,
}

/// A letter as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLetter {
    /// Its number.
    pub id: LetterId,
    /// What became of it.
    pub state: LetterState,
    /// When it was first put aside, ISO 8601.
    pub first_at: String,
    /// When it last failed.
    pub last_at: String,
    /// When it was closed, and why.
    pub closed: Option<(String, String)>,
    /// When it was edited.
    pub edited_at: Option<String>,
    /// Its input before it was edited.
    pub original_input: Option<String>,
    /// Its message before it was edited.
    pub original_message: Option<String>,
    /// What it takes in the store, in bytes.
    pub bytes: u64,
    /// What was put aside. In a list without its input and message.
    pub letter: Letter,
}

/// Which letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LetterQuery {
    /// Of this sink.
    pub sink: Option<String>,
    /// Those only; none: the open ones and the superseded ones.
    pub state: Option<LetterState>,
    /// With this reason.
    pub reason: Option<String>,
    /// `schema.table`.
    pub table: Option<String>,
    /// With this in its input, its message or its error, byte by byte.
    pub text: Option<String>,
    /// That failed last at this time or later, ISO 8601 in UTC.
    pub since: Option<String>,
    /// That failed last before this time.
    pub until: Option<String>,
    /// Behind this one.
    pub after: LetterId,
    /// At most so many (1 or more).
    pub limit: usize,
    /// With their inputs and messages.
    pub whole: bool,
}

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LetterPage {
    /// Its letters. There may be fewer than asked for, even none, before the last page.
    pub letters: Vec<StoredLetter>,
    /// Behind which the next page begins; None on the last one.
    pub next: Option<LetterId>,
}

/// How many letters of one kind there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Their sink.
    pub sink: String,
    /// What became of them.
    pub state: LetterState,
    /// Their reason.
    pub reason: String,
    /// How many.
    pub letters: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What somebody changes of a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// The row's message as it came: a replay runs it through the sink's functions.
    Input(String),
    /// What is to be sent, past the functions.
    Message(String),
}
