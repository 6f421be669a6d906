//! Startup and authentication: trust, clear text, md5 and SCRAM-SHA-256.

use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncWrite};

use super::cursor::Cursor;
use super::frame::Frames;
use super::{Connection, Error, Reply, unexpected};
use crate::options::{Options, Password};

/// Settings that decide how values are printed, pinned so that no setting of the server, database
/// or role changes a row's text. `extra_float_digits` above 0 prints the shortest text that reads
/// back as the same number.
pub(crate) const SESSION: &str = "-c DateStyle=ISO -c IntervalStyle=postgres \
                                  -c extra_float_digits=1 -c TimeZone=UTC -c bytea_output=hex";

pub(crate) const APPLICATION_NAME: &str = "sequin";

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Logs in for logical replication.
    pub(crate) async fn login(socket: S, options: &Options) -> Result<Self, Error> {
        let mut connection = Self { socket, frames: Frames::default(), version: String::new() };
        let mut out = BytesMut::new();
        frontend::startup_message(
            [
                ("user", options.user.as_str()),
                ("database", options.database.as_str()),
                // Logical: a replication connection that is bound to a database.
                ("replication", "database"),
                ("client_encoding", "UTF8"),
                ("application_name", APPLICATION_NAME),
                ("options", SESSION),
            ],
            &mut out,
        )?;
        connection.send(&out).await?;
        connection.authenticate(options).await?;
        loop {
            let reply = connection.reply().await?;
            match reply.tag {
                // BackendKeyData: we never cancel a query of this connection.
                b'K' => {}
                b'Z' => return Ok(connection),
                _ => return Err(unexpected(&reply, "startup")),
            }
        }
    }

    async fn authenticate(&mut self, options: &Options) -> Result<(), Error> {
        let password = || options.password.as_ref().ok_or(Error::NoPassword);
        loop {
            let reply = self.reply().await?;
            let (method, mut cursor) = request(&reply)?;
            let mut out = BytesMut::new();
            match method {
                0 => return Ok(()),
                3 => frontend::password_message(password()?.as_bytes(), &mut out)?,
                5 => {
                    let salt = cursor.u32()?.to_be_bytes();
                    let user = options.user.as_bytes();
                    let hash = md5_hash(user, password()?.as_bytes(), salt);
                    frontend::password_message(hash.as_bytes(), &mut out)?;
                }
                10 => {
                    offers_scram(&mut cursor)?;
                    self.scram(password()?).await?;
                    continue;
                }
                method => {
                    let text = format!("the server asks for method {method}, which we do not know");
                    return Err(Error::Authentication(text));
                }
            }
            self.send(&out).await?;
        }
    }

    /// RFC 7677 by `postgres-protocol`. It also proves that the server knows the password: only
    /// then is the server's word that we are in taken.
    async fn scram(&mut self, password: &Password) -> Result<(), Error> {
        let failed = |error: std::io::Error| Error::Authentication(error.to_string());
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        let mut out = BytesMut::new();
        frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut out)?;
        self.send(&out).await?;

        let reply = self.reply().await?;
        let (11, challenge) = request(&reply)? else { return Err(unexpected(&reply, "SCRAM")) };
        scram.update(challenge.rest()).map_err(failed)?;
        out.clear();
        frontend::sasl_response(scram.message(), &mut out)?;
        self.send(&out).await?;

        let reply = self.reply().await?;
        let (12, proof) = request(&reply)? else { return Err(unexpected(&reply, "SCRAM")) };
        scram.finish(proof.rest()).map_err(failed)
    }
}

/// The method of an authentication request and its data.
fn request(reply: &Reply) -> Result<(i32, Cursor<'_>), Error> {
    if reply.tag != b'R' {
        return Err(unexpected(reply, "authentication"));
    }
    let mut cursor = Cursor::new(&reply.body, "authentication request");
    Ok((cursor.i32()?, cursor))
}

fn offers_scram(mechanisms: &mut Cursor<'_>) -> Result<(), Error> {
    loop {
        match mechanisms.text()? {
            SCRAM_SHA_256 => return Ok(()),
            "" => {
                let text = "the server does not offer SCRAM-SHA-256".to_owned();
                return Err(Error::Authentication(text));
            }
            _ => {}
        }
    }
}
