//! Frames in one contiguous buffer: a tag, a length that counts itself, a body.
//!
//! A frame is looked at in place and then consumed; nothing is copied out and no reference count is
//! kept. The buffer grows only as bytes arrive, so a length that lies costs nothing.

use std::io;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::cursor::{Cursor, Malformed};

/// Postgres cannot build a larger message (`MaxAllocSize` in its memutils.h).
pub(crate) const FRAME_BYTES_MAX: usize = 1 << 30;

/// Asked of the socket at once. A walsender writes its rows in small pieces; this takes what a
/// socket buffer holds by default and more.
const READ_BYTES: usize = 256 * 1024;

/// A buffer that a large frame left behind is given back above this size.
const KEEP_BYTES: usize = 4 * 1024 * 1024;

/// Tag and length.
const HEADER_BYTES: usize = 5;

/// Bytes that arrived and were not consumed.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    buffer: BytesMut,
}

/// One whole frame, in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) tag: u8,
    pub(crate) body: &'a [u8],
}

impl Frames {
    /// The first frame, if all of it is here.
    pub(crate) fn peek(&self) -> Result<Option<Frame<'_>>, Malformed> {
        let Some((header, rest)) = self.buffer.split_at_checked(HEADER_BYTES) else {
            return Ok(None);
        };
        let mut header = Cursor::new(header, "frame");
        let tag = header.u8()?;
        let len = usize::try_from(header.u32()?).ok().and_then(|len| len.checked_sub(4));
        match len {
            Some(len) if len <= FRAME_BYTES_MAX => {
                Ok(rest.get(..len).map(|body| Frame { tag, body }))
            }
            Some(len) => Err(header.bad(format!("{len} bytes are more than a message can have"))),
            None => Err(header.bad("its length is less than the length field")),
        }
    }

    /// The first frame with its header, whose body has `body_len` bytes.
    pub(crate) fn whole(&self, body_len: usize) -> &[u8] {
        let len = HEADER_BYTES.saturating_add(body_len).min(self.buffer.len());
        self.buffer.get(..len).unwrap_or_default()
    }

    /// Drops the first frame, whose body has `body_len` bytes.
    pub(crate) fn consume(&mut self, body_len: usize) {
        let len = HEADER_BYTES.saturating_add(body_len).min(self.buffer.len());
        self.buffer.advance(len);
        if self.buffer.is_empty() && self.buffer.capacity() > KEEP_BYTES {
            self.buffer = BytesMut::new();
        }
    }

    /// Reads what the socket has, at most about [`READ_BYTES`] or as much as is here already, so
    /// that a large frame takes few reads. 0 bytes are the end of the stream.
    ///
    /// Cancel-safe: a dropped call read nothing.
    pub(crate) async fn fill<R: AsyncRead + Unpin>(&mut self, socket: &mut R) -> io::Result<usize> {
        self.buffer.reserve(READ_BYTES.max(self.buffer.len()));
        socket.read_buf(&mut self.buffer).await
    }
}

#[cfg(any(test, feature = "fuzz"))]
impl Frames {
    /// How many bytes were read and not consumed.
    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// The memory that the buffer takes, in bytes.
    pub(crate) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(bytes: &[u8]) -> Frames {
        Frames { buffer: BytesMut::from(bytes) }
    }

    #[test]
    fn b028_a_frame_is_whole_or_not_there() {
        let bytes = [b'd', 0, 0, 0, 6, 1, 2, b'k', 0, 0, 0, 4];
        for cut in 0..7 {
            assert_eq!(frames(&bytes[..cut]).peek(), Ok(None), "cut at {cut}");
        }
        let mut frames = frames(&bytes);
        assert_eq!(frames.peek(), Ok(Some(Frame { tag: b'd', body: &[1, 2] })));
        frames.consume(2);
        assert_eq!(frames.peek(), Ok(Some(Frame { tag: b'k', body: &[] })));
        frames.consume(0);
        assert_eq!(frames.peek(), Ok(None));
    }

    #[test]
    fn b029_an_impossible_length_is_an_error_before_it_is_believed() {
        for len in [0_u32, 3, (1 << 30) + 5, 0x8000_0000, u32::MAX] {
            let mut bytes = vec![b'd'];
            bytes.extend(len.to_be_bytes());
            assert!(frames(&bytes).peek().is_err(), "{len}");
        }
    }

    #[tokio::test]
    async fn b028_a_frame_larger_than_a_read_is_assembled() {
        let body = vec![7_u8; 3 * READ_BYTES];
        let mut bytes = vec![b'd'];
        bytes.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
        bytes.extend(&body);
        let mut socket = &bytes[..];
        let mut frames = Frames::default();
        while frames.peek().unwrap().is_none() {
            assert!(frames.fill(&mut socket).await.unwrap() > 0);
        }
        assert_eq!(frames.peek().unwrap().unwrap().body, body);
    }
}
