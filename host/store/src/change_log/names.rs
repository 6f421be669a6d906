//! What sinks were called when chunks were written: a chunk names the sinks that owe it, is never
//! written again, and a sink may have got another name since.
//!
//! A rename holds for what stood in a log then: below the addresses where the log ended. Of a log that
//! nobody has open these are found when it is opened next, before anything is appended.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError, Weak};

use model::chunk;
use model::store::{Address, Logged, Part};
use rusqlite::{Connection, Error, Transaction};

use super::state::State;

pub(crate) const SCHEMA: &str = "
    CREATE TABLE log_names (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        origin TEXT NOT NULL,
        sink TEXT NOT NULL,
        renamed TEXT NOT NULL,
        -- Where the parts of the log ended; null until it is opened.
        stream_end INTEGER,
        kept_end INTEGER
    ) STRICT;
";

const RENAME: &str = "
    INSERT INTO log_names (origin, sink, renamed, stream_end, kept_end)
    SELECT DISTINCT origin, ?2, ?3, ?4, ?5 FROM progress WHERE origin = ?1 AND sink = ?2";
const OF_LOG: &str = "
    SELECT sink, renamed, stream_end, kept_end FROM log_names WHERE origin = ?1 ORDER BY id";

/// Of the logs that are open: where they end.
#[derive(Default)]
pub(crate) struct Open(Mutex<HashMap<String, Weak<State>>>);

impl Open {
    pub(super) fn note(&self, origin: &str, state: Weak<State>) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, state| state.strong_count() > 0);
        open.insert(origin.to_owned(), state);
    }

    fn ends(&self, origin: &str) -> Option<(Address, Address)> {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = open.get(origin)?.upgrade()?;
        Some((state.end(Part::Stream), state.end(Part::Kept)))
    }
}

/// A sink gets another name: what it owes of the logs is what it owed. Before its progress does.
pub(crate) fn rename(
    transaction: &Transaction<'_>,
    open: &Open,
    (from, to): (&str, &str),
) -> Result<(), Error> {
    let origins: Vec<String> = transaction
        .prepare("SELECT DISTINCT origin FROM progress WHERE sink = ?1")?
        .query_map([from], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for origin in origins {
        let ends = open.ends(&origin);
        let [stream, kept] = [ends.map(|it| it.0), ends.map(|it| it.1)]
            .map(|end| end.map(|address| address.0.cast_signed()));
        transaction.execute(RENAME, (&origin, from, to, stream, kept))?;
    }
    Ok(())
}

/// A name that a sink had.
struct Had {
    sink: String,
    renamed: String,
    stream: Address,
    kept: Address,
}

/// The names that sinks had, the oldest first.
#[derive(Default)]
pub(super) struct Names(Vec<Had>);

impl Names {
    /// Those of a log that has just been opened, and ends there. `first` is where its first chunks are
    /// that are left.
    pub(super) fn of(
        transaction: &Transaction<'_>,
        origin: &str,
        end: (Address, Address),
        first: (Address, Address),
    ) -> Result<Self, Error> {
        let [ends, firsts] =
            [end, first].map(|(stream, kept)| (stream.0.cast_signed(), kept.0.cast_signed()));
        let known = "
            UPDATE log_names SET stream_end = ?2, kept_end = ?3
            WHERE origin = ?1 AND stream_end IS NULL";
        transaction.execute(known, (origin, ends.0, ends.1))?;
        // Of one that was forgotten, and began anew, all are.
        let is_new = end == (Address::default(), Address::default());
        let over = "
            DELETE FROM log_names
            WHERE origin = ?1 AND (?4 OR (stream_end <= ?2 AND kept_end <= ?3))";
        transaction.execute(over, (origin, firsts.0, firsts.1, is_new))?;
        Self::read(transaction, origin)
    }

    fn read(connection: &Connection, origin: &str) -> Result<Self, Error> {
        let mut had = connection.prepare(OF_LOG)?;
        let had = had.query_map([origin], |row| {
            let end = |at| row.get::<_, i64>(at).map(|end| Address(end.cast_unsigned()));
            let (sink, renamed) = (row.get(0)?, row.get(1)?);
            Ok(Had { sink, renamed, stream: end(2)?, kept: end(3)? })
        })?;
        had.collect::<Result<_, _>>().map(Self)
    }

    /// A chunk with the names that its sinks have by now.
    pub(super) fn put(&self, part: Part, mut logged: Logged) -> Logged {
        let had = self.0.iter().filter(|had| {
            let end = match part {
                Part::Stream => had.stream,
                Part::Kept => had.kept,
            };
            logged.address < end
        });
        for Had { sink, renamed, .. } in had {
            let name = |known: &str| match known {
                _ if known == sink => Some(renamed.clone()),
                // Another one, which was gone when this name was given again. It owes nothing.
                _ if known == renamed => Some(String::new()),
                _ => None,
            };
            // What is damaged is told by who reads it.
            if let Ok(Some(bytes)) = chunk::renamed(&logged.bytes, name) {
                logged.bytes = bytes;
            }
        }
        logged
    }
}
