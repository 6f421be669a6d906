//! The messages inside a CopyBoth stream, see
//! <https://www.postgresql.org/docs/current/protocol-replication.html>.

use bytes::{BufMut as _, BytesMut};
use model::lsn::Lsn;

use super::cursor::{Cursor, Malformed};

/// From the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// A piece of the log.
    XLogData {
        /// Where it stands. For pgoutput, a commit carries the end of its record.
        start: Lsn,
        /// The server's clock, microseconds since 2000.
        clock_us: i64,
        /// One message of the output plugin.
        data: &'a [u8],
    },
    /// Nothing new.
    Keepalive {
        /// Everything below was sent.
        end: Lsn,
        /// The server's clock, microseconds since 2000.
        clock_us: i64,
        /// Whether it wants a status update at once.
        reply: bool,
    },
}

impl<'a> Message<'a> {
    /// Reads the body of a CopyData frame.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(body, "replication message");
        match cursor.u8()? {
            b'w' => {
                let mut cursor = cursor.named("XLogData");
                let start = Lsn(cursor.u64()?);
                // The end of the log on the server: a logical walsender repeats the start here.
                cursor.u64()?;
                let clock_us = cursor.i64()?;
                Ok(Self::XLogData { start, clock_us, data: cursor.rest() })
            }
            b'k' => {
                let mut cursor = cursor.named("keepalive");
                let end = Lsn(cursor.u64()?);
                let clock_us = cursor.i64()?;
                let reply = cursor.u8()? != 0;
                cursor.end()?;
                Ok(Self::Keepalive { end, clock_us, reply })
            }
            tag => Err(cursor.bad(format!("unknown kind {:?}", char::from(tag)))),
        }
    }
}

/// How far we are, for the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// Everything below was received.
    pub(crate) received: Lsn,
    /// Everything below may be forgotten.
    pub(crate) confirmed: Lsn,
    /// Microseconds since 2000; the server only shows it.
    pub(crate) clock_us: i64,
    /// Whether to answer with a keepalive at once.
    pub(crate) reply: bool,
}

impl Status {
    /// Appends it as a frame.
    pub(crate) fn write(&self, out: &mut BytesMut) {
        // The length counts itself: 4 + 1 + 3 * 8 + 8 + 1.
        out.put_u8(b'd');
        out.put_u32(38);
        out.put_u8(b'r');
        out.put_u64(self.received.0);
        out.put_u64(self.confirmed.0);
        out.put_u64(self.confirmed.0);
        out.put_i64(self.clock_us);
        out.put_u8(u8::from(self.reply));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_and_cut_ones_are_errors() {
        let mut data = vec![b'w'];
        data.extend([7_u64, 9].iter().flat_map(|n| n.to_be_bytes()));
        data.extend((-1_i64).to_be_bytes());
        data.extend(b"BX");
        let expected = Message::XLogData { start: Lsn(7), clock_us: -1, data: b"BX" };
        assert_eq!(Message::parse(&data), Ok(expected));
        let mut keepalive = vec![b'k'];
        keepalive.extend([7_u64, 9].iter().flat_map(|n| n.to_be_bytes()));
        keepalive.push(1);
        let expected = Message::Keepalive { end: Lsn(7), clock_us: 9, reply: true };
        assert_eq!(Message::parse(&keepalive), Ok(expected));
        for cut in 0..keepalive.len() {
            assert!(Message::parse(&keepalive[..cut]).is_err(), "cut at {cut}");
            assert!(Message::parse(&data[..cut]).is_err(), "cut at {cut}");
        }
        assert!(Message::parse(b"x").is_err());
    }

    #[test]
    fn a_status_update_has_the_length_it_says() {
        let mut out = BytesMut::new();
        let status = Status { received: Lsn(3), confirmed: Lsn(2), clock_us: 1, reply: true };
        status.write(&mut out);
        assert_eq!(out.len(), 39);
        assert_eq!(&out[..6], [b'd', 0, 0, 0, 38, b'r']);
        assert_eq!(&out[6..30], [3_u64, 2, 2].map(u64::to_be_bytes).concat());
        assert_eq!(out[38], 1);
    }
}
