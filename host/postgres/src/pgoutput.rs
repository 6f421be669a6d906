//! The messages of the output plugin `pgoutput`, protocol version 1, borrowed from the frame, see
//! <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>.
//!
//! Every message is checked to its last byte before any of it is used: one that is cut short, has
//! bytes left or has a kind we did not ask for is [`Malformed`], and no input panics. What the
//! messages mean for each other is not known here.

pub(crate) mod tuple;

use model::lsn::Lsn;
use model::relation::Identity;

use crate::value::hexadecimal;
use crate::wire::cursor::{Cursor, Malformed};
pub(crate) use tuple::{Old, Tuple, Value};

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    Begin {
        /// LSN of the commit record.
        commit_lsn: Lsn,
        /// Microseconds since 2000.
        committed_at_us: i64,
        xid: u32,
    },
    Commit {
        commit_lsn: Lsn,
        /// One past the commit record.
        end_lsn: Lsn,
    },
    Relation(Definition),
    /// A type that is not built in, before a relation that uses it. The catalog tells more.
    Type,
    Insert {
        relation: u32,
        new: Tuple<'a>,
    },
    Update {
        relation: u32,
        old: Option<Old<'a>>,
        new: Tuple<'a>,
    },
    Delete {
        relation: u32,
        old: Old<'a>,
    },
    Truncate {
        relations: Vec<u32>,
    },
    /// The transaction was replayed from another server.
    Origin,
    /// `pg_logical_emit_message`.
    Logical {
        /// Part of its transaction, or outside of every one.
        transactional: bool,
        /// Whose it is, in the server's encoding.
        prefix: &'a [u8],
        /// Any bytes.
        content: &'a [u8],
    },
}

/// A table as the stream describes it before its first row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) oid: u32,
    pub(crate) schema: String,
    pub(crate) table: String,
    pub(crate) identity: Identity,
    pub(crate) columns: Vec<ColumnDefinition>,
}

/// A published column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ColumnDefinition {
    pub(crate) name: String,
    pub(crate) type_oid: u32,
    pub(crate) type_modifier: i32,
    /// Part of the replica identity: the primary key by default, every column under `FULL`.
    pub(crate) identity: bool,
}

impl<'a> Message<'a> {
    /// Reads one message.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes, "pgoutput message");
        let tag = cursor.u8()?;
        let (message, rest) = match tag {
            b'B' => begin(cursor.named("Begin"))?,
            b'C' => commit(cursor.named("Commit"))?,
            b'R' => relation(cursor.named("Relation"))?,
            b'Y' => type_(cursor.named("Type"))?,
            b'I' => insert(cursor.named("Insert"))?,
            b'U' => update(cursor.named("Update"))?,
            b'D' => delete(cursor.named("Delete"))?,
            b'T' => truncate(cursor.named("Truncate"))?,
            b'O' => origin(cursor.named("Origin"))?,
            b'M' => logical(cursor.named("Message"))?,
            _ => return Err(cursor.bad(format!("unknown kind {:?}", char::from(tag)))),
        };
        rest.end()?;
        Ok(message)
    }
}

/// A message, and what is left behind it.
type Parsed<'a> = Result<(Message<'a>, Cursor<'a>), Malformed>;

fn begin(mut cursor: Cursor<'_>) -> Parsed<'_> {
    let commit_lsn = Lsn(cursor.u64()?);
    let committed_at_us = cursor.i64()?;
    let xid = cursor.u32()?;
    Ok((Message::Begin { commit_lsn, committed_at_us, xid }, cursor))
}

fn commit(mut cursor: Cursor<'_>) -> Parsed<'_> {
    // Flags: none are defined.
    cursor.u8()?;
    let commit_lsn = Lsn(cursor.u64()?);
    let end_lsn = Lsn(cursor.u64()?);
    // The time, as in Begin.
    cursor.i64()?;
    Ok((Message::Commit { commit_lsn, end_lsn }, cursor))
}

fn relation(mut cursor: Cursor<'_>) -> Parsed<'_> {
    let oid = cursor.u32()?;
    let schema = match name(&mut cursor)? {
        // How pgoutput writes it.
        empty if empty.is_empty() => "pg_catalog".to_owned(),
        schema => schema,
    };
    let table = name(&mut cursor)?;
    let identity = match cursor.u8()? {
        b'd' => Identity::Default,
        b'i' => Identity::Index,
        b'f' => Identity::Full,
        b'n' => Identity::Nothing,
        other => {
            return Err(cursor.bad(format!("unknown identity {:?}", char::from(other))));
        }
    };
    let columns = (0..cursor.u16()?)
        .map(|_| {
            Ok(ColumnDefinition {
                identity: cursor.u8()? & 1 != 0,
                name: name(&mut cursor)?,
                type_oid: cursor.u32()?,
                type_modifier: cursor.i32()?,
            })
        })
        .collect::<Result<_, _>>()?;
    let definition = Definition { oid, schema, table, identity, columns };
    Ok((Message::Relation(definition), cursor))
}

/// A name. In a database that keeps no encoding it may be no text, as a value may.
fn name(cursor: &mut Cursor<'_>) -> Result<String, Malformed> {
    let name = cursor.until_nul()?;
    Ok(std::str::from_utf8(name).map_or_else(|_| hexadecimal(name), str::to_owned))
}

fn type_(mut cursor: Cursor<'_>) -> Parsed<'_> {
    cursor.u32()?;
    cursor.until_nul()?;
    cursor.until_nul()?;
    Ok((Message::Type, cursor))
}

fn insert(mut cursor: Cursor<'_>) -> Parsed<'_> {
    let relation = cursor.u32()?;
    let tag = cursor.u8()?;
    let new = tuple::new(&mut cursor, tag)?;
    Ok((Message::Insert { relation, new }, cursor))
}

fn update(mut cursor: Cursor<'_>) -> Parsed<'_> {
    let relation = cursor.u32()?;
    let mut tag = cursor.u8()?;
    let mut old = None;
    if tag != b'N' {
        old = Some(tuple::old(&mut cursor, tag)?);
        tag = cursor.u8()?;
    }
    let new = tuple::new(&mut cursor, tag)?;
    Ok((Message::Update { relation, old, new }, cursor))
}

fn delete(mut cursor: Cursor<'_>) -> Parsed<'_> {
    let relation = cursor.u32()?;
    let tag = cursor.u8()?;
    let old = tuple::old(&mut cursor, tag)?;
    Ok((Message::Delete { relation, old }, cursor))
}

fn truncate(mut cursor: Cursor<'_>) -> Parsed<'_> {
    let count = cursor.u32()?;
    // CASCADE and RESTART IDENTITY: the tables are listed either way.
    cursor.u8()?;
    let relations = (0..count).map(|_| cursor.u32()).collect::<Result<_, _>>()?;
    Ok((Message::Truncate { relations }, cursor))
}

fn origin(mut cursor: Cursor<'_>) -> Parsed<'_> {
    cursor.u64()?;
    cursor.until_nul()?;
    Ok((Message::Origin, cursor))
}

fn logical(mut cursor: Cursor<'_>) -> Parsed<'_> {
    let transactional = cursor.u8()? & 1 != 0;
    cursor.u64()?;
    let prefix = cursor.until_nul()?;
    let content = cursor.counted()?;
    Ok((Message::Logical { transactional, prefix, content }, cursor))
}

#[cfg(test)]
pub(crate) mod tests;
