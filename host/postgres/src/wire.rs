//! The replication connection: Postgres' frontend/backend protocol as far as a logical slot needs
//! it, see <https://www.postgresql.org/docs/current/protocol.html>.
//!
//! tokio-postgres has no CopyBoth mode. The framing of what we send and the authentication come
//! from `postgres-protocol`; what the server sends is read here, by [`cursor::Cursor`] alone, so
//! that no byte from outside can make it panic. Generic over the socket: TLS wraps it.
//!
//! A [`Connection`] logs in and takes simple queries; [`Connection::start`] turns it into the two
//! halves of a CopyBoth stream, because status updates are sent whether or not anybody reads.

pub(crate) mod copy;
pub(crate) mod cursor;
pub(crate) mod frame;
pub(crate) mod login;
mod query;
pub(crate) mod report;
pub(crate) mod socket;
pub(crate) mod tls;

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

use cursor::Malformed;
use frame::Frames;
use report::Report;

pub(crate) use query::System;

/// A connection broke, or the server said no.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("the server closed the connection")]
    Closed,
    #[error("the server broke the protocol: {0}")]
    Malformed(#[from] Malformed),
    #[error("{0}")]
    Server(Report),
    #[error("the server asks for a password and none is configured")]
    NoPassword,
    #[error("authentication failed: {0}")]
    Authentication(String),
    #[error("{0}")]
    Tls(#[from] tls::Failure),
}

/// A connection before it streams.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    socket: S,
    frames: Frames,
    /// `server_version` as it announced itself, e.g. `15.18 (Debian 15.18-0+deb12u1)`.
    version: String,
    /// `server_encoding`: that of the database.
    encoding: String,
}

/// A CopyBoth stream.
#[derive(Debug)]
pub(crate) struct Duplex<S> {
    pub(crate) receive: ReadHalf<S>,
    pub(crate) transmit: WriteHalf<S>,
    /// What was read and not yet consumed.
    pub(crate) frames: Frames,
}

/// One frame copied out, for the conversation before the stream.
struct Reply {
    tag: u8,
    body: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// The major version of the server: 15 for `15.18`. None if it announced none we can read.
    pub(crate) fn major_version(&self) -> Option<u32> {
        let digits = self.version.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    }

    async fn send(&mut self, message: &BytesMut) -> Result<(), Error> {
        self.socket.write_all(message).await?;
        self.socket.flush().await?;
        Ok(())
    }

    /// The next frame that is not a notice or a setting. An error of the server is an `Err`.
    async fn reply(&mut self) -> Result<Reply, Error> {
        loop {
            let Some(frame) = self.frames.peek()? else {
                match self.frames.fill(&mut self.socket).await? {
                    0 => return Err(Error::Closed),
                    _ => continue,
                }
            };
            let reply = Reply { tag: frame.tag, body: frame.body.to_vec() };
            self.frames.consume(reply.body.len());
            match reply.tag {
                b'E' => return Err(Error::Server(Report::parse(&reply.body)?)),
                b'N' => {}
                b'S' => self.setting(&reply.body)?,
                _ => return Ok(reply),
            }
        }
    }

    fn setting(&mut self, body: &[u8]) -> Result<(), Malformed> {
        let mut cursor = cursor::Cursor::new(body, "ParameterStatus");
        match cursor.text()? {
            "server_version" => cursor.text()?.clone_into(&mut self.version),
            "server_encoding" => cursor.text()?.clone_into(&mut self.encoding),
            _ => {}
        }
        Ok(())
    }
}

/// The server sent something that does not belong here.
fn unexpected(reply: &Reply, during: &'static str) -> Error {
    let tag = char::from(reply.tag);
    Error::Malformed(Malformed::new(during, format!("unexpected message {tag:?}")))
}
