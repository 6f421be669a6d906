//! The commands of a replication connection.

use bytes::BytesMut;
use model::lsn::Lsn;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncWrite};

use super::cursor::{Cursor, Malformed};
use super::{Connection, Duplex, Error, unexpected};
use crate::options::{Options, Origin};

/// Answer of `IDENTIFY_SYSTEM`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct System {
    /// Made at initdb: tells one cluster (with its copies) from another.
    pub(crate) identifier: String,
    /// Another one after a promotion or a restore: the same positions then mean other things.
    pub(crate) timeline: String,
    /// How far the log is flushed.
    pub(crate) position: Lsn,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Which server this is, and how far it is.
    pub(crate) async fn identify_system(&mut self) -> Result<System, Error> {
        let during = "IDENTIFY_SYSTEM";
        let row = self.query_row(during, during).await?;
        let text = |index: usize| row.get(index).cloned().flatten();
        let missing = || Malformed::new(during, "an answer without its columns");
        let identifier = text(0).ok_or_else(missing)?;
        let timeline = text(1).ok_or_else(missing)?;
        let position = text(2).and_then(|text| text.parse().ok()).ok_or_else(missing)?;
        Ok(System { identifier, timeline, position })
    }

    /// Creates a slot that ends with this connection, or with its first error; returns where its
    /// stream begins. It waits for the transactions that are open.
    pub(crate) async fn create_temporary_slot(&mut self, slot: &str) -> Result<Lsn, Error> {
        let during = "CREATE_REPLICATION_SLOT";
        let row = self.query_row(&create_command(slot), during).await?;
        let begin = row.get(1).cloned().flatten().and_then(|text| text.parse().ok());
        Ok(begin.ok_or_else(|| Malformed::new(during, "an answer without its columns"))?)
    }

    /// Starts the slot at its confirmed position, and turns the connection into a stream.
    pub(crate) async fn start(mut self, options: &Options) -> Result<Duplex<S>, Error> {
        let during = "START_REPLICATION";
        // Logical messages came to pgoutput with Postgres 14.
        let messages = self.major_version().is_some_and(|major| major >= 14);
        self.send_query(&start_command(options, messages)).await?;
        let reply = self.reply().await?;
        // CopyBothResponse.
        if reply.tag != b'W' {
            return Err(unexpected(&reply, during));
        }
        let (receive, transmit) = tokio::io::split(self.socket);
        Ok(Duplex { receive, transmit, frames: self.frames })
    }

    /// Runs a command whose answer does not matter.
    pub(super) async fn execute(&mut self, command: &str) -> Result<(), Error> {
        self.send_query(command).await?;
        loop {
            let reply = self.reply().await?;
            match reply.tag {
                b'C' => {}
                b'Z' => return Ok(()),
                _ => return Err(unexpected(&reply, "SET")),
            }
        }
    }

    /// Has the server keep the slot on its standbys too. Takes Postgres 17.
    pub(crate) async fn set_failover(&mut self, slot: &str) -> Result<(), Error> {
        let during = "ALTER_REPLICATION_SLOT";
        self.send_query(&format!("{during} {} (FAILOVER true)", identifier(slot))).await?;
        loop {
            let reply = self.reply().await?;
            match reply.tag {
                // CommandComplete.
                b'C' => {}
                b'Z' => return Ok(()),
                _ => return Err(unexpected(&reply, during)),
            }
        }
    }

    async fn send_query(&mut self, query: &str) -> Result<(), Error> {
        let mut out = BytesMut::new();
        frontend::query(query, &mut out)?;
        self.send(&out).await
    }

    /// The first row of the answer.
    async fn query_row(
        &mut self,
        query: &str,
        during: &'static str,
    ) -> Result<Vec<Option<String>>, Error> {
        self.send_query(query).await?;
        let mut row = None;
        loop {
            let reply = self.reply().await?;
            match reply.tag {
                // RowDescription, CommandComplete.
                b'T' | b'C' => {}
                b'D' => row = Some(data_row(&reply.body)?),
                b'Z' => {
                    return row
                        .ok_or_else(|| Malformed::new(during, "an answer without row").into());
                }
                _ => return Err(unexpected(&reply, during)),
            }
        }
    }
}

fn data_row(body: &[u8]) -> Result<Vec<Option<String>>, Malformed> {
    let mut cursor = Cursor::new(body, "DataRow");
    let columns = cursor.u16()?;
    (0..columns)
        .map(|_| {
            let mut behind_null = cursor;
            if behind_null.i32()? == -1 {
                cursor = behind_null;
                return Ok(None);
            }
            let text = cursor.counted()?;
            let text = std::str::from_utf8(text).map_err(|_| cursor.bad("text is not UTF-8"))?;
            Ok(Some(text.to_owned()))
        })
        .collect()
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// In the form that servers before 15 take too.
fn create_command(slot: &str) -> String {
    let slot = identifier(slot);
    format!("CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT")
}

fn start_command(options: &Options, messages: bool) -> String {
    // A list of identifiers inside a literal.
    let publications = identifier(&options.publication).replace('\'', "''");
    let messages = if messages { ", messages 'true'" } else { "" };
    // `any` is what servers do that do not know the option.
    let origin = match options.origin {
        Origin::Any => "",
        Origin::None => ", origin 'none'",
    };
    format!(
        "START_REPLICATION SLOT {} LOGICAL 0/0 \
         (proto_version '1', publication_names '{publications}'{messages}{origin})",
        identifier(&options.slot)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_for_where_they_stand() {
        let options =
            |slot: &str, publication: &str| Options::new("h", "u", "d", slot, publication);
        assert_eq!(
            start_command(&options("s", "it's \"p\", q"), true),
            "START_REPLICATION SLOT \"s\" LOGICAL 0/0 (proto_version '1', \
             publication_names '\"it''s \"\"p\"\", q\"', messages 'true')"
        );
        let plain = options("s", "p");
        assert!(!start_command(&plain, false).contains("messages"));
        assert!(!start_command(&plain, true).contains("origin"));
        let local = Options { origin: Origin::None, ..plain };
        assert!(start_command(&local, true).ends_with(", origin 'none')"));
        assert_eq!(
            create_command("s\"x"),
            "CREATE_REPLICATION_SLOT \"s\"\"x\" TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT"
        );
    }

    #[test]
    fn a_row_is_read_with_its_nulls_and_a_cut_one_is_an_error() {
        let body = [0, 2, 0, 0, 0, 2, b'a', b'b', 0xFF, 0xFF, 0xFF, 0xFF];
        assert_eq!(data_row(&body), Ok(vec![Some("ab".to_owned()), None]));
        for cut in 0..body.len() {
            assert!(data_row(&body[..cut]).is_err(), "cut at {cut}");
        }
    }
}
