//! An SQL session beside the stream, for publication, slot and catalog.
//!
//! tokio-postgres splits a session into a client and a connection that somebody must drive. Here
//! whoever asks drives it, so there is no task: the session is still while nobody asks.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Fuse};
use model::source::SourceError;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, NoTls, Row};

use crate::error;
use crate::options::Options;
use crate::wire::socket;

/// For each query: they read catalogs.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// The server is to give up first, so that its answer says what it waited for.
const ANSWER_SLACK: Duration = Duration::from_secs(2);

/// For the farewell of a session: the server closes it anyway.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A parameter of a query with its type, so that no round trip asks for it.
pub(crate) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// One session.
pub(crate) struct Sql {
    client: Client,
    connection: Fuse<BoxFuture<'static, Result<(), tokio_postgres::Error>>>,
}

/// A query failed, or took too long.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueryError {
    #[error(transparent)]
    Sql(#[from] tokio_postgres::Error),
    #[error("the server did not answer a query within {} s", .0.as_secs())]
    Timeout(Duration),
}

impl QueryError {
    /// The SQLSTATE, if the server answered with one.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Sql(error) => error.code().map_or("", |code| code.code()),
            Self::Timeout(_) => "",
        }
    }

    pub(crate) fn to_source(&self, options: &Options) -> SourceError {
        match self {
            Self::Sql(error) => error::sql(error, options),
            Self::Timeout(_) => error::transient(self.to_string()),
        }
    }
}

impl Sql {
    /// Logs in. The caller bounds it.
    pub(crate) async fn open(options: &Options) -> Result<Self, SourceError> {
        let socket = socket::dial(options)
            .await
            .map_err(|error| error::wire(&error.into(), error::Phase::Login, options))?;
        let mut config = Config::new();
        config
            .user(&options.user)
            .dbname(&options.database)
            .application_name(crate::wire::APPLICATION_NAME)
            // Ours goes through `connect_raw`, over a socket that has TLS if it shall.
            .ssl_mode(SslMode::Disable)
            .options(format!("-c statement_timeout={}", QUERY_TIMEOUT.as_millis()));
        if let Some(password) = &options.password {
            config.password(password.as_bytes());
        }
        let connected = config.connect_raw(socket, NoTls).await;
        let (client, connection) = connected.map_err(|error| error::sql(&error, options))?;
        Ok(Self { client, connection: connection.boxed().fuse() })
    }

    /// The rows of a query.
    pub(crate) async fn rows(
        &mut self,
        query: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, QueryError> {
        self.rows_within(query, parameters, QUERY_TIMEOUT).await
    }

    /// The rows of a query that may take longer than the session's `statement_timeout`, which the
    /// caller has set to `limit`.
    pub(crate) async fn rows_within(
        &mut self,
        query: &str,
        parameters: &[Parameter<'_>],
        limit: Duration,
    ) -> Result<Vec<Row>, QueryError> {
        let Self { client, connection } = self;
        let query = std::pin::pin!(client.query_typed(query, parameters));
        let driven = async {
            let mut query = query;
            tokio::select! {
                // 1: the answer, which may be there although the connection has ended.
                biased;
                rows = &mut query => rows,
                // 2: the connection makes it come. Once it ended, the client knows.
                ended = connection => match ended {
                    Ok(()) => query.await,
                    Err(error) => Err(error),
                },
            }
        };
        match timeout(limit + ANSWER_SLACK, driven).await {
            Ok(rows) => Ok(rows?),
            Err(_) => Err(QueryError::Timeout(limit)),
        }
    }

    /// Sets a limit for the statements to come. Zero is none.
    pub(crate) async fn limit_statements(&mut self, limit: Duration) -> Result<(), QueryError> {
        let milliseconds = limit.as_millis().to_string();
        let set = "select pg_catalog.set_config('statement_timeout', $1, false)";
        self.rows(set, &[(&milliseconds, Type::TEXT)]).await.map(drop)
    }

    /// Says goodbye, so that the server logs no broken connection.
    pub(crate) async fn close(self) {
        let Self { client, connection } = self;
        drop(client);
        // Best effort: the process may go at any time without it.
        timeout(CLOSE_TIMEOUT, connection).await.ok();
    }
}

impl std::fmt::Debug for Sql {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sql").finish_non_exhaustive()
    }
}
