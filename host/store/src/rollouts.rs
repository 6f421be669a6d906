//! What is known of rollouts.

use model::BoxFuture;
use model::rollout::Rollout;
use model::store::{Epoch, Rollouts, StoreError};
use model::versions::Deed;
use rusqlite::types::Type;
use rusqlite::{Connection, Error, OptionalExtension as _, Transaction};

use crate::embedded::{Durability, Embedded, unavailable};
use crate::versions::note;

/// The record is of a form that only grows: what is not known of it is not read by an older version,
/// which is refused the store anyway.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE rollouts (
        id TEXT PRIMARY KEY,
        sink TEXT NOT NULL,
        created_us INTEGER NOT NULL,
        record TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
";

const SAVE: &str = "
    INSERT INTO rollouts (id, sink, created_us, record) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (id) DO UPDATE SET record = excluded.record";

impl Rollouts for Embedded {
    fn all(&self) -> BoxFuture<'_, Result<Vec<Rollout>, StoreError>> {
        Box::pin(self.call(|connection| all(connection).map_err(unavailable)))
    }

    fn save(&self, epoch: Epoch, rollout: Rollout) -> BoxFuture<'_, Result<(), StoreError>> {
        let work = move |transaction: &Transaction<'_>| {
            let record = rollout.to_json();
            let Rollout { id, sink, created_us, .. } = &rollout;
            audit(transaction, &rollout)?;
            transaction.prepare(SAVE)?.execute((&**id, &**sink, *created_us, record))?;
            Ok(())
        };
        Box::pin(self.write(epoch, Durability::Synced, work))
    }
}

/// What becomes of a rollout is on record with what people do: its rules act by themselves.
fn audit(transaction: &Transaction<'_>, rollout: &Rollout) -> Result<(), Error> {
    let mut known = transaction.prepare("SELECT record FROM rollouts WHERE id = ?1")?;
    let known: Option<String> = known.query_row([&*rollout.id], |row| row.get(0)).optional()?;
    let known = known.and_then(|record| Rollout::from_json(&record).ok());
    if known.is_some_and(|it| it.state == rollout.state && it.percent == rollout.percent) {
        return Ok(());
    }
    let Rollout { id, sink, function, component, digest, state, percent, why, .. } = rollout;
    let why = why.as_deref().unwrap_or_default();
    let deed = Deed {
        at_us: rollout.updated_us,
        by: format!("rollout {id}"),
        what: format!("rollout_{}", state.as_str()),
        subject: format!("sink {sink}, function {function}"),
        digest: Some(digest.to_string()),
        detail: format!("{component}, {percent} percent {why}").trim_end().to_owned(),
        ..Deed::default()
    };
    note(transaction, &deed)
}

/// Those whose version rows may need.
pub(crate) fn attached(connection: &Connection) -> Result<Vec<Rollout>, Error> {
    let attached = all(connection)?.into_iter().filter(Rollout::is_attached);
    Ok(attached.collect())
}

pub(crate) fn all(connection: &Connection) -> Result<Vec<Rollout>, Error> {
    let mut statement =
        connection.prepare("SELECT record FROM rollouts ORDER BY created_us, id")?;
    let all = statement.query_map((), |row| {
        let record: String = row.get(0)?;
        Rollout::from_json(&record)
            .map_err(|error| Error::FromSqlConversionFailure(0, Type::Text, error.into()))
    })?;
    all.collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use model::lsn::Lsn;
    use model::position::Position;
    use model::rollout::{RolloutState, Rules};

    use super::*;

    /// A share of `sha256:2`.
    pub(crate) fn canary() -> Rollout {
        Rollout {
            id: "r".into(),
            sink_id: "i".into(),
            sink: "s".into(),
            function: "f".into(),
            component: "f@2".into(),
            digest: "sha256:2".into(),
            base: "sha256:1".into(),
            state: RolloutState::Canary,
            why: None,
            percent: 20,
            steps: Vec::new(),
            rules: Rules::default(),
            drained: false,
            resumed: 0,
            created_us: 7,
            updated_us: 7,
        }
    }

    #[tokio::test]
    async fn b270_what_is_decided_of_a_rollout_outlives_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let mut rollout = canary();
        {
            let store = Embedded::open(directory.path()).unwrap();
            Rollouts::save(&store, store.epoch(), rollout.clone()).await.unwrap();
            rollout.step(&"o".into(), Position::new(Lsn(u64::MAX), 3), 8);
            Rollouts::save(&store, store.epoch(), rollout.clone()).await.unwrap();
        }
        let store = Embedded::open(directory.path()).unwrap();
        assert_eq!(Rollouts::all(&store).await.unwrap(), [rollout.clone()]);
        let fenced = Rollouts::save(&store, Epoch(store.epoch().0 - 1), rollout).await;
        assert!(matches!(fenced, Err(StoreError::Fenced { .. })));
    }
}
