//! Since when something has an error, and what nobody wants to be told any more.

use model::BoxFuture;
use model::store::{Epoch, HealthRecord, HealthRecords, StoreError};
use rusqlite::Connection;

use crate::embedded::{Durability, Embedded, unavailable};

const ERRORING: &str = "SELECT entity, since_us FROM erroring ORDER BY entity";
const DISMISSED: &str = "SELECT entity, notice FROM dismissed ORDER BY entity, notice";

impl HealthRecords for Embedded {
    fn load(&self) -> BoxFuture<'_, Result<HealthRecord, StoreError>> {
        Box::pin(self.call(|connection| read(connection).map_err(unavailable)))
    }

    // After a power cut an older state may be back: an error then began a little later or earlier.
    fn record(
        &self,
        epoch: Epoch,
        erroring: Vec<(String, i64)>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.write(epoch, Durability::Written, move |transaction| {
            transaction.execute("DELETE FROM erroring", ())?;
            let insert = "INSERT OR REPLACE INTO erroring (entity, since_us) VALUES (?1, ?2)";
            let mut insert = transaction.prepare(insert)?;
            for (entity, since_us) in &erroring {
                insert.execute((entity, since_us))?;
            }
            Ok(())
        }))
    }

    fn dismiss<'a>(
        &'a self,
        epoch: Epoch,
        entity: &'a str,
        notice: &'a str,
        is_dismissed: bool,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let (entity, notice) = (entity.to_owned(), notice.to_owned());
        Box::pin(self.write(epoch, Durability::Synced, move |transaction| {
            let sql = if is_dismissed {
                "INSERT OR IGNORE INTO dismissed (entity, notice) VALUES (?1, ?2)"
            } else {
                "DELETE FROM dismissed WHERE entity = ?1 AND notice = ?2"
            };
            transaction.execute(sql, (&entity, &notice)).map(drop)
        }))
    }
}

fn read(connection: &Connection) -> Result<HealthRecord, rusqlite::Error> {
    let mut erroring = connection.prepare(ERRORING)?;
    let erroring = erroring.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut dismissed = connection.prepare(DISMISSED)?;
    let dismissed = dismissed.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(HealthRecord {
        erroring: erroring.collect::<Result<_, _>>()?,
        dismissed: dismissed.collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn b228_b230_what_is_known_of_health_outlives_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let store = Embedded::open(directory.path()).unwrap();
        let epoch = store.epoch();
        store.record(epoch, vec![("sink/a".into(), 1), ("sink/b".into(), 2)]).await.unwrap();
        store.record(epoch, vec![("sink/b".into(), 2)]).await.unwrap();
        for (notice, is_dismissed) in [("t", true), ("u", true), ("t", true), ("u", false)] {
            store.dismiss(epoch, "slot/s", notice, is_dismissed).await.unwrap();
        }
        drop(store);
        let record = Embedded::open(directory.path()).unwrap().load().await.unwrap();
        let expected = HealthRecord {
            erroring: vec![("sink/b".into(), 2)],
            dismissed: vec![("slot/s".into(), "t".into())],
        };
        assert_eq!(record, expected);
    }
}
