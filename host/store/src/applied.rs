//! Configurations that were applied over the API. They hold secrets, as bindings do: the data directory
//! is its owner's alone.

use std::collections::BTreeMap;

use model::BoxFuture;
use model::applied::{Applied, AppliedConfigs};
use model::store::Epoch;
use model::versions::{Deed, VersionsError};
use rusqlite::{Error, OptionalExtension as _, Row, Transaction};

use crate::embedded::Embedded;
use crate::versions::note;

type Answer<'a, T> = BoxFuture<'a, Result<T, VersionsError>>;

pub(crate) const SCHEMA: &str = "
    -- The last row is what counts.
    CREATE TABLE applied (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        text TEXT NOT NULL,
        by_whom TEXT NOT NULL,
        at_us INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE applied_owners (
        id INTEGER NOT NULL REFERENCES applied (id) ON DELETE CASCADE,
        resource TEXT NOT NULL,
        owner TEXT NOT NULL,
        PRIMARY KEY (id, resource)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE applied_digests (
        id INTEGER NOT NULL REFERENCES applied (id) ON DELETE CASCADE,
        digest TEXT NOT NULL,
        PRIMARY KEY (id, digest)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE component_signatures (
        digest TEXT NOT NULL,
        signature TEXT NOT NULL,
        PRIMARY KEY (digest, signature)
    ) STRICT, WITHOUT ROWID;
";

/// What counts, and what it can be taken back to: they hold secrets.
const KEPT: i64 = 2;

const LAST: &str = "SELECT id, text, by_whom, at_us FROM applied ORDER BY id DESC LIMIT 1";

impl AppliedConfigs for Embedded {
    fn applied(&self) -> Answer<'_, Option<Applied>> {
        self.look(|connection| {
            let last = connection.query_row(LAST, (), |row| {
                let (id, text) = (row.get::<_, i64>(0)?, row.get(1)?);
                let (by, at_us) = (row.get(2)?, row.get(3)?);
                Ok((id, Applied { text, by, at_us, ..Applied::default() }))
            });
            let Some((id, applied)) = last.optional()? else { return Ok(None) };
            let owners = "SELECT resource, owner FROM applied_owners WHERE id = ?1";
            let owners =
                connection.prepare(owners)?.query_map([id], pair)?.collect::<Result<_, _>>()?;
            let digests = "SELECT digest FROM applied_digests WHERE id = ?1";
            let digests = connection
                .prepare(digests)?
                .query_map([id], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            Ok(Some(Applied { owners, digests, ..applied }))
        })
    }

    fn apply(
        &self,
        epoch: Epoch,
        applied: Applied,
        signatures: Vec<(String, String)>,
        deed: Deed,
    ) -> Answer<'_, ()> {
        self.judged(epoch, move |transaction| {
            insert(transaction, &applied, &signatures)?;
            note(transaction, &deed)?;
            Ok(Ok(()))
        })
    }

    fn withdraw(&self, epoch: Epoch, deed: Deed) -> Answer<'_, ()> {
        self.judged(epoch, move |transaction| {
            let last = "SELECT coalesce(max(id), 0) FROM applied";
            let last: i64 = transaction.query_row(last, (), |row| row.get(0))?;
            forget(transaction, "id = ?1", last)?;
            note(transaction, &deed)?;
            Ok(Ok(()))
        })
    }

    fn signatures(&self) -> Answer<'_, BTreeMap<String, Vec<String>>> {
        self.look(|connection| {
            let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
            let signed = "SELECT digest, signature FROM component_signatures";
            for signed in connection.prepare(signed)?.query_map((), pair)? {
                let (digest, signature) = signed?;
                all.entry(digest).or_default().push(signature);
            }
            Ok(all)
        })
    }
}

/// This counts from now on.
pub(crate) fn insert(
    transaction: &Transaction<'_>,
    applied: &Applied,
    signatures: &[(String, String)],
) -> Result<(), Error> {
    let Applied { text, owners, digests, by, at_us } = applied;
    let id = add(transaction, text, by, *at_us)?;
    for (resource, owner) in owners {
        let owned = "INSERT INTO applied_owners (id, resource, owner) VALUES (?1, ?2, ?3)";
        transaction.prepare(owned)?.execute((id, resource, owner))?;
    }
    for digest in digests {
        let names = "INSERT OR IGNORE INTO applied_digests (id, digest) VALUES (?1, ?2)";
        transaction.prepare(names)?.execute((id, digest))?;
    }
    for (digest, signature) in signatures {
        let signed = "
            INSERT OR IGNORE INTO component_signatures (digest, signature) VALUES (?1, ?2)";
        transaction.prepare(signed)?.execute((digest, signature))?;
    }
    Ok(())
}

fn pair(row: &Row<'_>) -> Result<(String, String), Error> {
    Ok((row.get(0)?, row.get(1)?))
}

fn add(transaction: &Transaction<'_>, text: &str, by: &str, at_us: i64) -> Result<i64, Error> {
    let add = "INSERT INTO applied (text, by_whom, at_us) VALUES (?1, ?2, ?3)";
    transaction.execute(add, (text, by, at_us))?;
    let id = transaction.last_insert_rowid();
    let kept =
        format!("id NOT IN (SELECT id FROM applied ORDER BY id DESC LIMIT {KEPT}) AND id < ?1");
    forget(transaction, &kept, id)?;
    Ok(id)
}

fn forget(transaction: &Transaction<'_>, which: &str, id: i64) -> Result<(), Error> {
    for table in ["applied_owners", "applied_digests", "applied"] {
        transaction.execute(&format!("DELETE FROM {table} WHERE {which}"), [id])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(text: &str) -> Applied {
        Applied {
            text: text.to_owned(),
            owners: BTreeMap::from([("sink `a`".to_owned(), "team".to_owned())]),
            digests: vec![format!("sha256:{text}")],
            by: "ci".to_owned(),
            at_us: 5,
        }
    }

    #[tokio::test]
    async fn what_was_applied_last_outlives_the_process_and_can_be_taken_back() {
        let directory = tempfile::tempdir().unwrap();
        {
            let store = Embedded::open(directory.path()).unwrap();
            assert_eq!(store.applied().await.unwrap(), None);
            for n in 0..60 {
                let signed = vec![("d".to_owned(), "s".to_owned())];
                let applied = applied(&n.to_string());
                store.apply(store.epoch(), applied, signed, Deed::default()).await.unwrap();
            }
        }
        let store = Embedded::open(directory.path()).unwrap();
        assert_eq!(store.applied().await.unwrap(), Some(applied("59")));
        let signed = BTreeMap::from([("d".to_owned(), vec!["s".to_owned()])]);
        assert_eq!(store.signatures().await.unwrap(), signed);
        for before in [Some(applied("58")), None, None] {
            store.withdraw(store.epoch(), Deed::default()).await.unwrap();
            assert_eq!(store.applied().await.unwrap(), before);
        }
    }
}
