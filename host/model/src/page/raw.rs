//! A row that is written as bytes and becomes text as a whole.

use super::{Builder, Cell, Extent, RowSpan};

/// A row under construction. One check for all its values is a fraction of what one for each costs.
///
/// A row that is not ended leaves no trace.
#[derive(Debug)]
pub struct RawRow<'a> {
    builder: &'a mut Builder,
    bytes: &'a mut Vec<u8>,
    /// Its first cell; once it is ended, one past its last.
    first: usize,
    /// A value begins inside of a character.
    torn: bool,
}

/// The bytes of some value are not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a value is not UTF-8")]
pub struct NotText;

impl Builder {
    /// Begins a row of about so many columns, in a buffer that is used for one row after the other.
    #[inline]
    pub fn raw_row<'a>(&'a mut self, bytes: &'a mut Vec<u8>, columns: usize) -> RawRow<'a> {
        bytes.clear();
        self.page.cells.reserve(columns);
        let first = self.begin_row();
        RawRow { builder: self, bytes, first, torn: false }
    }
}

impl RawRow<'_> {
    /// Appends a null.
    #[inline]
    pub fn null(&mut self) {
        self.builder.null();
    }

    /// Appends a value that was not sent.
    #[inline]
    pub fn unchanged(&mut self) {
        self.builder.unchanged();
    }

    /// Appends a value that `write` adds to the end of the row's bytes, as canonical text.
    ///
    /// # Errors
    /// What `write` fails with; the row is then of no further use.
    ///
    /// # Panics
    /// As [`Builder::value`].
    #[inline]
    pub fn value<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        let start = self.bytes.len();
        write(self.bytes)?;
        // Bytes that continue a character are those of 0b10…; where no value begins with one, what
        // is text as a whole is text value by value.
        self.torn |= self.bytes.get(start).is_some_and(|byte| byte & 0xC0 == 0x80);
        let base = self.builder.page.text.len();
        let (start, end) = (base + start, base + self.bytes.len());
        assert!(start <= end && end <= Builder::TEXT_BYTES_MAX, "a page is sealed before 4 GiB");
        self.builder.page.cells.push(Cell::Value { start: start as u32, end: end as u32 });
        Ok(())
    }

    /// Where the page's text would end with this row, in bytes.
    #[inline]
    #[must_use]
    pub fn text_end(&self) -> usize {
        self.builder.page.text.len() + self.bytes.len()
    }

    /// Closes the row.
    ///
    /// # Errors
    /// A value is not UTF-8. Which one, the caller finds out.
    #[inline]
    pub fn end(mut self, extent: Extent) -> Result<RowSpan, NotText> {
        let text = std::str::from_utf8(self.bytes).map_err(|_| NotText)?;
        if self.torn {
            return Err(NotText);
        }
        self.builder.page.text.push_str(text);
        let row = self.builder.end_row(self.first, extent);
        self.first = self.builder.begin_row();
        Ok(row)
    }
}

impl Drop for RawRow<'_> {
    fn drop(&mut self) {
        self.builder.page.cells.truncate(self.first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::Value;

    /// What becomes of a row of these values behind another one.
    fn row(values: &[&[u8]]) -> Result<Vec<String>, NotText> {
        let (mut builder, mut bytes) = (Builder::default(), b"what was here".to_vec());
        let mut write = |values: &[&[u8]], builder: &mut Builder| {
            let mut row = builder.raw_row(&mut bytes, values.len());
            for value in values {
                let written = row.value::<()>(|out| {
                    out.extend_from_slice(value);
                    Ok(())
                });
                assert_eq!(written, Ok(()));
            }
            row.null();
            row.end(Extent::Full)
        };
        let before = write(&[b"before"], &mut builder).unwrap();
        let taken = builder.bytes();
        let written = write(values, &mut builder);
        if written.is_err() {
            assert_eq!(builder.bytes(), taken, "no trace");
        }
        let after = write(&["später".as_bytes()], &mut builder).unwrap();
        let rows = builder.into_rows([before, after].into_iter().chain(written.ok()));
        assert_eq!(rows[0].value(0), Value::Text("before"));
        assert_eq!(rows[1].value(0), Value::Text("später"));
        let text = |index| match rows[2].value(index) {
            Value::Text(text) => text.to_owned(),
            other => panic!("{other:?}"),
        };
        written.map(|_| (0..values.len()).map(text).collect())
    }

    #[test]
    fn a_row_is_text_value_by_value_or_leaves_no_trace() {
        let good = ["é", "", "x", "", "ž", ""];
        assert_eq!(row(&good.map(str::as_bytes)), Ok(good.map(str::to_owned).to_vec()));
        for bad in [
            [&b"a\xFF"[..], b"", b""],
            [b"a", b"\xC3", b""],
            // Text as a whole, and torn between two values.
            [b"a\xC3", b"\xA9", b""],
            [b"a\xC3", b"", b"\xA9b"],
        ] {
            assert_eq!(row(&bad), Err(NotText), "{bad:?}");
        }
    }

    #[test]
    fn a_row_that_is_given_up_leaves_no_trace() {
        let (mut builder, mut bytes) = (Builder::default(), Vec::new());
        let mut row = builder.raw_row(&mut bytes, 2);
        row.null();
        assert_eq!(row.value(|_| Err("corrupt")), Err("corrupt"));
        drop(row);
        assert_eq!((builder.bytes(), builder.begin_row()), (0, 0));
    }
}
