//! The slot: the server's memory of how far we came.

use std::time::Duration;

use model::lsn::Lsn;
use model::source::{Missing, SourceError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::error::{self, Phase};
use crate::options::Options;
use crate::sql::{Parameter, QueryError, Sql};
use crate::wire::Connection;

/// A slot begins where no transaction is open, so its creation waits for all that are. The engine
/// tries again after this, with the reason visible to the operator.
const CREATE_TIMEOUT: Duration = Duration::from_secs(300);

/// After so long somebody should know what is waited for.
const CREATE_PATIENCE: Duration = Duration::from_secs(10);

const FIND: &str = "
    select slot_type, plugin::text, database::text, wal_status, confirmed_flush_lsn::text
    from pg_catalog.pg_replication_slots where slot_name::text = $1";

const CREATE: &str = "
    select pg_catalog.pg_create_logical_replication_slot($1::text::name, 'pgoutput')";

/// A slot that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    kind: String,
    plugin: Option<String>,
    database: Option<String>,
    wal_status: Option<String>,
    /// Where the stream will begin. None while the slot is being created.
    confirmed: Option<String>,
}

impl Slot {
    fn of(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            kind: row.try_get(0)?,
            plugin: row.try_get(1)?,
            database: row.try_get(2)?,
            wal_status: row.try_get(3)?,
            confirmed: row.try_get(4)?,
        })
    }

    /// Where the stream will begin.
    ///
    /// # Errors
    /// The slot is not one that we can read.
    pub(crate) fn confirmed(&self, options: &Options) -> Result<Lsn, SourceError> {
        let name = &options.slot;
        if self.kind != "logical" || self.plugin.as_deref() != Some("pgoutput") {
            let plugin = self.plugin.as_deref().unwrap_or("none");
            return Err(error::definite(
                "slot_plugin",
                format!(
                    "slot {name} is {} with plugin {plugin}, not logical with pgoutput",
                    self.kind
                ),
                "name another slot, or drop this one and let it be created again",
            ));
        }
        if self.database.as_deref() != Some(&*options.database) {
            let other = self.database.as_deref().unwrap_or("no database");
            return Err(error::definite(
                "slot_database",
                format!("slot {name} belongs to {other}, not to database {}", options.database),
                "name another slot: their names are unique over all databases of a server",
            ));
        }
        if self.wal_status.as_deref() == Some("lost") {
            let confirmed = self.confirmed.as_deref().unwrap_or("its beginning");
            return Err(error::definite(
                "slot_lost",
                format!(
                    "the server removed log that slot {name} still needed, from {confirmed} on"
                ),
                error::lost_help(name),
            ));
        }
        let confirmed = self.confirmed.as_deref().and_then(|text| text.parse().ok());
        confirmed.ok_or_else(|| error::transient(format!("slot {name} is still being created")))
    }
}

/// The slot, if it exists.
pub(crate) async fn find(sql: &mut Sql, options: &Options) -> Result<Option<Slot>, SourceError> {
    let found = sql.rows(FIND, &[(&options.slot, Type::TEXT)]).await;
    let rows = found.map_err(|error| error.to_source(options))?;
    let slot = rows.first().map(Slot::of).transpose();
    slot.map_err(|error| error::sql(&error, options))
}

/// Creates the slot.
pub(crate) async fn create(
    sql: &mut Sql,
    options: &Options,
    missing: Missing,
) -> Result<Slot, SourceError> {
    let name = &options.slot;
    if missing == Missing::Refuse {
        return Err(error::definite(
            "slot_missing",
            format!(
                "replication slot {name} was used before and is gone: what was written since its \
                 last confirmed position is lost to the sinks"
            ),
            "find out who dropped it (a standby without it may have been promoted); to begin anew \
             at the present, start with an empty data directory",
        ));
    }
    if !options.slot_create {
        return Err(error::definite(
            "slot_missing",
            format!("replication slot {name} does not exist"),
            format!(
                "create it after the publication (SELECT \
                 pg_create_logical_replication_slot('{name}', 'pgoutput')), or allow its creation \
                 with create_if_not_exists"
            ),
        ));
    }
    match create_patiently(sql, options).await {
        Ok(()) => tracing::info!(slot.name = name, "created the slot"),
        // Somebody else was quicker (duplicate_object).
        Err(error) if error.code() == "42710" => {}
        Err(error) if error.code() == "57014" => {
            return Err(took_too_long(options));
        }
        Err(error) => return Err(error.to_source(options)),
    }
    let slot = find(sql, options).await?;
    slot.ok_or_else(|| {
        error::transient(format!("slot {name} was dropped as soon as it was created"))
    })
}

async fn create_patiently(sql: &mut Sql, options: &Options) -> Result<(), QueryError> {
    sql.limit_statements(CREATE_TIMEOUT).await?;
    let parameters: [Parameter<'_>; 1] = [(&options.slot, Type::TEXT)];
    let mut created = std::pin::pin!(sql.rows_within(CREATE, &parameters, CREATE_TIMEOUT));
    match timeout(CREATE_PATIENCE, &mut created).await {
        Ok(created) => created.map(drop),
        Err(_) => {
            warn_of_waiting(options);
            created.await.map(drop)
        }
    }
}

/// Creates a slot for this connection alone, and returns where its stream begins.
pub(crate) async fn create_temporary<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<S>,
    options: &Options,
) -> Result<Lsn, SourceError> {
    let mut created = std::pin::pin!(connection.create_temporary_slot(&options.slot));
    let created = match timeout(CREATE_PATIENCE, &mut created).await {
        Ok(created) => created,
        Err(_) => {
            warn_of_waiting(options);
            let created = timeout(CREATE_TIMEOUT, created).await;
            created.map_err(|_| took_too_long(options))?
        }
    };
    created.map_err(|error| error::wire(&error, Phase::Prepare, options))
}

fn warn_of_waiting(options: &Options) {
    tracing::warn!(
        slot.name = options.slot,
        "creating the slot waits for transactions that are open; an idle one can keep it waiting \
         for ever (see pg_stat_activity.xact_start and pg_prepared_xacts)"
    );
}

fn took_too_long(options: &Options) -> SourceError {
    error::transient(format!(
        "slot {} could not be created within {} s: it waits for transactions that are open, see \
         pg_stat_activity.xact_start and pg_prepared_xacts",
        options.slot,
        CREATE_TIMEOUT.as_secs()
    ))
}
