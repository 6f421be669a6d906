//! A slot on a standby: what has to be done at its primary before there is one.

use std::time::Duration;

use model::source::SourceError;
use tokio::time::{Instant, interval};

use crate::error;
use crate::options::Options;
use crate::publication;
use crate::slot::{self, Slot};
use crate::sql::Sql;

/// A standby is waited for so long, at most: the next attempt waits on.
const REPLAY_TIMEOUT: Duration = Duration::from_secs(30);

/// How often it is asked.
const REPLAY_INTERVAL: Duration = Duration::from_millis(50);

/// A slot on a standby begins where the primary says which transactions run. It does so by itself
/// after a checkpoint, and every 15 s in which something was written.
const SNAPSHOT: &str = "select pg_catalog.pg_log_standby_snapshot()::text";

/// Who may not ask for it (it is the superuser's, unless it was granted) writes something, so that it
/// comes within those 15 s.
const ANYTHING: &str = "
    select pg_catalog.pg_logical_emit_message(false, 'sequin.heartbeat', '')::text";

/// Between two of them: the standby may not have been waiting yet at the first.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(2);

/// Creates the publication at the primary, if it is to be created and no slot is older than it, and
/// waits until it is here.
pub(super) async fn publish(sql: &mut Sql, options: &Options) -> Result<(), SourceError> {
    let Some(primary) = &options.primary else { return Ok(()) };
    if options.publication_create.is_none()
        || publication::exists(sql, options).await?
        || slot::find(sql, options).await?.is_some()
    {
        return Ok(());
    }
    let mut there = Sql::open(primary).await?;
    publication::ensure(&mut there, primary, false).await?;
    there.close().await;
    let until = Instant::now() + REPLAY_TIMEOUT;
    let mut often = interval(REPLAY_INTERVAL);
    while Instant::now() < until {
        often.tick().await;
        if publication::exists(sql, options).await? {
            return Ok(());
        }
    }
    Err(error::transient(format!(
        "publication {} was created at the primary, and the standby {} has not replayed that yet",
        options.publication,
        options.addresses()
    )))
}

/// Creates the slot.
pub(super) async fn create_slot(
    sql: &mut Sql,
    is_standby: bool,
    options: &Options,
) -> Result<Slot, SourceError> {
    let create = slot::create(sql, options);
    let Some(primary) = options.primary.as_deref().filter(|_| is_standby) else {
        return create.await;
    };
    let nudge = async {
        let mut there: Option<Sql> = None;
        let mut often = interval(SNAPSHOT_INTERVAL);
        loop {
            often.tick().await;
            if let Err(error) = nudge(&mut there, primary).await {
                tracing::warn!(
                    slot.name = options.slot,
                    %error,
                    "the slot of a standby waits for its primary, which cannot be asked"
                );
                there = None;
            }
        }
    };
    tokio::select! {
        created = create => created,
        never = nudge => never,
    }
}

async fn nudge(there: &mut Option<Sql>, primary: &Options) -> Result<(), SourceError> {
    let sql = match there {
        Some(sql) => sql,
        none => none.insert(Sql::open(primary).await?),
    };
    if let Err(error) = sql.rows(SNAPSHOT, &[]).await {
        tracing::debug!(%error, "the primary is not asked for its transactions");
        sql.rows(ANYTHING, &[]).await.map_err(|error| error.to_source(primary))?;
    }
    Ok(())
}
