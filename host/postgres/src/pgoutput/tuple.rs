//! Rows inside messages: their columns in place.

use crate::wire::cursor::{Cursor, Malformed};

/// A row: checked, with its columns read on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tuple<'a> {
    columns: u16,
    /// Exactly the columns, each well formed.
    bytes: &'a [u8],
}

/// What was sent of the old row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Old<'a> {
    /// The replica identity columns; the others are null without being null.
    Key(Tuple<'a>),
    /// All columns.
    Full(Tuple<'a>),
}

/// One column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Null,
    /// An out-of-line (TOAST) value that did not change and was not sent.
    Unchanged,
    /// The text form, in the client's encoding.
    Text(&'a [u8]),
}

impl<'a> Tuple<'a> {
    /// How many columns it has.
    pub(crate) fn len(&self) -> usize {
        usize::from(self.columns)
    }

    /// What it takes in the frame, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Its columns: as many as [`Tuple::len`] says.
    pub(crate) fn values(&self) -> Values<'a> {
        Values { left: self.columns, rest: self.bytes }
    }
}

/// The columns of a [`Tuple`].
#[derive(Clone, Debug)]
pub(crate) struct Values<'a> {
    left: u16,
    rest: &'a [u8],
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Value<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (value, rest) = split(self.rest)?;
        self.rest = rest;
        Some(value)
    }
}

/// The first column, and what is behind it. Every column passes here twice, once to be checked and
/// once to be read: nothing is made on the way but what is asked for.
#[inline(always)]
fn split(bytes: &[u8]) -> Option<(Value<'_>, &[u8])> {
    match bytes {
        [b't', a, b, c, d, rest @ ..] => {
            let len = i32::from_be_bytes([*a, *b, *c, *d]);
            let (text, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
            Some((Value::Text(text), rest))
        }
        [b'n', rest @ ..] => Some((Value::Null, rest)),
        [b'u', rest @ ..] => Some((Value::Unchanged, rest)),
        _ => None,
    }
}

/// Why there is no first column.
#[cold]
fn fault(mut cursor: Cursor<'_>) -> Malformed {
    let read = match cursor.u8() {
        Ok(b't') => cursor.counted().map(drop),
        // Binary is only sent to who asks for it.
        Ok(kind) => return cursor.bad(format!("unknown kind of column {:?}", char::from(kind))),
        Err(error) => Err(error),
    };
    read.err().unwrap_or_else(|| cursor.bad("no column"))
}

/// The tuple behind the tag of a new row.
pub(super) fn new<'a>(cursor: &mut Cursor<'a>, tag: u8) -> Result<Tuple<'a>, Malformed> {
    if tag != b'N' {
        return Err(cursor.bad(format!("{:?} where a new row is due", char::from(tag))));
    }
    tuple(cursor)
}

/// The tuple behind the tag of an old row.
pub(super) fn old<'a>(cursor: &mut Cursor<'a>, tag: u8) -> Result<Old<'a>, Malformed> {
    match tag {
        b'K' => tuple(cursor).map(Old::Key),
        b'O' => tuple(cursor).map(Old::Full),
        _ => Err(cursor.bad(format!("{:?} where an old row is due", char::from(tag)))),
    }
}

fn tuple<'a>(cursor: &mut Cursor<'a>) -> Result<Tuple<'a>, Malformed> {
    let columns = cursor.u16()?;
    let mut rest = cursor.rest();
    for _ in 0..columns {
        match split(rest) {
            Some((_, behind)) => rest = behind,
            None => {
                let len = cursor.rest().len() - rest.len();
                cursor.take(len)?;
                return Err(fault(*cursor));
            }
        }
    }
    let bytes = cursor.take(cursor.rest().len() - rest.len())?;
    Ok(Tuple { columns, bytes })
}
