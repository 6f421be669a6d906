//! The slot: the server's memory of how far we came.

use std::time::Duration;

use model::lsn::Lsn;
use model::source::SourceError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
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

/// What later versions tell besides is read from JSON, so that the query is the same for all.
const FIND: &str = "
    select s.slot_type, s.plugin::text, s.database::text, s.wal_status, s.confirmed_flush_lsn::text,
        j.j->>'invalidation_reason',
        pg_catalog.pg_is_in_recovery() and coalesce((j.j->>'conflicting')::bool, false),
        coalesce((j.j->>'failover')::bool, false),
        pg_catalog.pg_wal_lsn_diff(
            case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn()
                 else pg_catalog.pg_current_wal_lsn() end,
            s.confirmed_flush_lsn)::int8,
        s.active_pid, pg_catalog.concat_ws(', ',
            'process ' || s.active_pid, 'application ' || nullif(a.application_name, ''),
            'user ' || a.usename, 'from ' || a.client_addr),
        pg_catalog.pg_is_in_recovery() and coalesce((j.j->>'synced')::bool, false)
    from pg_catalog.pg_replication_slots s
    cross join lateral (select pg_catalog.to_jsonb(s)) j (j)
    left join pg_catalog.pg_stat_activity a on a.pid = s.active_pid
    where s.slot_name::text = $1";

const CREATE: &str = "
    select pg_catalog.pg_create_logical_replication_slot($1::text::name, 'pgoutput')";

/// As of Postgres 17: not temporary, without two-phase commit, with failover.
const CREATE_FAILOVER: &str = "
    select pg_catalog.pg_create_logical_replication_slot(
        $1::text::name, 'pgoutput', false, false, true)";

/// As of Postgres 14. It outlives a restart of the server, and not its crash before 15.
const DECODED: &str = "
    select total_txns from pg_catalog.pg_stat_replication_slots where slot_name = $1";

/// A slot that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    kind: String,
    plugin: Option<String>,
    database: Option<String>,
    wal_status: Option<String>,
    /// Where the stream will begin. None while the slot is being created.
    confirmed: Option<String>,
    /// Why the server gave it up, from 17 on.
    invalidation: Option<String>,
    /// Given up on a standby: 16 tells no more, and says it of any lost slot of a primary too.
    conflicting: bool,
    failover: bool,
    /// Bytes of log since the confirmed position.
    behind: Option<i64>,
    active_pid: Option<i32>,
    /// Whoever reads it.
    reader: String,
    /// A standby's copy of a slot of its primary.
    synced: bool,
    /// Transactions that were decoded for it.
    decoded: Option<u64>,
}

impl Slot {
    fn of(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            kind: row.try_get(0)?,
            plugin: row.try_get(1)?,
            database: row.try_get(2)?,
            wal_status: row.try_get(3)?,
            confirmed: row.try_get(4)?,
            invalidation: row.try_get(5)?,
            conflicting: row.try_get(6)?,
            failover: row.try_get(7)?,
            behind: row.try_get(8)?,
            active_pid: row.try_get(9)?,
            reader: row.try_get(10)?,
            synced: row.try_get(11)?,
            decoded: None,
        })
    }

    /// Whether the server keeps it on its standbys too.
    pub(crate) fn is_failover(&self) -> bool {
        self.failover
    }

    /// How many transactions were decoded for it, by whomever; None where the server does not say.
    pub(crate) fn decoded(&self) -> Option<u64> {
        self.decoded
    }

    /// Whether it can be read now.
    ///
    /// # Errors
    /// The slot is not one that we can read, is lost (definite), or is in use (transient).
    pub(crate) fn check(&self, options: &Options) -> Result<(), SourceError> {
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
        if let Some(cause) = self.lost() {
            return Err(self.is_lost(cause, options));
        }
        if self.synced {
            return Err(error::transient(format!(
                "slot {name} is a copy on a standby, kept in step with its primary's: it can be read \
                 once this server is promoted; name the primary first among the hosts"
            )));
        }
        // Also our own connection from before, which the server has not given up yet.
        if self.active_pid.is_some() {
            return Err(error::transient(format!(
                "slot {name} is in use ({}): it has one reader at a time, and is taken over when it \
                 is free",
                self.reader
            )));
        }
        self.confirmed(options).map(drop)
    }

    /// Where the stream will begin.
    ///
    /// # Errors
    /// It is still being created.
    pub(crate) fn confirmed(&self, options: &Options) -> Result<Lsn, SourceError> {
        let confirmed = self.confirmed.as_deref().and_then(|text| text.parse().ok());
        let created = || error::transient(format!("slot {} is still being created", options.slot));
        confirmed.ok_or_else(created)
    }

    /// Why the server gave it up, if it has.
    fn lost(&self) -> Option<&str> {
        match &self.invalidation {
            Some(cause) => Some(cause),
            None if self.conflicting => Some("conflicting"),
            None if self.wal_status.as_deref() == Some("lost") => Some("wal_removed"),
            None => None,
        }
    }

    fn is_lost(&self, cause: &str, options: &Options) -> SourceError {
        let name = &options.slot;
        let confirmed = self.confirmed.as_deref().unwrap_or("its beginning");
        let behind = self.behind.unwrap_or(0);
        let avoid = match cause {
            "wal_removed" => "; a higher max_slot_wal_keep_size avoids it",
            "idle_timeout" => {
                "; an idle_replication_slot_timeout longer than any pause of the engine avoids it"
            }
            "rows_removed" | "conflicting" => {
                "; hot_standby_feedback and a physical slot for this standby avoid it"
            }
            "wal_level_insufficient" => "; the primary must keep wal_level = logical",
            _ => "",
        };
        error::definite(
            "slot_lost",
            format!(
                "the server has given up slot {name} ({cause}): its changes from {confirmed} on are \
                 lost, which are in {behind} bytes of log so far"
            ),
            format!("{}{avoid}", error::lost_help(name)),
        )
    }
}

/// A slot that was used before is not there any more.
pub(crate) fn gone(options: &Options, server: Option<Lsn>) -> SourceError {
    error::definite(
        "slot_missing",
        format!(
            "replication slot {} was used before and is gone: what was written since its last \
             confirmed position is lost to the sinks{}",
            options.slot,
            server.map_or_else(String::new, |at| format!(", up to {at} so far"))
        ),
        format!(
            "find out who dropped it ({}); to begin anew at the present, stop the engine, run `sequin \
             accept-loss {}`, start it, and backfill the tables of its sinks",
            suspects(options),
            options.slot
        ),
    )
}

/// Who may have dropped a slot.
fn suspects(options: &Options) -> &'static str {
    let is_neon = options.hosts().any(|address| address.host.ends_with(".neon.tech"));
    if is_neon {
        "Neon drops slots that nobody has read for about 40 hours, and does not keep them in a branch \
         that is restored"
    } else {
        "a standby without it may have been promoted: see `failover` of the slot"
    }
}

/// The slot, if it exists.
pub(crate) async fn find(sql: &mut Sql, options: &Options) -> Result<Option<Slot>, SourceError> {
    let found = sql.rows(FIND, &[(&options.slot, Type::TEXT)]).await;
    let rows = found.map_err(|error| error.to_source(options))?;
    let slot = rows.first().map(Slot::of).transpose();
    let slot = slot.map_err(|error| error::sql(&error, options))?;
    let Some(mut slot) = slot else { return Ok(None) };
    slot.decoded = decoded(sql, options).await.map_err(|error| error.to_source(options))?;
    Ok(Some(slot))
}

/// What the server's statistics count for it, from 14 on.
async fn decoded(sql: &mut Sql, options: &Options) -> Result<Option<u64>, QueryError> {
    match sql.rows(DECODED, &[(&options.slot, Type::TEXT)]).await {
        Ok(rows) => {
            let count: Option<i64> = rows.first().map(|row| row.try_get(0)).transpose()?.flatten();
            Ok(count.and_then(|count| u64::try_from(count).ok()))
        }
        // Before 14 there is none, and a hardened server need not tell.
        Err(QueryError::Sql(error))
            if matches!(
                error.code(),
                Some(&SqlState::UNDEFINED_TABLE | &SqlState::INSUFFICIENT_PRIVILEGE)
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Creates the slot.
pub(crate) async fn create(sql: &mut Sql, options: &Options) -> Result<Slot, SourceError> {
    let name = &options.slot;
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
    let create = if options.slot_failover { CREATE_FAILOVER } else { CREATE };
    let mut created = std::pin::pin!(sql.rows_within(create, &parameters, CREATE_TIMEOUT));
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
