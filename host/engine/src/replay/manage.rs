//! What operators ask of letters, sinks and traces, through the engine's handle.

use std::sync::Arc;
use std::time::Duration;

use model::BoxFuture;
use model::plugin::Plugin;
use model::sink::SinkError;
use model::store::{
    Close, Counts, Edit, LetterId, LetterPage, LetterQuery, StoreError, StoredLetter,
};

use tokio::sync::mpsc;

use super::{DryRun, Instead, Judge, Progress, Replay, Selection};
use crate::desk::{DeskError, MessageId, Waiting};
use crate::run::Handle;
use crate::supervise::TaskKind;
use crate::trace::Event;

/// Messages that one list of those that wait holds at most.
const WAITING_MAX: usize = 1_000;

/// A letter is looked for so long, this often, and in pages of so many.
const LETTER_MAX: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);
const PAGE: usize = 1_000;

/// A trace is for somebody who looks at it.
const TRACE_MAX: Duration = Duration::from_secs(3_600);

/// What operators cannot have.
#[derive(Debug, thiserror::Error)]
pub enum ManageError {
    /// Of a sink.
    #[error(transparent)]
    Desk(#[from] DeskError),
    /// Of the store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Handle {
    /// A page of letters.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn letters(&self, query: LetterQuery) -> Result<LetterPage, StoreError> {
        self.stores.letters.list(query).await
    }

    /// One letter.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn letter(&self, letter: LetterId) -> Result<Option<StoredLetter>, StoreError> {
        self.stores.letters.get(letter).await
    }

    /// How many letters there are.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn letter_counts(&self) -> Result<Vec<Counts>, StoreError> {
        self.stores.letters.counts().await
    }

    /// Changes what a replay of the letter sends.
    ///
    /// # Errors
    /// The text is no message, or there is no such open letter.
    pub async fn edit_letter(&self, letter: LetterId, edit: Edit) -> Result<(), ManageError> {
        let Some(stored) = self.letter(letter).await? else {
            return Err(StoreError::Refused(format!("there is no letter {letter}")).into());
        };
        let (relation, at) = (stored.letter.relation.as_deref(), stored.letter.position);
        fits(&edit, relation, MessageId { position: at, output: stored.letter.output })?;
        Ok(self.stores.letters.edit(self.stores.epoch, letter, edit).await?)
    }

    /// Closes a letter that nobody needs, for a reason that is kept.
    ///
    /// # Errors
    /// The store cannot be written, or there is no such letter.
    pub async fn discard_letter(&self, letter: LetterId, why: &str) -> Result<(), ManageError> {
        if self.letter(letter).await?.is_none() {
            return Err(StoreError::Refused(format!("there is no letter {letter}")).into());
        }
        let letters = &self.stores.letters;
        Ok(letters.close(self.stores.epoch, letter, Close::Discarded, why).await?)
    }

    /// Begins to send letters of a sink again. How far it came can be seen meanwhile.
    ///
    /// # Errors
    /// The sink does not run, has no such function, or letters of it are being replayed.
    pub fn replay(
        &self,
        sink: &str,
        selection: Selection,
        instead: Option<&Instead>,
    ) -> Result<Arc<Progress>, DeskError> {
        let desk = self.desks.find(sink)?;
        check(&desk.burial.spec, instead)?;
        let turn = desk.turn()?;
        let replay = Replay::new(&desk, selection, instead, Some(turn));
        let progress = replay.progress();
        *desk.progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
            Arc::clone(&progress);
        let name = Arc::clone(&desk.burial.spec.name);
        self.supervisor.spawn(TaskKind::Replay, &name, replay.run());
        Ok(progress)
    }

    /// The functions that a replay sends rows through, in their order.
    ///
    /// # Errors
    /// The sink does not run, or has no such function.
    pub fn judges(&self, sink: &str, instead: Option<&Instead>) -> Result<Vec<Judge>, DeskError> {
        let spec = &self.desks.find(sink)?.burial.spec;
        check(spec, instead)?;
        let chain = spec.filters.iter().chain(&spec.routers).chain(&spec.transforms);
        let judge = |plugin: &Arc<dyn Plugin>| {
            let other = instead.filter(|it| it.function == plugin.name());
            let plugin = other.map_or(plugin, |it| &it.plugin);
            Judge {
                function: plugin.name().to_owned(),
                digest: plugin.digest().to_owned(),
                is_deterministic: plugin.is_deterministic(),
            }
        };
        Ok(chain.map(judge).collect())
    }

    /// How far the last replay of a sink came.
    ///
    /// # Errors
    /// The sink does not run.
    pub fn replayed(&self, sink: &str) -> Result<Arc<Progress>, DeskError> {
        let desk = self.desks.find(sink)?;
        let progress = desk.progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(Arc::clone(&progress))
    }

    /// What a replay would do with the first letters; nothing is sent and nothing is noted.
    ///
    /// # Errors
    /// The sink does not run, has no such function, or the store cannot be read.
    pub async fn dry_run(
        &self,
        sink: &str,
        selection: Selection,
        instead: Option<&Instead>,
    ) -> Result<Vec<DryRun>, ManageError> {
        let desk = self.desks.find(sink)?;
        check(&desk.burial.spec, instead)?;
        Ok(Replay::new(&desk, selection, instead, None).dry_run().await?)
    }

    /// Messages of a sink that were tried in vain and wait, the oldest first.
    ///
    /// # Errors
    /// The sink does not run.
    pub async fn waiting(&self, sink: &str, max: usize) -> Result<Vec<Waiting>, DeskError> {
        self.desks.find(sink)?.waiting(max.min(WAITING_MAX)).await
    }

    /// Tries a message that waits now, or all of them. How many waited.
    ///
    /// # Errors
    /// The sink does not run.
    pub async fn retry_now(
        &self,
        sink: &str,
        which: Option<MessageId>,
    ) -> Result<usize, DeskError> {
        self.desks.find(sink)?.retry(which).await
    }

    /// Puts a message aside that waits, as a letter: its group goes on.
    ///
    /// # Errors
    /// The sink does not run, or no such message waits.
    pub async fn discard_now(
        &self,
        sink: &str,
        which: MessageId,
        reason: &str,
    ) -> Result<(), DeskError> {
        self.desks.find(sink)?.discard(which, reason.to_owned()).await
    }

    /// Whether the destination of a sink can be reached and would take messages: asked when what comes
    /// back is awaited.
    ///
    /// # Errors
    /// The sink does not run.
    pub fn check_sink(
        &self,
        sink: &str,
    ) -> Result<BoxFuture<'static, Result<(), SinkError>>, DeskError> {
        let desk = self.desks.find(sink)?;
        let port = Arc::clone(&desk.burial.spec.sink);
        Ok(Box::pin(async move { port.check().await }))
    }

    /// One message that was tried in vain and waits.
    ///
    /// # Errors
    /// The sink does not run, or no such message waits.
    pub async fn waiting_one(&self, sink: &str, which: MessageId) -> Result<Waiting, DeskError> {
        let waiting = self.desks.find(sink)?.waiting(usize::MAX).await?;
        waiting.into_iter().find(|waiting| waiting.id == which).ok_or(DeskError::NoMessage)
    }

    /// Puts a message aside that waits, and has its replay send something else. What it was is kept
    /// with its letter. Nothing is put aside if what is to be sent is none.
    ///
    /// # Errors
    /// The sink does not run, no such message waits, or what is to be sent is no message; or its letter
    /// cannot be had: it is put aside then, as it was.
    pub async fn edit_now(
        &self,
        sink: &str,
        which: MessageId,
        edit: Edit,
    ) -> Result<(Arc<str>, LetterId), ManageError> {
        let desk = self.desks.find(sink)?;
        let (name, origin) = (Arc::clone(&desk.burial.spec.name), Arc::clone(&desk.burial.origin));
        let waiting = self.waiting_one(sink, which).await?;
        let relation = waiting.message.relation.as_deref().map(model::recorded::table);
        fits(&edit, relation.as_deref(), which)?;
        desk.discard(which, "edited".to_owned()).await?;
        let letter = tokio::time::timeout(LETTER_MAX, self.letter_of(&name, &origin, which)).await;
        let late = |_| {
            let told = "it is put aside as it was, and its letter cannot be seen yet: edit that";
            StoreError::Unavailable(told.to_owned())
        };
        let letter = letter.map_err(late)??;
        self.edit_letter(letter, edit).await?;
        Ok((name, letter))
    }

    /// The letter of a message that is being put aside: it is written while others go on.
    async fn letter_of(
        &self,
        sink: &str,
        origin: &str,
        which: MessageId,
    ) -> Result<LetterId, StoreError> {
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            let sink = Some(sink.to_owned());
            let mut query = LetterQuery { sink, limit: PAGE, ..LetterQuery::default() };
            loop {
                let page = self.letters(query.clone()).await?;
                // Positions of another stream may be the same.
                let is_it = |stored: &&StoredLetter| {
                    let letter = &stored.letter;
                    let id = MessageId { position: letter.position, output: letter.output };
                    id == which && *letter.origin == *origin
                };
                if let Some(found) = page.letters.iter().find(is_it) {
                    return Ok(found.id);
                }
                let Some(next) = page.next else { break };
                query.after = next;
            }
        }
    }

    /// Shows what passes through a sink: the next rows, for some time at most. Off with no rows.
    ///
    /// # Errors
    /// The sink does not run.
    pub fn trace(&self, sink: &str, rows: u64, time: Duration) -> Result<(), DeskError> {
        let desk = self.desks.find(sink)?;
        let trace = &desk.burial.status.trace;
        if rows == 0 {
            trace.stop();
        } else {
            trace.start(rows, time.min(TRACE_MAX));
        }
        Ok(())
    }

    /// The next so many rows that the sink's functions are asked about, as messages with types, those
    /// of letters that are sent again among them.
    ///
    /// # Errors
    /// The sink does not run, or others record it already.
    pub fn record(&self, sink: &str, count: usize) -> Result<mpsc::Receiver<String>, DeskError> {
        let desk = self.desks.find(sink)?;
        desk.burial.status.tap.open(count).ok_or(DeskError::Recorded)
    }

    /// What was seen behind this number, and whether more is shown.
    ///
    /// # Errors
    /// The sink does not run.
    pub fn traced(&self, sink: &str, after: u64) -> Result<(Vec<Event>, bool), DeskError> {
        let desk = self.desks.find(sink)?;
        let trace = &desk.burial.status.trace;
        Ok((trace.events(after), trace.is_on()))
    }
}

/// Whether a replay can send this instead.
fn fits(edit: &Edit, relation: Option<&str>, of: MessageId) -> Result<(), DeskError> {
    let refused = |error: String| DeskError::Refused(error);
    match (edit, relation) {
        (Edit::Input(text), Some(relation)) => {
            let read = model::recorded::Reader::default().read_of(text, relation);
            read.map(drop).map_err(|error| refused(error.to_string()))
        }
        (Edit::Input(_), None) => Ok(()),
        (Edit::Message(text), _) => {
            let read = model::outgoing::read(text, of.position, of.output, &Arc::from(""));
            read.map(drop).map_err(|error| refused(error.to_string()))
        }
    }
}

fn check(spec: &crate::spec::SinkSpec, instead: Option<&Instead>) -> Result<(), DeskError> {
    let Some(instead) = instead else { return Ok(()) };
    let mut chains = [&spec.filters, &spec.routers, &spec.transforms].into_iter().flatten();
    if chains.any(|plugin| plugin.name() == instead.function) {
        return Ok(());
    }
    let (sink, function) = (&spec.name, &instead.function);
    Err(DeskError::Refused(format!("sink `{sink}` has no function `{function}` to replace")))
}
