//! From options to a running stream: log in, check, make what may be made, start.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use model::lsn::Lsn;
use model::source::{Missing, SourceError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};

use super::feedback::Feedback;
use super::reader::Reader;
use super::{Link, Opened, standby};
use crate::catalog::Catalog;
use crate::error::{self, Phase};
use crate::options::{Options, Origin};
use crate::retained::Retained;
use crate::sql::Sql;
use crate::wire::socket::{self, BoxSocket};
use crate::wire::{Connection, System};
use crate::{publication, slot};

/// Before it, a server cannot tell that a slot's log is lost (`wal_status`).
const SERVER_MAJOR_MIN: u32 = 13;

/// `wal_sender_timeout` as a server has it unless it is told otherwise.
pub(super) const SENDER_TIMEOUT: Duration = Duration::from_secs(60);

const SETTINGS: &str = "
    select pg_catalog.current_setting('wal_level'),
        coalesce((select setting::int8 from pg_catalog.pg_settings
                  where name = 'wal_sender_timeout'), 60000),
        pg_catalog.pg_is_in_recovery()";

/// What the server is like.
pub(super) struct Settings {
    /// Zero is none.
    sender_timeout: Duration,
    is_standby: bool,
}

/// Opens the stream.
pub(super) async fn open(
    options: Arc<Options>,
    missing: Missing,
    link: Link,
) -> Result<(Reader<BoxSocket>, Opened), SourceError> {
    // First the connection that needs more: whether we may replicate shows before anything is made.
    let (mut connection, system) = within(&options, "log in", login(&options)).await?;
    let mut sql = within(&options, "open an SQL session", Sql::open(&options)).await?;

    let settings = check_settings(&mut sql, &options).await?;
    check_version(&connection, &settings, &options)?;
    let decoded_before = if options.slot_temporary {
        publication::ensure(&mut sql, &options, false).await?;
        slot::create_temporary(&mut connection, &options).await?;
        None
    } else {
        let at = (!settings.is_standby).then_some(system.position);
        if settings.is_standby {
            standby::publish(&mut sql, &options).await?;
        }
        prepare(&mut connection, &mut sql, missing, at, &options).await?
    };

    let started = within(&options, "start the stream", async {
        let started = connection.start(&options).await;
        started.map_err(|error| error::wire(&error, Phase::Start, &options))
    });
    let duplex = started.await?;
    // Only now: before, somebody else could still have moved the slot.
    let slot = slot::find(&mut sql, &options).await?;
    let gone = || error::transient(format!("slot {} was dropped at once", options.slot));
    let slot = slot.ok_or_else(gone)?;
    let confirmed = slot.confirmed(&options)?;
    tracing::info!(
        slot.name = options.slot,
        lsn = %confirmed,
        "the stream of the slot begins"
    );
    let feedback = Feedback::new(confirmed, settings.sender_timeout, Instant::now());
    let retained = Retained::new(link.held.clone(), Arc::clone(&link.trail));
    let catalog = Catalog::new(Arc::clone(&options), sql, retained);
    // The publication too: another one sends other rows, and ordinals count those.
    let mut origin = format!(
        "{}/{}/{}/{}/{}",
        system.identifier, system.timeline, options.database, options.slot, options.publication
    );
    if options.origin == Origin::None {
        origin.push_str("/origin=none");
    }
    // It was told before the slot was made.
    let server_position = (!settings.is_standby).then(|| system.position.max(confirmed));
    let opened = Opened { origin, server_position, slot_position: confirmed, decoded_before };
    Ok((Reader::new(options, duplex, catalog, feedback, link), opened))
}

/// Makes sure that publication and slot are there, and can be read. Returns how many transactions the
/// slot had decoded: once the stream has begun, our own are among them.
async fn prepare(
    connection: &mut Connection<BoxSocket>,
    sql: &mut Sql,
    missing: Missing,
    at: Option<Lsn>,
    options: &Options,
) -> Result<Option<u64>, SourceError> {
    let found = slot::find(sql, options).await?;
    match &found {
        Some(slot) => slot.check(options)?,
        None if missing == Missing::Refuse => return Err(slot::gone(options, at)),
        None => {}
    }
    // The publication comes first: changes that are older than it cannot be decoded.
    publication::ensure(sql, options, found.is_some()).await?;
    let slot = match found {
        Some(slot) => slot,
        None => standby::create_slot(sql, at.is_none(), options).await?,
    };
    if options.slot_failover && !slot.is_failover() {
        let set = connection.set_failover(&options.slot).await;
        set.map_err(|error| error::wire(&error, Phase::Prepare, options))?;
        tracing::info!(slot.name = options.slot, "standbys keep the slot from now on");
    }
    Ok(slot.decoded())
}

/// Refuses what is asked for and the server does not know.
fn check_version<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &Connection<S>,
    settings: &Settings,
    options: &Options,
) -> Result<(), SourceError> {
    let Some(major) = connection.major_version() else { return Ok(()) };
    for (wanted, what, since) in [
        (options.slot_failover, "a slot with failover", 17),
        (options.origin == Origin::None, "origin none", 16),
        (settings.is_standby, "a slot on a standby", 16),
    ] {
        if wanted && major < since {
            return Err(error::definite(
                "server_version",
                format!("{what} takes PostgreSQL {since}, and the server is of version {major}"),
                "upgrade the server, or leave the option out",
            ));
        }
    }
    Ok(())
}

pub(super) async fn login(
    options: &Options,
) -> Result<(Connection<BoxSocket>, System), SourceError> {
    let failed = |error| error::wire(&error, Phase::Login, options);
    let socket = socket::dial(options).await.map_err(|error| failed(error.into()))?;
    let mut connection = Connection::login(socket, options).await.map_err(failed)?;
    let system = connection.identify_system().await.map_err(failed)?;
    if connection.major_version().is_some_and(|major| major < SERVER_MAJOR_MIN) {
        return Err(error::definite(
            "server_version",
            format!("the server is older than PostgreSQL {SERVER_MAJOR_MIN}"),
            "upgrade the server",
        ));
    }
    Ok((connection, system))
}

/// Checks what no later error would say as clearly.
pub(super) async fn check_settings(
    sql: &mut Sql,
    options: &Options,
) -> Result<Settings, SourceError> {
    let rows = sql.rows(SETTINGS, &[]).await.map_err(|error| error.to_source(options))?;
    let row = rows.first().ok_or_else(|| error::transient("the server told no settings"))?;
    let failed = |error| error::sql(&error, options);
    let level: String = row.try_get(0).map_err(failed)?;
    let sender_timeout_ms: i64 = row.try_get(1).map_err(failed)?;
    if level != "logical" {
        return Err(error::definite(
            "wal_level",
            format!("the server runs with wal_level = {level}: its log cannot be decoded"),
            "set wal_level = logical (hosted servers: rds.logical_replication or the like) and \
             restart the server",
        ));
    }
    let sender_timeout = Duration::from_millis(u64::try_from(sender_timeout_ms).unwrap_or(0));
    Ok(Settings { sender_timeout, is_standby: row.try_get(2).map_err(failed)? })
}

pub(super) async fn within<T>(
    options: &Options,
    what: &str,
    work: impl Future<Output = Result<T, SourceError>>,
) -> Result<T, SourceError> {
    let limit = options.connect_timeout;
    timeout(limit, work).await.unwrap_or_else(|_| {
        Err(error::transient(format!(
            "{}:{}: could not {what} within {} s",
            options.host,
            options.port,
            limit.as_secs_f32()
        )))
    })
}
