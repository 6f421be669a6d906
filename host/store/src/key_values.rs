//! What plugins keep: a small store for each function, by its name.

use std::sync::Arc;

use model::BoxFuture;
use model::grants::{CallError, Failure, KeyValue, Writes};
use model::store::StoreError;
use rusqlite::{Error, OptionalExtension as _, Transaction};

use crate::embedded::{Durability, Embedded, unavailable};

pub(crate) const SCHEMA: &str = "
    CREATE TABLE key_values (
        function TEXT NOT NULL,
        key TEXT NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (function, key)
    ) STRICT, WITHOUT ROWID;
";

/// Of one function: as the contract with plugins says.
const KEYS_MAX: i64 = 1_000;
const BYTES_MAX: i64 = 1 << 20;

const SAVE: &str = "
    INSERT INTO key_values (function, key, value) VALUES (?1, ?2, ?3)
    ON CONFLICT (function, key) DO UPDATE SET value = excluded.value";

const TAKEN: &str = "
    SELECT count(*), coalesce(sum(length(CAST(key AS BLOB)) + length(value)), 0)
    FROM key_values WHERE function = ?1";

/// The store of one function. What is written survives the end of the process; after a power cut an
/// older state may be back, as if the last batches had not come yet.
pub struct FunctionStore {
    store: Arc<Embedded>,
    function: Arc<str>,
}

impl FunctionStore {
    /// That of the function of this name.
    #[must_use]
    pub fn new(store: Arc<Embedded>, function: &str) -> Self {
        Self { store, function: function.into() }
    }
}

impl KeyValue for FunctionStore {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, CallError>> {
        let (function, key) = (Arc::clone(&self.function), key.to_owned());
        Box::pin(async move {
            let found = self.store.call(move |connection| {
                let value = "SELECT value FROM key_values WHERE function = ?1 AND key = ?2";
                let found = connection.prepare(value).and_then(|mut it| {
                    it.query_row((&*function, key), |row| row.get(0)).optional()
                });
                found.map_err(unavailable)
            });
            found.await.map_err(|error| failed(&error))
        })
    }

    fn write(&self, writes: Writes) -> BoxFuture<'_, Result<(), CallError>> {
        let function = Arc::clone(&self.function);
        let work = move |transaction: &Transaction<'_>| write(transaction, &function, &writes);
        Box::pin(async move {
            let written = self.store.write(self.store.epoch(), Durability::Written, work).await;
            match written.map_err(|error| failed(&error))? {
                true => Ok(()),
                false => Err(CallError::new(
                    Failure::TooLarge,
                    format!("it would hold more than {KEYS_MAX} keys or {BYTES_MAX} bytes"),
                )),
            }
        })
    }
}

/// Whether there was room. If not, nothing is written.
fn write(transaction: &Transaction<'_>, function: &str, writes: &Writes) -> Result<bool, Error> {
    transaction.execute_batch("SAVEPOINT key_values")?;
    for (key, value) in writes {
        match value {
            Some(value) => {
                transaction.prepare(SAVE)?.execute((function, key, value))?;
            }
            None => {
                let delete = "DELETE FROM key_values WHERE function = ?1 AND key = ?2";
                transaction.prepare(delete)?.execute((function, key))?;
            }
        }
    }
    let taken = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
    let (keys, bytes) = transaction.prepare(TAKEN)?.query_row([function], taken)?;
    let fits = keys <= KEYS_MAX && bytes <= BYTES_MAX;
    if !fits {
        transaction.execute_batch("ROLLBACK TO key_values")?;
    }
    transaction.execute_batch("RELEASE key_values")?;
    Ok(fits)
}

fn failed(error: &StoreError) -> CallError {
    CallError::new(Failure::Unavailable, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &[u8]) -> (String, Option<Vec<u8>>) {
        (key.to_owned(), Some(value.to_vec()))
    }

    #[tokio::test]
    async fn b269_what_a_function_keeps_is_its_own_and_outlives_the_process() {
        let directory = tempfile::tempdir().unwrap();
        {
            let store = Arc::new(Embedded::open(directory.path()).unwrap());
            let one = FunctionStore::new(Arc::clone(&store), "one");
            one.write(Writes::from([put("a", b"1"), put("b", b"2")])).await.unwrap();
            one.write(Writes::from([("b".to_owned(), None), put("a", b"3")])).await.unwrap();
            let two = FunctionStore::new(store, "two");
            assert_eq!(two.get("a").await, Ok(None));
        }
        let store = Arc::new(Embedded::open(directory.path()).unwrap());
        let one = FunctionStore::new(store, "one");
        assert_eq!(one.get("a").await, Ok(Some(b"3".to_vec())));
        assert_eq!(one.get("b").await, Ok(None));
    }

    #[tokio::test]
    async fn b269_a_function_keeps_so_much_and_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Embedded::open(directory.path()).unwrap());
        let one = FunctionStore::new(Arc::clone(&store), "one");
        let keys = |count: i64| (0..count).map(|n| put(&format!("{n:04}"), b"v")).collect();
        let error = one.write(keys(KEYS_MAX + 1)).await.unwrap_err();
        assert_eq!(error.failure, Failure::TooLarge);
        assert_eq!(one.get("0000").await, Ok(None), "nothing of it is written");
        one.write(keys(KEYS_MAX)).await.unwrap();
        let large = vec![b'x'; 1 << 20];
        let error = one.write(Writes::from([put("0000", &large)])).await.unwrap_err();
        assert_eq!(error.failure, Failure::TooLarge);
        assert_eq!(one.get("0000").await, Ok(Some(b"v".to_vec())));
        let two = FunctionStore::new(store, "two");
        two.write(keys(KEYS_MAX)).await.unwrap();
    }
}
