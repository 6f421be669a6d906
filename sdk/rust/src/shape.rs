//! The type of a column that a plugin sets.

use crate::bindings::types::{Data, Packed};

/// Which case of [`Data`] a column has. Texts are packed: two lists to hand over instead of one for
/// each row.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Shape {
    Bool,
    Int,
    Float,
    Text,
    Json,
    Bytes,
}

impl Shape {
    pub(crate) fn of(data: &Data) -> Self {
        match data {
            Data::Booleans(_) => Self::Bool,
            Data::Integers(_) => Self::Int,
            Data::Floats(_) => Self::Float,
            Data::Texts(_) | Data::PackedTexts(_) => Self::Text,
            Data::Json(_) | Data::PackedJson(_) => Self::Json,
            Data::Bytes(_) => Self::Bytes,
        }
    }

    /// As many entries as there are rows, for values to be put over; packed texts grow row by row.
    pub(crate) fn data(self, rows: usize) -> Data {
        let packed = || Packed { bytes: Vec::new(), ends: Vec::with_capacity(rows) };
        match self {
            Self::Bool => Data::Booleans(vec![false; rows]),
            Self::Int => Data::Integers(vec![0; rows]),
            Self::Float => Data::Floats(vec![0.0; rows]),
            Self::Text => Data::PackedTexts(packed()),
            Self::Json => Data::PackedJson(packed()),
            Self::Bytes => Data::Bytes(vec![Vec::new(); rows]),
        }
    }
}

/// Makes room for the text of `row`: rows before it that have none get an empty one, and what the
/// row had before is forgotten. The text is to be appended to the bytes; [`close`] ends it.
pub(crate) fn open(packed: &mut Packed, row: usize) -> &mut Vec<u8> {
    let Packed { bytes, ends } = packed;
    ends.truncate(row);
    let start = ends.last().map_or(0, |end| *end as usize);
    bytes.truncate(start);
    ends.resize(row, end_of(bytes));
    bytes
}

/// Ends the text that was begun.
pub(crate) fn close(packed: &mut Packed) {
    packed.ends.push(end_of(&packed.bytes));
}

/// Gives the rows that are left an empty text.
pub(crate) fn finish(packed: &mut Packed, rows: usize) {
    let end = end_of(&packed.bytes);
    packed.ends.resize(rows, end);
}

/// A guest has less memory than 32 bits can count.
fn end_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
