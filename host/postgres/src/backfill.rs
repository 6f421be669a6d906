//! Whole tables, page by page: `model::backfill` over SQL sessions.
//!
//! A page is one query in a read-only transaction of its own, which says what it shows in the same
//! snapshot. The table is locked before the snapshot is taken (`ACCESS SHARE`, as any reader does):
//! a table that was rewritten in between would look empty to an older one.
//!
//! Rows come by the table's key, behind the last one: row-wise, under the key's own collation, with
//! the values as the types' output functions write them, so that any type with an order will do.
//! The first page has no beginning. Without a key they come by their place on disk. Values go
//! through the encoder of the stream, and a row is named as the stream names it: a row that is read
//! is the row that would be sent.
//!
//! Partitions are read one by one, each in the order of its own key, and are named by what the
//! publication says.

mod page;
mod place;
mod query;
mod sessions;
mod snapshot;
mod survey;
mod table;

use std::sync::Arc;
use std::time::Duration;

use model::BoxFuture;
use model::backfill::{Ask, Page, Survey, Wanted};
use model::source::SourceError;
use tokio::time::{Instant, interval};
use tokio_postgres::types::Type;

use crate::decode::marks;
use crate::error;
use crate::options::Options;
use crate::sql::{Parameter, QueryError};
pub(crate) use query::quote;
use sessions::Sessions;
use table::Failure;

/// Pages that are read at once, each on a session of its own.
const SESSIONS_MAX: usize = 4;

/// A page is asked for anew this often when the table changes under it.
const CHANGES_MAX: usize = 3;

/// A table's lock is waited for so long, at most: others wait behind whoever waits for it.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a standby is asked how far it is.
const REPLAY_INTERVAL: Duration = Duration::from_millis(20);

/// A standby is waited for so long, at most, unless the page has less time.
const REPLAY_TIMEOUT: Duration = Duration::from_secs(30);

/// A mark is a transaction of its own. A standby writes none. The stream brings it once it is on the
/// disk of the server, which is no sooner than its next round where `synchronous_commit` is off, and need
/// not wait for the standbys that `on` waits for.
const MARK: &str = "
    select case when not pg_catalog.pg_is_in_recovery()
        then pg_catalog.pg_logical_emit_message(true, $1, $2)::text end
    from pg_catalog.set_config('synchronous_commit', 'local', true)";

/// What a stream of the primary may have brought already.
const FLUSHED: &str = "
    select case when not pg_catalog.pg_is_in_recovery()
        then pg_catalog.pg_current_wal_flush_lsn()::text end";

/// Whether a server shows that: it is a standby, and whether it is as far.
const REPLAYED: &str = "
    select pg_catalog.pg_is_in_recovery(),
        coalesce(pg_catalog.pg_last_wal_replay_lsn() >= $1::text::pg_catalog.pg_lsn, false)";

/// The tables of one database.
#[derive(Debug)]
pub struct Tables {
    /// Where rows are read.
    readers: Arc<Sessions>,
    /// Where marks are written.
    writers: Arc<Sessions>,
    /// Whether what is read may be behind what was streamed.
    replicated: bool,
    /// Whether these are two servers.
    two: bool,
}

impl Tables {
    /// Of the database that `options` name, whose publication says what the stream brings. If that is
    /// a standby, `primary` is the same database on its primary: marks are written there.
    #[must_use]
    pub fn new(options: Options, primary: Option<Options>) -> Self {
        let two = primary.is_some();
        let writers = Sessions::new(primary.unwrap_or_else(|| options.clone()), 1);
        Self { readers: Sessions::new(options, SESSIONS_MAX), writers, replicated: two, two }
    }

    /// The stream comes from the server that is read: it never has more than that shows, however far
    /// behind its primary it is.
    #[must_use]
    pub fn of_the_stream(mut self) -> Self {
        self.replicated = false;
        self
    }

    async fn write_mark(&self, text: &str) -> Result<(), SourceError> {
        if text.len() > marks::TEXT_BYTES_MAX {
            return Err(error::transient(format!(
                "a mark may have {} bytes, not {}",
                marks::TEXT_BYTES_MAX,
                text.len()
            )));
        }
        let prefix = std::str::from_utf8(marks::PREFIX).unwrap_or_default();
        let parameters: [Parameter<'_>; 2] = [(&prefix, Type::TEXT), (&text, Type::TEXT)];
        // A standby that was promoted writes its own.
        if self.two && ask(&self.readers, MARK, &parameters).await?.is_some() {
            return Ok(());
        }
        let written = ask(&self.writers, MARK, &parameters).await?;
        written.map(drop).ok_or_else(|| self.no_primary())
    }

    /// How far the log of the primary is written, and so whatever was streamed of it.
    async fn flushed(&self) -> Result<String, SourceError> {
        ask(&self.writers, FLUSHED, &[]).await?.ok_or_else(|| self.no_primary())
    }

    fn no_primary(&self) -> SourceError {
        let addresses = self.writers.options.addresses();
        error::definite(
            "primary_missing",
            format!("{addresses} is a standby: no mark can be written there"),
            "set `primary` of the database to its primary, where backfills write their marks",
        )
    }

    /// Waits until the server that is read shows all that the stream of the primary may have brought
    /// before this was called: a page of an older state would bring old rows behind new changes.
    async fn catch_up(&self, limit: Duration) -> Result<(), SourceError> {
        if !self.replicated {
            return Ok(());
        }
        let due = self.flushed().await?;
        let limit = limit.min(REPLAY_TIMEOUT);
        let until = Instant::now() + limit;
        let mut often = interval(REPLAY_INTERVAL);
        loop {
            often.tick().await;
            let there = self.has_replayed(&due).await?;
            if there {
                return Ok(());
            }
            if Instant::now() >= until {
                let seconds = limit.as_secs_f32();
                return Err(error::transient(format!(
                    "the standby {} has not replayed {due} of its primary within {seconds} s: the \
                     page waits for it",
                    self.readers.options.addresses()
                )));
            }
        }
    }

    async fn has_replayed(&self, due: &String) -> Result<bool, SourceError> {
        let mut tries = Tries::default();
        loop {
            let mut held = self.readers.take(tries.anew).await?;
            let asked = held.session()?.sql.rows(REPLAYED, &[(due, Type::TEXT)]).await;
            let read = |rows: Vec<tokio_postgres::Row>| match rows.first() {
                // One that was promoted shows what it has.
                Some(row) => Ok(!row.try_get::<_, bool>(0)? || row.try_get::<_, bool>(1)?),
                None => Ok(false),
            };
            match asked.map_err(Failure::Query).and_then(read) {
                Ok(there) => {
                    held.keep();
                    return Ok(there);
                }
                Err(failure) => {
                    tries.again(failure, held.fresh, &self.readers.options, |_| None)?;
                }
            }
        }
    }
}

/// The only value of a query.
async fn ask(
    sessions: &Arc<Sessions>,
    query: &str,
    parameters: &[Parameter<'_>],
) -> Result<Option<String>, SourceError> {
    let mut tries = Tries::default();
    loop {
        let mut held = sessions.take(tries.anew).await?;
        let asked = held.session()?.sql.rows(query, parameters).await;
        let read = |rows: Vec<tokio_postgres::Row>| match rows.first() {
            Some(row) => Ok(row.try_get(0)?),
            None => Ok(None),
        };
        match asked.map_err(Failure::Query).and_then(read) {
            Ok(value) => {
                held.keep();
                return Ok(value);
            }
            Err(failure) => {
                tries.again(failure, held.fresh, &sessions.options, |_| None)?;
            }
        }
    }
}

/// How often something was tried, each time on a session.
#[derive(Debug, Default)]
struct Tries {
    changes: usize,
    /// Whether the next session is to be a new one.
    anew: bool,
}

impl Tries {
    /// Whether it is worth another try: the session was cut while nobody looked (`fresh`: it was not
    /// kept before), or the table changed under it.
    ///
    /// # Errors
    /// What went wrong, if it is not. `refuse` says whom an error of the server concerns where that
    /// is not decided by its SQLSTATE alone.
    fn again(
        &mut self,
        failure: Failure,
        fresh: bool,
        options: &Options,
        refuse: impl FnOnce(&QueryError) -> Option<SourceError>,
    ) -> Result<(), SourceError> {
        match failure {
            Failure::Source(error) => Err(error),
            Failure::Changed if self.changes < CHANGES_MAX => {
                self.changes += 1;
                Ok(())
            }
            Failure::Changed => {
                Err(error::transient("the table changes faster than it can be read"))
            }
            Failure::Query(error) if is_cut(&error) && !fresh && !self.anew => {
                self.anew = true;
                Ok(())
            }
            Failure::Query(error) => {
                Err(refuse(&error).unwrap_or_else(|| error.to_source(options)))
            }
        }
    }
}

/// Whether the session is gone: a query that failed on it says nothing.
fn is_cut(error: &QueryError) -> bool {
    match error {
        // Of a server that answered, only that it ends the session: the classes of connections and
        // of an operator's intervention, but for a query that was cancelled.
        QueryError::Sql(sql) => match sql.code() {
            None => true,
            Some(state) => {
                let code = state.code();
                code.starts_with("08") || (code.starts_with("57") && code != "57014")
            }
        },
        QueryError::Timeout(_) => false,
    }
}

impl model::backfill::Tables for Tables {
    fn survey<'a>(&'a self, wanted: &'a Wanted) -> BoxFuture<'a, Result<Survey, SourceError>> {
        Box::pin(survey::survey(self, wanted))
    }

    fn page<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<Page, SourceError>> {
        Box::pin(page::page(self, ask))
    }

    fn mark<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(self.write_mark(text))
    }
}
