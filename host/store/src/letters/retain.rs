//! How long letters are kept. What is removed is counted: nothing goes in silence.

use std::time::Duration;

use model::store::{Epoch, StoreError};
use rusqlite::{Connection, Transaction};

use crate::embedded::{Durability, Embedded};

/// Letters that one transaction removes: a few milliseconds, so that the others' writes go between.
const BATCH: u32 = 500;

/// How long a letter stays that nobody needs any more, to see what became of it.
const CLOSED: Duration = Duration::from_secs(7 * 24 * 3_600);

/// How long letters are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Open letters that failed last before this long; None: they stay.
    pub age_max: Option<Duration>,
    /// Bytes of all letters; beyond it the oldest go, those first that nobody needs. None: no limit.
    pub bytes_max: Option<u64>,
}

/// What retention removed of a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The sink.
    pub sink: String,
    /// Whether somebody might have needed them.
    pub open: bool,
    /// How many.
    pub letters: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When that was last.
    pub last_at: String,
}

impl Embedded {
    /// Removes some letters that are not to be kept. What was removed; nothing if none is left.
    ///
    /// # Errors
    /// Nothing was removed.
    pub async fn retain(
        &self,
        epoch: Epoch,
        retention: Retention,
    ) -> Result<Vec<Dropped>, StoreError> {
        self.write(epoch, Durability::Written, move |transaction| retain(transaction, retention))
            .await
    }
}

fn retain(
    transaction: &Transaction<'_>,
    retention: Retention,
) -> Result<Vec<Dropped>, rusqlite::Error> {
    let ago = |age: Duration| format!("-{} seconds", age.as_secs());
    let mut dropped = Vec::new();
    let old = "last_at < strftime('%Y-%m-%dT%H:%M:%fZ', 'now', ?1)";
    // Closed ones count from when they were closed, which is later than when they failed.
    let closed = "state IN ('replayed', 'discarded')
        AND coalesce(closed_at, last_at) < strftime('%Y-%m-%dT%H:%M:%fZ', 'now', ?1)";
    remove(transaction, closed, &ago(CLOSED), &mut dropped)?;
    if let Some(age) = retention.age_max {
        let open = format!("state IN ('open', 'superseded') AND {old}");
        remove(transaction, &open, &ago(age), &mut dropped)?;
    }
    if let Some(max) = retention.bytes_max {
        let sum = "SELECT coalesce(sum(bytes), 0) FROM letters";
        let held: i64 = transaction.query_row(sum, (), |row| row.get(0))?;
        let mut excess = held.cast_unsigned().saturating_sub(max);
        let oldest = "SELECT id, bytes FROM letters
            ORDER BY state IN ('open', 'superseded'), last_at LIMIT ?1";
        let mut statement = transaction.prepare(oldest)?;
        let mut rows = statement.query([BATCH])?;
        let mut ids: Vec<i64> = Vec::new();
        while excess > 0
            && let Some(row) = rows.next()?
        {
            ids.push(row.get(0)?);
            excess = excess.saturating_sub(row.get::<_, i64>(1)?.cast_unsigned());
        }
        for id in ids {
            remove(transaction, "id = ?1", &id.to_string(), &mut dropped)?;
        }
    }
    count(transaction, &dropped)?;
    Ok(dropped)
}

fn remove(
    transaction: &Transaction<'_>,
    which: &str,
    parameter: &str,
    dropped: &mut Vec<Dropped>,
) -> Result<(), rusqlite::Error> {
    let found = format!(
        "SELECT id, sink, state IN ('open', 'superseded'), bytes FROM letters WHERE {which} LIMIT ?2"
    );
    let mut statement = transaction.prepare(&found)?;
    let rows: Vec<(i64, String, bool, i64)> = statement
        .query_map((parameter, BATCH), |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?
        .collect::<Result<_, _>>()?;
    for (id, sink, open, bytes) in rows {
        transaction.prepare("DELETE FROM letter_keys WHERE letter = ?1")?.execute([id])?;
        transaction.prepare("DELETE FROM letters WHERE id = ?1")?.execute([id])?;
        let bytes = bytes.cast_unsigned();
        let same = |known: &&mut Dropped| known.sink == sink && known.open == open;
        if let Some(known) = dropped.iter_mut().find(same) {
            (known.letters, known.bytes) = (known.letters + 1, known.bytes + bytes);
        } else {
            dropped.push(Dropped { sink, open, letters: 1, bytes, last_at: String::new() });
        }
    }
    Ok(())
}

fn count(transaction: &Transaction<'_>, dropped: &[Dropped]) -> Result<(), rusqlite::Error> {
    for Dropped { sink, open, letters, bytes, .. } in dropped {
        let state = if *open { "open" } else { "closed" };
        let sql = "INSERT INTO letters_dropped (sink, state, letters, bytes, last_at)
            VALUES (?1, ?2, ?3, ?4, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
            ON CONFLICT (sink, state) DO UPDATE SET letters = letters + excluded.letters,
                bytes = bytes + excluded.bytes, last_at = excluded.last_at";
        let row = (sink, state, letters.cast_signed(), bytes.cast_signed());
        transaction.execute(sql, row)?;
    }
    Ok(())
}

pub(super) fn dropped(connection: &Connection) -> Result<Vec<Dropped>, rusqlite::Error> {
    let sql = "SELECT sink, state = 'open', letters, bytes, last_at FROM letters_dropped
        ORDER BY sink, state";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map((), |row| {
        Ok(Dropped {
            sink: row.get(0)?,
            open: row.get(1)?,
            letters: row.get::<_, i64>(2)?.cast_unsigned(),
            bytes: row.get::<_, i64>(3)?.cast_unsigned(),
            last_at: row.get(4)?,
        })
    })?;
    rows.collect()
}
