//! A batch as it is looked at.
//!
//! Guarantees that every entry that a row can ask for is there: lengths, UTF-8 and the ends of
//! packed texts are checked once per batch, not per row. Copies nothing.

use std::cell::Cell;

use crate::Datum;
use crate::bindings::types::{Batch, Column, Data, Packed, Presence};
use crate::text::same;

/// A batch whose columns were found to have one entry per row.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub(crate) batch: &'a Batch,
    pub(crate) new: Side<'a>,
    pub(crate) old: Side<'a>,
    pub(crate) metadata: Side<'a>,
}

/// The columns of one part of a batch.
#[derive(Debug)]
pub(crate) struct Side<'a> {
    columns: Vec<Seen<'a>>,
    /// The column that is likely to be asked for next: a plugin asks in the same order for every
    /// row.
    next: Cell<usize>,
}

/// One column.
#[derive(Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) column: &'a Column,
    values: Values<'a>,
}

#[derive(Debug)]
enum Values<'a> {
    Booleans(&'a [bool]),
    Integers(&'a [i64]),
    Floats(&'a [f64]),
    Texts(&'a [String]),
    Json(&'a [String]),
    Bytes(&'a [Vec<u8>]),
    PackedTexts(Texts<'a>),
    PackedJson(Texts<'a>),
}

/// Packed texts whose ends were found to be in order and between characters.
#[derive(Clone, Copy, Debug)]
struct Texts<'a> {
    text: &'a str,
    ends: &'a [u32],
}

impl<'a> View<'a> {
    /// # Errors
    /// What the host did wrong.
    pub(crate) fn new(batch: &'a Batch) -> Result<Self, String> {
        let rows = batch.actions.len();
        if batch.positions.len() != rows {
            return Err(format!("{} positions for {rows} rows", batch.positions.len()));
        }
        Ok(Self {
            batch,
            new: Side::new(&batch.columns, rows)?,
            old: Side::new(&batch.old, rows)?,
            metadata: Side::new(&batch.metadata, rows)?,
        })
    }
}

impl<'a> Side<'a> {
    fn new(columns: &'a [Column], rows: usize) -> Result<Self, String> {
        let columns = columns.iter().map(|column| {
            let seen = Seen::new(column, rows);
            seen.map_err(|what| format!("column {} has {what}", column.name))
        });
        Ok(Self { columns: columns.collect::<Result<_, _>>()?, next: Cell::new(0) })
    }

    pub(crate) fn columns(&self) -> &[Seen<'a>] {
        &self.columns
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Seen<'a>> {
        let likely = self.next.get();
        let at = match self.columns.get(likely) {
            Some(seen) if same(&seen.column.name, name) => likely,
            _ => self.columns.iter().position(|seen| same(&seen.column.name, name))?,
        };
        self.next.set(if at + 1 == self.columns.len() { 0 } else { at + 1 });
        self.columns.get(at)
    }
}

impl<'a> Seen<'a> {
    fn new(column: &'a Column, rows: usize) -> Result<Self, String> {
        let (values, length) = match &column.data {
            Data::Booleans(values) => (Values::Booleans(values), values.len()),
            Data::Integers(values) => (Values::Integers(values), values.len()),
            Data::Floats(values) => (Values::Floats(values), values.len()),
            Data::Texts(values) => (Values::Texts(values), values.len()),
            Data::Json(values) => (Values::Json(values), values.len()),
            Data::Bytes(values) => (Values::Bytes(values), values.len()),
            Data::PackedTexts(packed) => {
                (Values::PackedTexts(Texts::new(packed)?), packed.ends.len())
            }
            Data::PackedJson(packed) => {
                (Values::PackedJson(Texts::new(packed)?), packed.ends.len())
            }
        };
        if length != rows || column.presence.len() != rows {
            let presence = column.presence.len();
            return Err(format!("{length} values and {presence} presences for {rows} rows"));
        }
        Ok(Self { column, values })
    }

    pub(crate) fn presence(&self, row: usize) -> Presence {
        self.column.presence[row]
    }

    /// The entry of this row, whether it means anything or not.
    pub(crate) fn datum(&self, row: usize) -> Datum<'a> {
        match &self.values {
            Values::Booleans(values) => Datum::Bool(values[row]),
            Values::Integers(values) => Datum::Int(values[row]),
            Values::Floats(values) => Datum::Float(values[row]),
            Values::Texts(values) => Datum::Text(&values[row]),
            Values::Json(values) => Datum::Json(&values[row]),
            Values::Bytes(values) => Datum::Bytes(&values[row]),
            Values::PackedTexts(texts) => Datum::Text(texts.get(row)),
            Values::PackedJson(texts) => Datum::Json(texts.get(row)),
        }
    }
}

impl<'a> Texts<'a> {
    fn new(packed: &'a Packed) -> Result<Self, String> {
        let Packed { bytes, ends } = packed;
        let text = std::str::from_utf8(bytes).map_err(|_| "texts that are no UTF-8".to_owned())?;
        let mut start = 0;
        for end in ends {
            let end = *end as usize;
            if end < start || !text.is_char_boundary(end) {
                return Err(format!("a text from {start} to {end} of {} bytes", text.len()));
            }
            start = end;
        }
        Ok(Self { text, ends })
    }

    fn get(self, row: usize) -> &'a str {
        let start = if row == 0 { 0 } else { self.ends[row - 1] as usize };
        &self.text[start..self.ends[row] as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::types::{Action, Position};

    fn batch(data: Data, presence: usize) -> Batch {
        let column = Column {
            name: "a".to_owned(),
            type_name: "text".to_owned(),
            key: false,
            presence: vec![Presence::Value; presence],
            data,
        };
        Batch {
            schema: "public".to_owned(),
            table: "t".to_owned(),
            actions: vec![Action::Insert; 2],
            positions: vec![Position { commit_lsn: 1, ordinal: 0 }; 2],
            columns: vec![column],
            old: Vec::new(),
            metadata: Vec::new(),
        }
    }

    #[test]
    fn packed_texts_are_slices_of_one() {
        let packed = Packed { bytes: "žé".into(), ends: vec![2, 4] };
        let batch = batch(Data::PackedTexts(packed), 2);
        let view = View::new(&batch).unwrap();
        let seen = view.new.find("a").unwrap();
        assert_eq!([seen.datum(0), seen.datum(1)], [Datum::Text("ž"), Datum::Text("é")]);
        assert!(view.new.find("b").is_none() && view.old.find("a").is_none());
    }

    #[test]
    fn what_a_row_could_not_be_read_from_is_refused_once() {
        let packed = |bytes: &[u8], ends: &[u32]| {
            Data::PackedJson(Packed { bytes: bytes.to_vec(), ends: ends.to_vec() })
        };
        for (data, presence, text) in [
            (packed("ž".as_bytes(), &[1, 2]), 2, "a text from 0 to 1 of 2 bytes"),
            (packed(b"ab", &[2, 1]), 2, "a text from 2 to 1"),
            (packed(b"ab", &[1, 3]), 2, "a text from 1 to 3"),
            (packed(b"a\xff", &[1, 2]), 2, "no UTF-8"),
            (packed(b"ab", &[2]), 2, "1 values and 2 presences for 2 rows"),
            (Data::Booleans(vec![true; 2]), 1, "2 values and 1 presences for 2 rows"),
            (Data::Bytes(Vec::new()), 2, "0 values"),
        ] {
            let error = View::new(&batch(data, presence)).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }
}
