//! Messages put aside.

use std::path::Path;

use model::BoxFuture;
use model::lsn::Lsn;
use model::position::Position;
use model::store::{Epoch, Letter, Letters, StoreError};
use rusqlite::{Connection, OpenFlags, Row};

use crate::embedded::{Durability, Embedded, FILE, unavailable};

const BURY: &str = "
    INSERT INTO letters (origin, sink, commit_lsn, ordinal, output, input, reason, error, plugin,
        attempts, buried_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
    ON CONFLICT (origin, sink, commit_lsn, ordinal, output) DO UPDATE SET
        input = excluded.input, reason = excluded.reason, error = excluded.error,
        plugin = excluded.plugin, attempts = excluded.attempts, buried_at = excluded.buried_at";
const READ: &str = "
    SELECT id, buried_at, origin, sink, commit_lsn, ordinal, output, input, reason, error, plugin,
        attempts
    FROM letters WHERE ?1 IS NULL OR sink = ?1 ORDER BY id";

/// A letter as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLetter {
    /// Its number, rising.
    pub id: i64,
    /// When it was put aside, ISO 8601.
    pub buried_at: String,
    /// What was put aside.
    pub letter: Letter,
}

impl Letters for Embedded {
    fn bury(&self, epoch: Epoch, letters: Vec<Letter>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.write(epoch, Durability::Synced, move |transaction| {
            let mut statement = transaction.prepare(BURY)?;
            for letter in &letters {
                statement.execute((
                    &letter.origin,
                    &letter.sink,
                    letter.position.commit_lsn.0.cast_signed(),
                    letter.position.ordinal.cast_signed(),
                    letter.output,
                    &letter.input,
                    &letter.reason,
                    &letter.error,
                    &letter.plugin,
                    letter.attempts,
                ))?;
            }
            Ok(())
        }))
    }
}

/// Reads the letters of a data directory, of one sink or of all, oldest first; also while an engine
/// has it open.
///
/// # Errors
/// There is no store, or it cannot be read.
pub fn read_letters(
    directory: &Path,
    sink: Option<&str>,
    mut each: impl FnMut(StoredLetter),
) -> Result<(), StoreError> {
    let path = directory.join(FILE);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&path, flags).map_err(|error| {
        StoreError::Unavailable(format!("{} cannot be read: {error}", path.display()))
    })?;
    let mut statement = connection.prepare(READ).map_err(unavailable)?;
    let rows = statement.query_map([sink], stored).map_err(unavailable)?;
    for row in rows {
        each(row.map_err(unavailable)?);
    }
    Ok(())
}

fn stored(row: &Row<'_>) -> Result<StoredLetter, rusqlite::Error> {
    let lsn: i64 = row.get(4)?;
    let ordinal: i64 = row.get(5)?;
    let letter = Letter {
        origin: row.get(2)?,
        sink: row.get(3)?,
        position: Position::new(Lsn(lsn.cast_unsigned()), ordinal.cast_unsigned()),
        output: row.get(6)?,
        input: row.get(7)?,
        reason: row.get(8)?,
        error: row.get(9)?,
        plugin: row.get(10)?,
        attempts: row.get(11)?,
    };
    Ok(StoredLetter { id: row.get(0)?, buried_at: row.get(1)?, letter })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(ordinal: u64, error: &str) -> Letter {
        Letter {
            origin: "o".into(),
            sink: "a".into(),
            position: Position::new(Lsn(7), ordinal),
            output: 0,
            input: "{}".into(),
            reason: "plugin_trap".into(),
            error: error.into(),
            plugin: Some("sha256:00".into()),
            attempts: 1,
        }
    }

    #[tokio::test]
    async fn letters_are_kept_and_read_beside_a_running_engine() {
        let directory = tempfile::tempdir().unwrap();
        let store = Embedded::open(directory.path()).unwrap();
        let epoch = store.epoch();
        store.bury(epoch, vec![letter(0, "first"), letter(1, "second")]).await.unwrap();
        store.bury(epoch, vec![letter(0, "again")]).await.unwrap();
        let read = |sink| {
            let mut errors = Vec::new();
            read_letters(directory.path(), sink, |stored| errors.push(stored.letter.error))
                .unwrap();
            errors
        };
        assert_eq!(read(None), ["again", "second"]);
        assert_eq!(read(Some("a")).len(), 2);
        assert_eq!(read(Some("b")).len(), 0);
    }
}
