//! What an operator accepts as lost.

use model::lsn::Lsn;
use model::store::StoreError;
use rusqlite::OptionalExtension as _;

use crate::change_log;
use crate::embedded::{Embedded, unavailable};

/// Origins name the slot between two slashes (system, timeline, database, slot, publication), and
/// slots hold none. Compared byte by byte: to LIKE, the `_` of a name would be any character.
pub(crate) const OF_SLOT: &str = "instr(origin, '/' || ?1 || '/') > 0";

/// What was known of a slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// The highest position that was confirmed.
    pub confirmed: Option<Lsn>,
    /// The sinks whose progress was recorded.
    pub sinks: Vec<String>,
}

impl Embedded {
    /// Forgets how far a slot was read, so that the next start takes it as it finds it. Messages that
    /// were put aside are kept, as of a stream that is over: their positions may be used again. Whoever
    /// read the slot before is no obstacle any more. None if nothing was known of it.
    ///
    /// # Errors
    /// The store cannot be written; nothing is forgotten then.
    pub async fn forget(&self, slot: &str) -> Result<Option<Forgotten>, StoreError> {
        let slot = slot.to_owned();
        let directory = self.directory().to_owned();
        self.call(move |connection| {
            // First, so that an attempt that fails can be made again.
            let path = format!("/{slot}/");
            change_log::forget(&directory, |origin| origin.contains(&path))
                .map_err(|error| StoreError::Unavailable(format!("the change log: {error}")))?;
            let mut forget = || -> Result<Option<Forgotten>, rusqlite::Error> {
                let transaction = connection.transaction()?;
                let sql = |sql: &str| sql.replace("{of_slot}", OF_SLOT);
                let sinks = transaction
                    .prepare(&sql(
                        "SELECT DISTINCT sink FROM progress WHERE {of_slot} ORDER BY sink",
                    ))?
                    .query_map([&slot], |row| row.get(0))?
                    .collect::<Result<Vec<String>, _>>()?;
                let confirmed: Option<i64> = transaction
                    .query_row(
                        &sql("SELECT max(lsn) FROM confirmed WHERE {of_slot}"),
                        [&slot],
                        |row| row.get(0),
                    )
                    .optional()?
                    .flatten();
                let known = transaction.execute(
                    // Known by the database's name in the configuration.
                    "DELETE FROM slots WHERE substr(slot, -length(?1) - 1) = '/' || ?1",
                    [&slot],
                )?;
                transaction.execute(&sql("DELETE FROM progress WHERE {of_slot}"), [&slot])?;
                transaction.execute(&sql("DELETE FROM confirmed WHERE {of_slot}"), [&slot])?;
                // Also of a slot that is not known here: others may have read it.
                let accept = "INSERT INTO accepted (slot, until) VALUES (?1, NULL)
                    ON CONFLICT (slot) DO UPDATE SET until = NULL";
                transaction.execute(accept, [&slot])?;
                transaction.execute(
                    &sql(
                        "UPDATE letters SET origin = 'before ' || datetime('now') || ': ' || origin
                         WHERE {of_slot} AND origin NOT LIKE 'before %'",
                    ),
                    [&slot],
                )?;
                transaction.commit()?;
                let confirmed = confirmed.map(|lsn| Lsn(lsn.cast_unsigned()));
                let nothing = known == 0 && sinks.is_empty() && confirmed.is_none();
                Ok((!nothing).then_some(Forgotten { confirmed, sinks }))
            };
            forget().map_err(unavailable)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use model::acks::Settled;
    use model::store::{Confirmed, Progress as _};

    use super::*;

    #[tokio::test]
    async fn a_slot_is_forgotten_and_others_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let store = Embedded::open(directory.path()).unwrap();
        for slot in ["a_s", "axs"] {
            let origin = format!("7/1/db/{slot}/pub");
            store.remember(store.epoch(), &format!("camp/{slot}")).await.unwrap();
            let rows = vec![("a".to_owned(), Settled::default())];
            let confirmed = Confirmed { lsn: Lsn(9), ..Confirmed::default() };
            store.record(store.epoch(), &origin, rows, Some(confirmed)).await.unwrap();
        }
        let forgotten = store.forget("a_s").await.unwrap();
        let expected = Forgotten { confirmed: Some(Lsn(9)), sinks: vec!["a".to_owned()] };
        assert_eq!(forgotten, Some(expected));
        assert!(!store.is_known("camp/a_s").await.unwrap());
        assert_eq!(store.confirmed("7/1/db/a_s/pub").await.unwrap(), None);
        assert_eq!(store.load("7/1/db/a_s/pub", "a").await.unwrap(), None);
        assert!(store.is_known("camp/axs").await.unwrap());
        let confirmed = store.confirmed("7/1/db/axs/pub").await.unwrap();
        assert_eq!(confirmed.map(|confirmed| confirmed.lsn), Some(Lsn(9)));
        assert_eq!(store.forget("a_s").await.unwrap(), None, "nothing is known of it any more");
    }
}
