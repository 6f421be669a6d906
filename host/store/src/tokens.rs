//! Tokens of the API, by their hash.

use model::BoxFuture;
use model::store::Epoch;
use model::tokens::{ApiToken, ApiTokens, Limits, Scope};
use model::versions::{Deed, VersionsError};
use rusqlite::{Error, Row};

use crate::embedded::Embedded;
use crate::versions::note;

type Answer<'a, T> = BoxFuture<'a, Result<T, VersionsError>>;

pub(crate) const SCHEMA: &str = "
    CREATE TABLE api_tokens (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        hash BLOB NOT NULL,
        -- Words with spaces between.
        scopes TEXT NOT NULL,
        created_us INTEGER NOT NULL,
        expires_us INTEGER,
        used_us INTEGER
    ) STRICT, WITHOUT ROWID;
";

/// What they are for: patterns with spaces between.
pub(crate) const LIMITS: &str = "ALTER TABLE api_tokens ADD COLUMN limits TEXT NOT NULL DEFAULT ''";

const ALL: &str = "
    SELECT id, name, hash, scopes, created_us, expires_us, used_us, limits FROM api_tokens ORDER BY created_us";
const ADD: &str = "
    INSERT INTO api_tokens (id, name, hash, scopes, created_us, expires_us, limits)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
    ON CONFLICT DO NOTHING";

impl ApiTokens for Embedded {
    fn tokens(&self) -> Answer<'_, Vec<ApiToken>> {
        self.look(|connection| connection.prepare(ALL)?.query_map((), token)?.collect())
    }

    fn add_token(&self, epoch: Epoch, token: ApiToken, deed: Deed) -> Answer<'_, ()> {
        self.judged(epoch, move |transaction| {
            let ApiToken { id, name, hash, scopes, limits, created_us, expires_us, .. } = &token;
            let scopes: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
            let values =
                (id, name, &hash[..], scopes.join(" "), created_us, expires_us, limits.0.join(" "));
            if transaction.execute(ADD, values)? == 0 {
                let what = format!("there is a token `{name}` already");
                return Ok(Err(VersionsError::refused("name_taken", what)));
            }
            note(transaction, &deed)?;
            Ok(Ok(()))
        })
    }

    fn remove_token(&self, epoch: Epoch, id: String, deed: Deed) -> Answer<'_, ()> {
        self.judged(epoch, move |transaction| {
            transaction.execute("DELETE FROM api_tokens WHERE id = ?1", [&id])?;
            note(transaction, &deed)?;
            Ok(Ok(()))
        })
    }

    fn used_tokens(&self, epoch: Epoch, used: Vec<(String, i64)>) -> Answer<'_, ()> {
        self.judged(epoch, move |transaction| {
            for (id, at_us) in &used {
                let used = "UPDATE api_tokens SET used_us = ?2 WHERE id = ?1";
                transaction.execute(used, (id, at_us))?;
            }
            Ok(Ok(()))
        })
    }
}

fn token(row: &Row<'_>) -> Result<ApiToken, Error> {
    let hash: Vec<u8> = row.get(2)?;
    let scopes: String = row.get(3)?;
    let limits: String = row.get(7)?;
    Ok(ApiToken {
        id: row.get(0)?,
        name: row.get(1)?,
        // One that is damaged is nobody's.
        hash: hash.try_into().unwrap_or_default(),
        scopes: scopes.split(' ').filter_map(Scope::from_word).collect(),
        limits: Limits(limits.split_whitespace().map(str::to_owned).collect()),
        created_us: row.get(4)?,
        expires_us: row.get(5)?,
        used_us: row.get(6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn b261_tokens_outlive_the_process_and_end_when_they_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let one = ApiToken {
            id: "1".to_owned(),
            name: "ci".to_owned(),
            hash: [7; 32],
            scopes: vec![Scope::Read, Scope::Config],
            limits: Limits(vec!["sink:poi-*".to_owned()]),
            created_us: 5,
            expires_us: Some(9),
            used_us: None,
        };
        {
            let store = Embedded::open(directory.path()).unwrap();
            let add = |token| store.add_token(store.epoch(), token, Deed::default());
            add(one.clone()).await.unwrap();
            let taken = add(ApiToken { id: "2".to_owned(), ..one.clone() }).await.unwrap_err();
            assert!(taken.to_string().contains("name_taken"), "{taken}");
            let used = vec![("1".to_owned(), 8)];
            store.used_tokens(store.epoch(), used).await.unwrap();
        }
        let store = Embedded::open(directory.path()).unwrap();
        assert_eq!(store.tokens().await.unwrap(), [ApiToken { used_us: Some(8), ..one }]);
        store.remove_token(store.epoch(), "1".to_owned(), Deed::default()).await.unwrap();
        assert_eq!(store.tokens().await.unwrap(), []);
    }
}
