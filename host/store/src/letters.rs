//! Messages put aside: what the engine and its operators write.
//!
//! Reading has connections of its own ([`read`]): a search through many letters holds up no write.

mod read;
mod retain;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use model::BoxFuture;
use model::groups::GroupKey;
use model::position::Position;
use model::store::{
    Close, Counts, Edit, Epoch, KeyPage, Letter, LetterBox, LetterId, LetterPage, LetterQuery,
    LetterState, Letters, StoreError, StoredLetter,
};
use rusqlite::{OptionalExtension as _, Transaction};

use crate::embedded::{Durability, Embedded};
pub use read::LetterFile;
pub use retain::{Dropped, Retention};

/// Now, as letters tell times.
const NOW: &str = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')";

/// Keys of one page.
const KEYS: usize = 10_000;

const BURY: &str = "
    INSERT INTO letters (origin, sink, commit_lsn, ordinal, output, stage, state, reason, table_name,
        plugin, config, attempts, first_at, last_at, bytes, relation, error, input, message)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'open', ?7, ?8, ?9, ?10, ?11, {now}, {now}, ?12, ?13, ?14, ?15,
        ?16)
    ON CONFLICT (origin, sink, commit_lsn, ordinal, output, stage) DO UPDATE SET
        state = 'open', reason = excluded.reason, plugin = excluded.plugin,
        config = excluded.config, attempts = excluded.attempts, last_at = excluded.last_at,
        closed_at = NULL, closed_why = NULL, edited_at = NULL, original_input = NULL,
        original_message = NULL, bytes = excluded.bytes, relation = excluded.relation,
        error = excluded.error, input = excluded.input, message = excluded.message
    RETURNING id";

const SUPERSEDE: &str = "
    UPDATE letters SET state = 'superseded'
    WHERE state = 'open'
      AND id IN (SELECT letter FROM letter_keys WHERE sink = ?1 AND key = ?2)
      AND (origin <> ?3 OR (commit_lsn, ordinal) < (?4, ?5))
    RETURNING id";

impl Letters for Embedded {
    fn bury(&self, epoch: Epoch, letters: Arc<[Letter]>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.write(epoch, Durability::Synced, move |transaction| {
            letters.iter().try_for_each(|letter| bury(transaction, letter))
        }))
    }

    fn keys<'a>(
        &'a self,
        sink: &'a str,
        after: LetterId,
    ) -> BoxFuture<'a, Result<KeyPage, StoreError>> {
        let sink = sink.to_owned();
        self.read(move |file| file.keys(&sink, after, KEYS))
    }

    fn supersede<'a>(
        &'a self,
        epoch: Epoch,
        origin: &'a str,
        sink: &'a str,
        rows: Vec<(GroupKey, Position)>,
    ) -> BoxFuture<'a, Result<Vec<LetterId>, StoreError>> {
        let (origin, sink) = (origin.to_owned(), sink.to_owned());
        Box::pin(self.write(epoch, Durability::Synced, move |transaction| {
            let mut statement = transaction.prepare(SUPERSEDE)?;
            let mut marked = Vec::new();
            for (key, position) in &rows {
                let (lsn, ordinal) = (position.commit_lsn.0.cast_signed(), position.ordinal);
                let row = (&sink, key.0.cast_signed(), &origin, lsn, ordinal.cast_signed());
                for id in statement.query_map(row, |row| row.get(0))? {
                    marked.push(id?);
                }
            }
            Ok(marked)
        }))
    }

    fn close<'a>(
        &'a self,
        epoch: Epoch,
        letter: LetterId,
        how: Close,
        reason: &'a str,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let reason = reason.to_owned();
        let state = match how {
            Close::Replayed => LetterState::Replayed,
            Close::Discarded => LetterState::Discarded,
        };
        Box::pin(self.write(epoch, Durability::Synced, move |transaction| {
            let sql = format!(
                "UPDATE letters SET state = ?2, closed_at = {NOW}, closed_why = ?3
                 WHERE id = ?1 AND state IN ('open', 'superseded')"
            );
            transaction.execute(&sql, (letter, state.as_str(), &reason))?;
            transaction.execute("DELETE FROM letter_keys WHERE letter = ?1", [letter]).map(drop)
        }))
    }

    fn failed_again<'a>(
        &'a self,
        epoch: Epoch,
        letter: LetterId,
        error: &'a str,
        attempts: u32,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let error = error.to_owned();
        Box::pin(self.write(epoch, Durability::Synced, move |transaction| {
            let sql = format!(
                "UPDATE letters SET error = ?2, attempts = attempts + ?3, last_at = {NOW}
                 WHERE id = ?1 AND state IN ('open', 'superseded')"
            );
            transaction.execute(&sql, (letter, &error, attempts)).map(drop)
        }))
    }

    fn edit(
        &self,
        epoch: Epoch,
        letter: LetterId,
        edit: Edit,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let work = move |transaction: &Transaction<'_>| change(transaction, letter, &edit);
            match self.write(epoch, Durability::Synced, work).await? {
                Edited::Done => Ok(()),
                Edited::None => Err(StoreError::Refused(format!("there is no letter {letter}"))),
                Edited::Closed(state) => Err(StoreError::Refused(format!(
                    "letter {letter} is {state}: only an open one can be edited"
                ))),
                Edited::Lacking(what) => {
                    Err(StoreError::Refused(format!("letter {letter} has no {what} to edit")))
                }
            }
        })
    }
}

impl LetterBox for Embedded {
    fn list(&self, query: LetterQuery) -> BoxFuture<'_, Result<LetterPage, StoreError>> {
        self.read(move |file| file.list(&query))
    }

    fn get(&self, letter: LetterId) -> BoxFuture<'_, Result<Option<StoredLetter>, StoreError>> {
        self.read(move |file| file.get(letter))
    }

    fn counts(&self) -> BoxFuture<'_, Result<Vec<Counts>, StoreError>> {
        self.read(LetterFile::counts)
    }
}

impl Embedded {
    /// Reads beside whatever is written.
    fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&LetterFile) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let directory = self.directory().to_owned();
        Box::pin(async move {
            let read = tokio::task::spawn_blocking(move || work(&LetterFile::open(&directory)?));
            read.await.map_err(|error| StoreError::Unavailable(error.to_string()))?
        })
    }
}

fn bury(transaction: &Transaction<'_>, letter: &Letter) -> Result<(), rusqlite::Error> {
    let message = letter.message.as_ref().map_or(0, String::len);
    let bytes = letter.input.len() + letter.error.len() + message;
    let mut statement = transaction.prepare(&BURY.replace("{now}", NOW))?;
    let values = rusqlite::params![
        letter.origin,
        letter.sink,
        letter.position.commit_lsn.0.cast_signed(),
        letter.position.ordinal.cast_signed(),
        letter.output,
        letter.stage.as_str(),
        letter.reason,
        letter.table,
        letter.plugin,
        letter.config,
        letter.attempts,
        i64::try_from(bytes).unwrap_or(i64::MAX),
        letter.relation,
        letter.error,
        letter.input,
        letter.message,
    ];
    let id: LetterId = statement.query_row(values, |row| row.get(0))?;
    transaction.prepare("DELETE FROM letter_keys WHERE letter = ?1")?.execute([id])?;
    let add = "INSERT OR IGNORE INTO letter_keys (sink, key, letter) VALUES (?1, ?2, ?3)";
    let mut add = transaction.prepare(add)?;
    for key in &letter.keys {
        add.execute((&letter.sink, key.0.cast_signed(), id))?;
    }
    Ok(())
}

enum Edited {
    Done,
    None,
    Closed(String),
    Lacking(&'static str),
}

fn change(
    transaction: &Transaction<'_>,
    letter: LetterId,
    edit: &Edit,
) -> Result<Edited, rusqlite::Error> {
    let found: Option<(String, bool, bool)> = transaction
        .query_row(
            "SELECT state, relation IS NOT NULL, message IS NOT NULL FROM letters WHERE id = ?1",
            [letter],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .optional()?;
    let Some((state, has_input, has_message)) = found else { return Ok(Edited::None) };
    if state != LetterState::Open.as_str() && state != LetterState::Superseded.as_str() {
        return Ok(Edited::Closed(state));
    }
    let (column, text) = match edit {
        Edit::Input(_) if !has_input => return Ok(Edited::Lacking("recorded input")),
        Edit::Message(_) if !has_message => return Ok(Edited::Lacking("message")),
        Edit::Input(text) => ("input", text),
        Edit::Message(text) => ("message", text),
    };
    let sql = format!(
        "UPDATE letters SET original_{column} = coalesce(original_{column}, {column}),
            {column} = ?2, edited_at = {NOW},
            bytes = bytes - length(CAST({column} AS BLOB)) + length(CAST(?2 AS BLOB))
         WHERE id = ?1"
    );
    transaction.execute(&sql, (letter, text))?;
    Ok(Edited::Done)
}
