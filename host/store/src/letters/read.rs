//! Reading letters, a page at a time, also while an engine has the file open.

use std::path::Path;

use model::groups::GroupKey;
use model::lsn::Lsn;
use model::position::Position;
use model::store::{
    Counts, KeyPage, Letter, LetterId, LetterPage, LetterQuery, LetterState, Stage, StoreError,
    StoredLetter,
};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row};

use super::retain::{self, Dropped};
use crate::embedded::{FILE, unavailable};

/// Letters that one page looks through at most, where a text is searched for.
const SEARCHED_MAX: usize = 10_000;

/// Bytes of letters that one page looks through or holds at most, but always one letter.
const BYTES_MAX: u64 = 64 << 20;

/// All but what is large.
const SMALL: &str = "id, state, first_at, last_at, closed_at, closed_why, edited_at, bytes, origin,
    sink, commit_lsn, ordinal, output, stage, table_name, reason, error, plugin, config, attempts";

/// The letters of a data directory, to be read.
pub struct LetterFile(Connection);

impl LetterFile {
    /// Opens them.
    ///
    /// # Errors
    /// There is no store, or it cannot be read.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(FILE);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).map_err(|error| {
            StoreError::Unavailable(format!("{} cannot be read: {error}", path.display()))
        })?;
        Ok(Self(connection))
    }

    /// A page of letters, oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn list(&self, query: &LetterQuery) -> Result<LetterPage, StoreError> {
        self.page(query).map_err(unavailable)
    }

    fn page(&self, query: &LetterQuery) -> Result<LetterPage, rusqlite::Error> {
        let large = query.whole || query.text.is_some();
        let columns = if large {
            "relation, input, message, original_input, original_message"
        } else {
            "NULL"
        };
        let states = match query.state {
            Some(state) => format!("'{}'", state.as_str()),
            None => "'open', 'superseded'".to_owned(),
        };
        let sql = format!(
            "SELECT {SMALL}, {columns} FROM letters WHERE id > ?1 AND state IN ({states})
                AND (?2 IS NULL OR sink = ?2) AND (?3 IS NULL OR reason = ?3)
                AND (?4 IS NULL OR table_name = ?4) AND (?5 IS NULL OR last_at >= ?5)
                AND (?6 IS NULL OR last_at < ?6)
             ORDER BY id"
        );
        let mut statement = self.0.prepare(&sql)?;
        let LetterQuery { sink, reason, table, since, until, .. } = query;
        let mut rows = statement.query((query.after, sink, reason, table, since, until))?;
        let mut page = LetterPage::default();
        let (mut seen, mut bytes, mut last) = (0, 0, query.after);
        while let Some(row) = rows.next()? {
            let own = if large { row.get::<_, i64>(7)?.cast_unsigned() } else { 0 };
            let is_full = page.letters.len() >= query.limit.max(1)
                || (seen > 0 && bytes + own > BYTES_MAX)
                || (query.text.is_some() && seen >= SEARCHED_MAX);
            if is_full {
                page.next = Some(last);
                break;
            }
            (seen, bytes, last) = (seen + 1, bytes + own, row.get(0)?);
            let mut stored = stored(row, large)?;
            if query.text.as_ref().is_some_and(|text| !holds(&stored.letter, text)) {
                continue;
            }
            if !query.whole {
                stored.letter.input.clear();
                (stored.letter.relation, stored.letter.message) = (None, None);
                (stored.original_input, stored.original_message) = (None, None);
            }
            page.letters.push(stored);
        }
        Ok(page)
    }

    /// One letter, whole.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn get(&self, letter: LetterId) -> Result<Option<StoredLetter>, StoreError> {
        let sql = format!(
            "SELECT {SMALL}, relation, input, message, original_input, original_message
             FROM letters WHERE id = ?1"
        );
        let read = || {
            let found = self.0.query_row(&sql, [letter], |row| stored(row, true)).optional()?;
            let Some(mut found) = found else { return Ok(None) };
            let mut keys = self.0.prepare("SELECT key FROM letter_keys WHERE letter = ?1")?;
            let keys = keys.query_map([letter], |row| row.get(0).map(key))?;
            found.letter.keys = keys.collect::<Result<_, _>>()?;
            Ok(Some(found))
        };
        read().map_err(unavailable)
    }

    /// How many letters there are, by sink, state and reason.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn counts(&self) -> Result<Vec<Counts>, StoreError> {
        let read = || {
            let mut statement = self.0.prepare(
                "SELECT sink, state, reason, count(*), sum(bytes) FROM letters
                 GROUP BY sink, state, reason ORDER BY sink, state, reason",
            )?;
            let counts = statement.query_map((), |row| {
                Ok(Counts {
                    sink: row.get(0)?,
                    state: state(&row.get::<_, String>(1)?),
                    reason: row.get(2)?,
                    letters: row.get::<_, i64>(3)?.cast_unsigned(),
                    bytes: row.get::<_, i64>(4)?.cast_unsigned(),
                })
            })?;
            counts.collect::<Result<Vec<_>, _>>()
        };
        read().map_err(unavailable)
    }

    /// What retention removed.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn dropped(&self) -> Result<Vec<Dropped>, StoreError> {
        retain::dropped(&self.0).map_err(unavailable)
    }

    /// The sinks that anything is known of.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn sinks(&self) -> Result<Vec<String>, StoreError> {
        let read = || {
            let sql = "SELECT sink FROM progress UNION SELECT sink FROM letters ORDER BY 1";
            let mut statement = self.0.prepare(sql)?;
            statement.query_map((), |row| row.get(0))?.collect::<Result<Vec<_>, _>>()
        };
        read().map_err(unavailable)
    }

    pub(super) fn keys(
        &self,
        sink: &str,
        after: LetterId,
        max: usize,
    ) -> Result<KeyPage, StoreError> {
        let read = || {
            let mut statement = self.0.prepare(
                "SELECT letter, key FROM letter_keys WHERE letter > ?1 AND sink = ?2
                 ORDER BY letter, key",
            )?;
            let mut rows = statement.query((after, sink))?;
            let (mut keys, mut last) = (Vec::new(), after);
            while let Some(row) = rows.next()? {
                let letter: LetterId = row.get(0)?;
                // A letter has few keys, and they are not torn apart.
                if keys.len() >= max && letter != last {
                    return Ok((keys, Some(last)));
                }
                last = letter;
                keys.push(key(row.get(1)?));
            }
            Ok((keys, None))
        };
        read().map_err(unavailable)
    }
}

fn key(stored: i64) -> GroupKey {
    GroupKey(stored.cast_unsigned())
}

fn state(word: &str) -> LetterState {
    let known = LetterState::ALL.into_iter().find(|state| state.as_str() == word);
    known.unwrap_or(LetterState::Open)
}

fn holds(letter: &Letter, text: &str) -> bool {
    let in_message = letter.message.as_ref().is_some_and(|message| message.contains(text));
    in_message || letter.input.contains(text) || letter.error.contains(text)
}

/// A row of [`SMALL`], and what is large behind it.
fn stored(row: &Row<'_>, large: bool) -> Result<StoredLetter, rusqlite::Error> {
    let (lsn, ordinal): (i64, i64) = (row.get(10)?, row.get(11)?);
    let stage = match row.get::<_, String>(13)?.as_str() {
        "message" => Stage::Message,
        _ => Stage::Change,
    };
    let letter = Letter {
        origin: row.get(8)?,
        sink: row.get(9)?,
        position: Position::new(Lsn(lsn.cast_unsigned()), ordinal.cast_unsigned()),
        output: row.get(12)?,
        stage,
        table: row.get(14)?,
        reason: row.get(15)?,
        error: row.get(16)?,
        plugin: row.get(17)?,
        config: row.get(18)?,
        attempts: row.get(19)?,
        relation: if large { row.get(20)? } else { None },
        input: if large { row.get(21)? } else { String::new() },
        message: if large { row.get(22)? } else { None },
        keys: Vec::new(),
    };
    let closed: (Option<String>, Option<String>) = (row.get(4)?, row.get(5)?);
    Ok(StoredLetter {
        id: row.get(0)?,
        state: state(&row.get::<_, String>(1)?),
        first_at: row.get(2)?,
        last_at: row.get(3)?,
        closed: closed.0.map(|at| (at, closed.1.unwrap_or_default())),
        edited_at: row.get(6)?,
        original_input: if large { row.get(23)? } else { None },
        original_message: if large { row.get(24)? } else { None },
        bytes: row.get::<_, i64>(7)?.cast_unsigned(),
        letter,
    })
}
