//! Checked reading of a message's bytes. Nothing else in this crate takes bytes apart, but for the
//! columns of a row (`pgoutput/tuple.rs`).

/// A message does not have the form it must have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {reason}")]
pub(crate) struct Malformed {
    what: &'static str,
    reason: String,
}

impl Malformed {
    pub(crate) fn new(what: &'static str, reason: impl Into<String>) -> Self {
        Self { what, reason: reason.into() }
    }
}

/// What is left to read of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
    /// The message's name, for errors.
    what: &'static str,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    /// Gives the rest another name, once its kind is known.
    pub(crate) fn named(self, what: &'static str) -> Self {
        Self { what, ..self }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[cold]
    pub(crate) fn bad(&self, reason: impl Into<String>) -> Malformed {
        Malformed::new(self.what, reason)
    }

    /// Out of line: what reads every column has only the way of success in it.
    #[cold]
    #[inline(never)]
    fn ends_early(&self) -> Malformed {
        self.bad("ends early")
    }

    #[cold]
    #[inline(never)]
    fn negative(&self) -> Malformed {
        self.bad("negative length")
    }

    #[inline(always)]
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or_else(|| self.ends_early())?;
        self.rest = rest;
        Ok(head)
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk().ok_or_else(|| self.ends_early())?;
        self.rest = rest;
        Ok(*head)
    }

    #[inline(always)]
    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline(always)]
    pub(crate) fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// As many bytes as a signed 32-bit length in front of them says.
    #[inline(always)]
    pub(crate) fn counted(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.i32()?;
        let len = usize::try_from(len).map_err(|_| self.negative())?;
        self.take(len)
    }

    /// The bytes up to a NUL, without it.
    pub(crate) fn until_nul(&mut self) -> Result<&'a [u8], Malformed> {
        let end = self.rest.iter().position(|byte| *byte == 0);
        let text = self.take(end.ok_or_else(|| self.bad("text without end"))?)?;
        self.take(1)?;
        Ok(text)
    }

    /// The UTF-8 text up to a NUL.
    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.until_nul()?).map_err(|_| self.bad("text is not UTF-8"))
    }

    /// Nothing may be left.
    pub(crate) fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.bad("bytes after its end")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_in_network_order_and_never_beyond_the_end() {
        let bytes = [1, 0, 2, 0, 0, 0, 3, b'a', 0, 0, 0, 0, 1, b'x'];
        let mut cursor = Cursor::new(&bytes, "test");
        assert_eq!(cursor.u8(), Ok(1));
        assert_eq!(cursor.u16(), Ok(2));
        assert_eq!(cursor.u32(), Ok(3));
        assert_eq!(cursor.text(), Ok("a"));
        assert!(cursor.end().is_err());
        assert_eq!(cursor.counted(), Ok(&b"x"[..]));
        assert_eq!(cursor.end(), Ok(()));
        assert!(cursor.u8().is_err() && cursor.u64().is_err() && cursor.text().is_err());
        assert!(Cursor::new(&[0xFF; 4], "test").counted().is_err(), "a negative length");
        assert!(Cursor::new(&[0xFF, 0], "test").text().is_err(), "not UTF-8");
    }
}
