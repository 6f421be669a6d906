//! Startup and authentication: trust, clear text, md5, and SCRAM-SHA-256 with or without channel
//! binding.

use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    self, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::frontend;

use super::cursor::Cursor;
use super::frame::Frames;
use super::socket::{self, BoxSocket, Security};
use super::{Connection, Error, Reply, unexpected};
use crate::options::{ChannelBinding, Options, Password};

/// Settings that decide how values are printed, pinned in every session so that no setting of the
/// server, database or role changes a row's text. `extra_float_digits` above 0 prints the shortest
/// text that reads back as the same number; `lc_monetary` decides the looks of `money`, and
/// `quote_all_identifiers` those of `regclass` and its kin.
pub(crate) const PRINTING: &str = "-c DateStyle=ISO -c IntervalStyle=postgres \
                                   -c extra_float_digits=1 -c TimeZone=UTC -c bytea_output=hex \
                                   -c lc_monetary=C -c quote_all_identifiers=off";

/// Names in `regclass` and its kin then always carry their schema. Not for SQL sessions: a statement
/// of the user's runs there and may rely on the path.
const NO_SEARCH_PATH: &str = "-c search_path=";

/// The encoding of a database that keeps none: its texts are bytes of whatever its clients sent.
const NO_ENCODING: &str = "SQL_ASCII";

impl Connection<BoxSocket> {
    /// Logs in for logical replication.
    pub(crate) async fn login(socket: BoxSocket, options: &Options) -> Result<Self, Error> {
        let security = socket.security().clone();
        let failed = match Self::attempt(socket, options).await {
            Err(Error::Server(report)) => report,
            other => return other,
        };
        match socket::dial_again(&failed.code, &security, options).await {
            Some(socket) => Self::attempt(socket?, options).await,
            None => Err(Error::Server(failed)),
        }
    }

    async fn attempt(socket: BoxSocket, options: &Options) -> Result<Self, Error> {
        let frames = Frames::default();
        let (version, encoding) = (String::new(), String::new());
        let mut connection = Self { socket, frames, version, encoding };
        let settings = format!("{PRINTING} {NO_SEARCH_PATH}");
        let mut out = BytesMut::new();
        frontend::startup_message(
            [
                ("user", options.user.as_str()),
                ("database", options.database.as_str()),
                // Logical: a replication connection that is bound to a database.
                ("replication", "database"),
                ("client_encoding", "UTF8"),
                ("application_name", options.application_name.as_str()),
                ("options", &settings),
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
                b'Z' => break,
                _ => return Err(unexpected(&reply, "startup")),
            }
        }
        // To a client with an encoding the server would refuse to send a text that is not in it, and
        // one such row would stop the slot for ever. So it sends bytes, and we judge each value.
        if connection.encoding == NO_ENCODING {
            connection.execute(&format!("SET client_encoding TO '{NO_ENCODING}'")).await?;
        }
        Ok(connection)
    }

    async fn authenticate(&mut self, options: &Options) -> Result<(), Error> {
        let password = || options.password.as_ref().ok_or(Error::NoPassword);
        let mut proven = false;
        loop {
            let reply = self.reply().await?;
            let (method, mut cursor) = request(&reply)?;
            let mut out = BytesMut::new();
            // A server that does not prove that it sees our TLS session may be in between.
            let demanded = options.tls.channel_binding == ChannelBinding::Require;
            if demanded && method != 10 && !(method == 0 && proven) {
                let text = "channel_binding is `require`, and the server does not use SCRAM";
                return Err(Error::Authentication(text.to_owned()));
            }
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
                    let offer = Offer::read(&mut cursor)?;
                    let wanted = options.tls.channel_binding;
                    let binding = choose(offer, self.socket.security(), wanted);
                    let (mechanism, binding) = binding.map_err(Error::Authentication)?;
                    self.scram(password()?, mechanism, binding).await?;
                    proven = true;
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
    async fn scram(
        &mut self,
        password: &Password,
        mechanism: &str,
        binding: sasl::ChannelBinding,
    ) -> Result<(), Error> {
        let failed = |error: std::io::Error| Error::Authentication(error.to_string());
        let mut scram = ScramSha256::new(password.as_bytes(), binding);
        let mut out = BytesMut::new();
        frontend::sasl_initial_response(mechanism, scram.message(), &mut out)?;
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

/// The mechanisms of a server that we know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Offer {
    scram: bool,
    scram_plus: bool,
}

impl Offer {
    fn read(mechanisms: &mut Cursor<'_>) -> Result<Self, Error> {
        let mut offer = Self::default();
        loop {
            match mechanisms.text()? {
                SCRAM_SHA_256 => offer.scram = true,
                SCRAM_SHA_256_PLUS => offer.scram_plus = true,
                "" => return Ok(offer),
                _ => {}
            }
        }
    }
}

/// The mechanism, and what it is bound to. Errors are texts.
fn choose(
    offer: Offer,
    security: &Security,
    wanted: ChannelBinding,
) -> Result<(&'static str, sasl::ChannelBinding), String> {
    let end_point = match security {
        Security::Tls { end_point: Some(end_point) } => Some(end_point),
        Security::Tls { end_point: None } | Security::Plain => None,
    };
    match (end_point, wanted) {
        (Some(end_point), ChannelBinding::Prefer | ChannelBinding::Require) if offer.scram_plus => {
            let binding = sasl::ChannelBinding::tls_server_end_point(end_point.clone());
            Ok((SCRAM_SHA_256_PLUS, binding))
        }
        (_, ChannelBinding::Require) => Err(match (security, end_point) {
            (Security::Plain, _) => "channel_binding is `require`, and there is no TLS",
            (_, None) => "channel_binding is `require`, and the server's certificate has no digest",
            _ => "channel_binding is `require`, and the server does not offer it",
        }
        .to_owned()),
        _ if !offer.scram => Err("the server does not offer SCRAM-SHA-256".to_owned()),
        // "I could, you did not offer it": a server that did offer it knows that somebody who
        // stands between took it away.
        (Some(_), ChannelBinding::Prefer) => {
            Ok((SCRAM_SHA_256, sasl::ChannelBinding::unrequested()))
        }
        _ => Ok((SCRAM_SHA_256, sasl::ChannelBinding::unsupported())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_mechanism_of_both_is_chosen() {
        use ChannelBinding::{Disable, Prefer, Require};
        let plain = Security::Plain;
        let tls = Security::Tls { end_point: Some(vec![1]) };
        let odd = Security::Tls { end_point: None };
        let both = Offer { scram: true, scram_plus: true };
        let scram = Offer { scram: true, scram_plus: false };
        let none = Offer::default();
        for (offer, security, wanted, expected) in [
            (both, &tls, Prefer, Some(SCRAM_SHA_256_PLUS)),
            (both, &tls, Require, Some(SCRAM_SHA_256_PLUS)),
            (both, &tls, Disable, Some(SCRAM_SHA_256)),
            (both, &odd, Prefer, Some(SCRAM_SHA_256)),
            (both, &odd, Require, None),
            (scram, &tls, Prefer, Some(SCRAM_SHA_256)),
            (scram, &tls, Require, None),
            (scram, &plain, Prefer, Some(SCRAM_SHA_256)),
            (scram, &plain, Require, None),
            (none, &tls, Prefer, None),
            (none, &plain, Disable, None),
        ] {
            let chosen = choose(offer, security, wanted).map(|(mechanism, _)| mechanism);
            assert_eq!(chosen.ok(), expected, "{offer:?} {security:?} {wanted:?}");
        }
    }
}
