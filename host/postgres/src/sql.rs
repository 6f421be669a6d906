//! An SQL session beside the stream, for publication, slot and catalog.
//!
//! tokio-postgres splits a session into a client and a connection that somebody must drive. Here
//! whoever asks drives it, so there is no task: the session is still while nobody asks.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Fuse};
use model::source::SourceError;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_postgres::config::{self, SslMode, SslNegotiation};
use tokio_postgres::error::ErrorPosition;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{CancelToken, Client, Config, NoTls, Row, Statement};

use crate::error;
use crate::options::{self, Options};
use crate::wire::login::PRINTING;
use crate::wire::report::Report;
use crate::wire::socket::{self, BoxSocket, Security, Unreached};

/// For each query: they read catalogs.
pub(crate) const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// The server is to give up first, so that its answer says what it waited for.
const ANSWER_SLACK: Duration = Duration::from_secs(2);

/// For the farewell of a session: the server closes it anyway.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A parameter of a query with its type, so that no round trip asks for it.
pub(crate) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// One session.
pub(crate) struct Sql {
    client: Client,
    connection: Connection,
}

type Connection = Fuse<BoxFuture<'static, Result<(), tokio_postgres::Error>>>;

/// A query failed, or took too long.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueryError {
    #[error(transparent)]
    Sql(#[from] tokio_postgres::Error),
    #[error("the server did not answer a query within {} s", .0.as_secs())]
    Timeout(Duration),
}

/// No session was opened.
#[derive(Debug)]
pub(crate) enum Refused {
    Unreached(SourceError),
    Sql(tokio_postgres::Error),
}

impl Refused {
    /// Whether the server takes no sessions now: it shuts down, if it ran before (`cannot_connect_now`).
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Unreached(_) => false,
            Self::Sql(error) => error.code().is_some_and(|code| code.code() == "57P03"),
        }
    }
}

impl QueryError {
    /// The SQLSTATE, if the server answered with one.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Sql(error) => error.code().map_or("", |code| code.code()),
            Self::Timeout(_) => "",
        }
    }

    /// Whether the session broke: no answer came.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(self, Self::Sql(error) if error.as_db_error().is_none())
    }

    /// What the server said, without what the client puts before it.
    pub(crate) fn said(&self) -> String {
        match self {
            Self::Sql(error) => match error.as_db_error() {
                Some(db) => Report::of(db).to_string(),
                None => error.to_string(),
            },
            Self::Timeout(_) => self.to_string(),
        }
    }

    /// Where in the statement the server found a mistake, in characters from 1.
    pub(crate) fn position(&self) -> Option<u32> {
        let Self::Sql(error) = self else { return None };
        match error.as_db_error()?.position()? {
            ErrorPosition::Original(position) => Some(*position),
            ErrorPosition::Internal { .. } => None,
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
        Self::try_open(options).await.map_err(|refused| match refused {
            Refused::Unreached(error) => error,
            Refused::Sql(error) => error::sql(&error, options),
        })
    }

    /// Logs in, and tells refusals apart. The caller bounds it.
    pub(crate) async fn try_open(options: &Options) -> Result<Self, Refused> {
        let unreached = |error: Unreached| {
            Refused::Unreached(error::wire(&error.into(), error::Phase::Login, options))
        };
        let socket = socket::dial(options).await.map_err(unreached)?;
        let security = socket.security().clone();
        let failed = match Self::attempt(socket, options).await {
            Ok(sql) => return Ok(sql),
            Err(failed) => failed,
        };
        let code = failed.code().map_or("", |code| code.code());
        let failed = match socket::dial_again(code, &security, options).await {
            None => failed,
            Some(socket) => match Self::attempt(socket.map_err(unreached)?, options).await {
                Ok(sql) => return Ok(sql),
                Err(failed) => failed,
            },
        };
        Err(Refused::Sql(failed))
    }

    async fn attempt(socket: BoxSocket, options: &Options) -> Result<Self, tokio_postgres::Error> {
        let mut config = Config::new();
        config
            .user(&options.user)
            .dbname(&options.database)
            .application_name(&options.application_name)
            .channel_binding(match options.tls.channel_binding {
                options::ChannelBinding::Disable => config::ChannelBinding::Disable,
                options::ChannelBinding::Prefer => config::ChannelBinding::Prefer,
                options::ChannelBinding::Require => config::ChannelBinding::Require,
            })
            .options(format!("{PRINTING} -c statement_timeout={}", QUERY_TIMEOUT.as_millis()));
        if let Some(password) = &options.password {
            config.password(password.as_bytes());
        }
        match socket.security() {
            Security::Plain => {
                config.ssl_mode(SslMode::Disable);
                let (client, connection) = config.connect_raw(socket, NoTls).await?;
                Ok(Self { client, connection: connection.boxed().fuse() })
            }
            Security::Tls { .. } => {
                // Without the question: it was answered when the socket was made.
                config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
                let (client, connection) = config.connect_raw(socket, Encrypted).await?;
                Ok(Self { client, connection: connection.boxed().fuse() })
            }
        }
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
        drive(connection, client.query_typed(query, parameters), limit).await
    }

    /// What the server makes of a statement, with as many types of parameters as are given; it finds
    /// out the others. Bounded as [`Sql::rows_within`].
    pub(crate) async fn prepare(
        &mut self,
        statement: &str,
        types: &[Type],
        limit: Duration,
    ) -> Result<Statement, QueryError> {
        let Self { client, connection } = self;
        drive(connection, client.prepare_typed(statement, types), limit).await
    }

    /// Runs statements that give no rows, in one round trip. Nothing from outside may stand in them
    /// but quoted names. Bounded as [`Sql::rows_within`].
    pub(crate) async fn batch(
        &mut self,
        statements: &str,
        limit: Duration,
    ) -> Result<(), QueryError> {
        let Self { client, connection } = self;
        drive(connection, client.batch_execute(statements), limit).await
    }

    /// By which somebody else can end what this session is doing.
    pub(crate) fn canceller(&self) -> CancelToken {
        self.client.cancel_token()
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

/// Asks the server to end what another session is doing. The server does not say whether it did.
pub(crate) async fn cancel(token: CancelToken, options: &Options) {
    let Ok(socket) = socket::dial(options).await else { return };
    let cancelled = match socket.security() {
        Security::Plain => token.cancel_query_raw(socket, NoTls).await,
        Security::Tls { .. } => token.cancel_query_raw(socket, Encrypted).await,
    };
    if let Err(error) = cancelled {
        tracing::debug!(%error, "a query could not be cancelled; its own time limit ends it");
    }
}

/// Waits for an answer on this connection.
async fn drive<T>(
    connection: &mut Connection,
    answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    limit: Duration,
) -> Result<T, QueryError> {
    let driven = async {
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            // 1: the answer, which may be there although the connection has ended.
            biased;
            answer = &mut answer => answer,
            // 2: the connection makes it come. Once it ended, the client knows.
            ended = connection => match ended {
                Ok(()) => answer.await,
                Err(error) => Err(error),
            },
        }
    };
    match timeout(limit + ANSWER_SLACK, driven).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(QueryError::Timeout(limit)),
    }
}

/// Tells tokio-postgres that the socket is encrypted already.
struct Encrypted;

impl TlsConnect<BoxSocket> for Encrypted {
    type Stream = EncryptedSocket;
    type Error = Infallible;
    type Future = Ready<Result<EncryptedSocket, Infallible>>;

    fn connect(self, socket: BoxSocket) -> Self::Future {
        ready(Ok(EncryptedSocket(socket)))
    }
}

/// A socket with TLS, as tokio-postgres wants to see it.
struct EncryptedSocket(BoxSocket);

impl TlsStream for EncryptedSocket {
    fn channel_binding(&self) -> ChannelBinding {
        match self.0.security() {
            Security::Tls { end_point: Some(end_point) } => {
                ChannelBinding::tls_server_end_point(end_point.clone())
            }
            Security::Tls { end_point: None } | Security::Plain => ChannelBinding::none(),
        }
    }
}

impl AsyncRead for EncryptedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for EncryptedSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl std::fmt::Debug for Sql {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sql").finish_non_exhaustive()
    }
}
