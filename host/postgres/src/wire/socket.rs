//! Reaching a server: one host after the other, over TCP or a Unix socket, with TLS if it shall be.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::Error;
use super::tls::{self, Answer};
use crate::options::{Address, Keepalive, Options, SslMode};

/// Whatever bytes go through. One virtual call per system call costs nothing.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// A connection to a server, encrypted or not.
pub(crate) struct BoxSocket {
    inner: Box<dyn Socket>,
    security: Security,
}

/// What protects a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Security {
    Plain,
    Tls {
        /// `tls-server-end-point` of RFC 5929; None if the server's certificate has none.
        end_point: Option<Vec<u8>>,
    },
}

/// No connection came about.
#[derive(Debug)]
pub(crate) enum Unreached {
    Io(io::Error),
    Tls(tls::Failure),
}

impl From<io::Error> for Unreached {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Unreached> for Error {
    fn from(unreached: Unreached) -> Self {
        match unreached {
            Unreached::Io(error) => Self::Io(error),
            Unreached::Tls(failure) => Self::Tls(failure),
        }
    }
}

/// Connects to the first host that can be reached. What goes wrong with TLS ends the search: it
/// will not pass by itself.
pub(crate) async fn dial(options: &Options) -> Result<BoxSocket, Unreached> {
    if options.more_hosts.is_empty() {
        return reach(&Address { host: options.host.clone(), port: options.port }, options).await;
    }
    let count = u32::try_from(options.more_hosts.len()).unwrap_or(u32::MAX).saturating_add(1);
    let limit = options.connect_timeout / count;
    let mut failures = Vec::new();
    for address in options.hosts() {
        let failure = match timeout(limit, reach(&address, options)).await {
            Ok(Err(Unreached::Io(error))) => error.to_string(),
            Ok(other) => return other,
            Err(_) => format!("no answer within {} s", limit.as_secs_f32()),
        };
        tracing::warn!(host = %address, error = failure, "the server cannot be reached");
        failures.push(format!("{address}: {failure}"));
    }
    Err(io::Error::other(failures.join("; ")).into())
}

/// The second attempt of sslmode `prefer`, as libpq makes it: without TLS where pg_hba.conf refuses
/// a connection that has it. None if there is nothing else to try.
pub(crate) async fn dial_again(
    refused: &str,
    security: &Security,
    options: &Options,
) -> Option<Result<BoxSocket, Unreached>> {
    let encrypted = *security != Security::Plain;
    // invalid_authorization_specification, not invalid_password.
    if refused != "28000" || !encrypted || options.tls.mode != SslMode::Prefer {
        return None;
    }
    let mut options = options.clone();
    options.tls.mode = SslMode::Disable;
    Some(dial(&options).await)
}

async fn reach(address: &Address, options: &Options) -> Result<BoxSocket, Unreached> {
    let Address { host, port } = address;
    if host.starts_with('/') {
        let name = format!(".s.PGSQL.{port}");
        return Ok(plain(UnixStream::connect(Path::new(host).join(name)).await?));
    }
    let socket = tcp(address, options.keepalive).await?;
    if options.tls.mode == SslMode::Disable {
        return Ok(plain(socket));
    }
    let optional = options.tls.mode == SslMode::Prefer;
    match tls::negotiate(socket, host, &options.tls).await {
        Ok(Answer::Encrypted { stream, end_point }) => {
            Ok(BoxSocket { inner: stream, security: Security::Tls { end_point } })
        }
        Ok(Answer::Refused(socket)) if optional => Ok(plain(socket)),
        Ok(Answer::Refused(_)) => Err(Unreached::Tls(tls::Failure::Refused)),
        // The connection is spoilt: the next one does not try.
        Err(Unreached::Tls(failure)) if optional => {
            let why = failure.to_string();
            tracing::warn!(host = %address, why, "TLS does not work: connecting without (sslmode prefer)");
            Ok(plain(tcp(address, options.keepalive).await?))
        }
        Err(error) => Err(error),
    }
}

async fn tcp(address: &Address, keepalive: Option<Keepalive>) -> io::Result<TcpStream> {
    let socket = TcpStream::connect((address.host.as_str(), address.port)).await?;
    // Status updates are small and must not wait for company.
    socket.set_nodelay(true)?;
    if let Some(Keepalive { idle, interval, probes }) = keepalive {
        let keepalive =
            TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes);
        SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
    }
    Ok(socket)
}

fn plain(socket: impl Socket + 'static) -> BoxSocket {
    BoxSocket { inner: Box::new(socket), security: Security::Plain }
}

impl BoxSocket {
    /// What protects it.
    pub(crate) fn security(&self) -> &Security {
        &self.security
    }
}

#[cfg(any(test, feature = "fuzz"))]
impl BoxSocket {
    /// A socket that nobody dialled.
    pub(crate) fn new(
        socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        security: Security,
    ) -> Self {
        Self { inner: Box::new(socket), security }
    }
}

impl std::fmt::Debug for BoxSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BoxSocket").field("security", &self.security).finish_non_exhaustive()
    }
}

impl AsyncRead for BoxSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl AsyncWrite for BoxSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_tcp_socket_is_prompt_and_notices_that_its_peer_is_gone() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = Address { host: "127.0.0.1".to_owned(), port };
        let keepalive = Keepalive { idle: Duration::from_secs(7), ..Keepalive::default() };
        let socket = tcp(&address, Some(keepalive)).await.unwrap();
        assert!(socket.nodelay().unwrap());
        let socket = SockRef::from(&socket);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(7));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        let socket = tcp(&address, None).await.unwrap();
        assert!(!SockRef::from(&socket).keepalive().unwrap());
    }
}
