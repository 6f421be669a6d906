//! What the catalog answers, as the head of an input. A hostile catalog may say anything.
//!
//! A count of types; for each its id, what stands behind it (0 nothing, 1 a domain's base, 2 an
//! array's element), that one's id, the delimiter, and its name. A count of columns of primary keys;
//! for each the table's id and the column's name. Counts and the lengths of names have one byte, ids
//! four. It ends early where the input does. No table is a partition.

use crate::relation::Facts;
use crate::value::form::{Shape, TypeFact};
use crate::wire::cursor::{Cursor, Malformed};

/// Reads the head; the rest of the input is behind it.
pub(super) fn read<'a>(cursor: &mut Cursor<'a>) -> Facts {
    let mut facts = Facts::default();
    // As far as it goes: half a head is one too.
    drop(fill(cursor, &mut facts));
    facts
}

fn fill(cursor: &mut Cursor<'_>, facts: &mut Facts) -> Result<(), Malformed> {
    for _ in 0..cursor.u8()? {
        let oid = cursor.u32()?;
        let (shape, other) = (cursor.u8()?, cursor.u32()?);
        let shape = match shape % 3 {
            0 => Shape::Other,
            1 => Shape::Domain { base: other },
            _ => Shape::Array { element: other },
        };
        let delimiter = cursor.u8()?;
        let fact = TypeFact { name: name(cursor)?, shape, delimiter };
        facts.types.insert(oid, fact);
    }
    for _ in 0..cursor.u8()? {
        let table = cursor.u32()?;
        facts.primary_keys.entry(table).or_default().insert(name(cursor)?);
    }
    Ok(())
}

fn name(cursor: &mut Cursor<'_>) -> Result<String, Malformed> {
    let len = usize::from(cursor.u8()?);
    Ok(String::from_utf8_lossy(cursor.take(len)?).into_owned())
}
