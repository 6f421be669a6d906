//! Rows inside messages: their columns in place.

use crate::wire::cursor::{Cursor, Malformed};

/// A row: checked, with its columns read on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tuple<'a> {
    columns: u16,
    /// Exactly the columns, each well formed.
    bytes: Cursor<'a>,
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
        self.bytes.rest().len()
    }

    /// Its columns. Never an error once the tuple was parsed.
    pub(crate) fn values(&self) -> impl Iterator<Item = Result<Value<'a>, Malformed>> + use<'a> {
        let mut cursor = self.bytes;
        (0..self.columns).map(move |_| value(&mut cursor))
    }
}

#[inline(always)]
fn value<'a>(cursor: &mut Cursor<'a>) -> Result<Value<'a>, Malformed> {
    match cursor.u8()? {
        b'n' => Ok(Value::Null),
        b'u' => Ok(Value::Unchanged),
        b't' => Ok(Value::Text(cursor.counted()?)),
        // Binary is only sent to who asks for it.
        kind => Err(unknown(*cursor, kind)),
    }
}

#[cold]
#[inline(never)]
fn unknown(cursor: Cursor<'_>, kind: u8) -> Malformed {
    cursor.bad(format!("unknown kind of column {:?}", char::from(kind)))
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
    let start = *cursor;
    for _ in 0..columns {
        value(cursor)?;
    }
    let len = start.rest().len() - cursor.rest().len();
    let mut bytes = start;
    let bytes = Cursor::new(bytes.take(len)?, "row");
    Ok(Tuple { columns, bytes })
}
