//! What a plugin makes of rows.
//!
//! Builds the columns of a reply row by row. The order in which a plugin sets columns is nearly
//! always the same in every row, so each is looked for where the last row had it.

use serde::Serialize;

use crate::bindings::types::{self, Data, Document, NewColumn, Presence, Reply, Verdict};
use crate::shape::{self, Shape};
use crate::text::same;
use crate::{Datum, Error, Value, error};

/// What becomes of the row at hand. Untouched, it goes on as it is.
#[derive(Debug)]
pub struct Output {
    rows: usize,
    row: usize,
    /// The column that the next one set is likely to be.
    next: usize,
    /// Whether some name has columns of several shapes.
    twins: bool,
    reply: Reply,
}

/// What becomes of a document at a destination that holds state, such as a search index. One that
/// holds a log, such as a webhook, is sent it whatever this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// As the row: it is written, or removed if the row was deleted or evicted.
    Usual,
    /// It is written, also for a row that was deleted.
    Write,
    /// Its fields are set in the document of that `id`, also for a row that was deleted. Where there
    /// is none, nothing happens: it is another row's to make.
    Complete,
    /// The document of that `id` is removed.
    Remove,
}

impl From<Effect> for types::Effect {
    fn from(effect: Effect) -> Self {
        match effect {
            Effect::Usual => Self::Usual,
            Effect::Write => Self::Write,
            Effect::Complete => Self::Complete,
            Effect::Remove => Self::Remove,
        }
    }
}

impl From<types::Effect> for Effect {
    fn from(effect: types::Effect) -> Self {
        match effect {
            types::Effect::Usual => Self::Usual,
            types::Effect::Write => Self::Write,
            types::Effect::Complete => Self::Complete,
            types::Effect::Remove => Self::Remove,
        }
    }
}

impl Output {
    pub(crate) fn new(rows: usize) -> Self {
        Self { rows, row: 0, next: 0, twins: false, reply: empty(rows) }
    }

    /// Sets or adds a boolean column.
    pub fn set_bool(&mut self, column: &str, value: bool) {
        let row = self.row;
        if let Data::Booleans(values) = self.column(column, Shape::Bool) {
            values[row] = value;
        }
    }

    /// Sets or adds a column of whole numbers.
    pub fn set_int(&mut self, column: &str, value: i64) {
        let row = self.row;
        if let Data::Integers(values) = self.column(column, Shape::Int) {
            values[row] = value;
        }
    }

    /// Sets or adds a float column. In JSON, `NaN` and the infinities become texts of these names.
    pub fn set_float(&mut self, column: &str, value: f64) {
        let row = self.row;
        if let Data::Floats(values) = self.column(column, Shape::Float) {
            values[row] = value;
        }
    }

    /// Sets or adds a text column.
    pub fn set_text(&mut self, column: &str, value: impl AsRef<str>) {
        let row = self.row;
        if let Data::PackedTexts(packed) = self.column(column, Shape::Text) {
            shape::open(packed, row).extend_from_slice(value.as_ref().as_bytes());
            shape::close(packed);
        }
    }

    /// Sets or adds a JSON column. The text must be JSON, or the engine fails the row.
    pub fn set_json(&mut self, column: &str, value: impl AsRef<str>) {
        let row = self.row;
        if let Data::PackedJson(packed) = self.column(column, Shape::Json) {
            shape::open(packed, row).extend_from_slice(value.as_ref().as_bytes());
            shape::close(packed);
        }
    }

    /// Sets or adds a JSON column, written from a value.
    ///
    /// # Errors
    /// If the value cannot be written as JSON, such as a map whose keys are no texts.
    pub fn set_json_of(&mut self, column: &str, value: &impl Serialize) -> Result<(), Error> {
        let row = self.row;
        if let Data::PackedJson(packed) = self.column(column, Shape::Json) {
            let written = serde_json::to_writer(shape::open(packed, row), value);
            shape::close(packed);
            written?;
        }
        Ok(())
    }

    /// Sets or adds a column of bytes.
    pub fn set_bytes(&mut self, column: &str, value: impl Into<Vec<u8>>) {
        let row = self.row;
        if let Data::Bytes(values) = self.column(column, Shape::Bytes) {
            values[row] = value.into();
        }
    }

    /// Sets or adds a column of the type of the value.
    pub fn set(&mut self, column: &str, value: Datum<'_>) {
        match value {
            Datum::Bool(value) => self.set_bool(column, value),
            Datum::Int(value) => self.set_int(column, value),
            Datum::Float(value) => self.set_float(column, value),
            Datum::Text(value) => self.set_text(column, value),
            Datum::Json(value) => self.set_json(column, value),
            Datum::Bytes(value) => self.set_bytes(column, value),
        }
    }

    /// Sets or adds a column to what another has; to nothing, if its value was not sent.
    pub fn copy(&mut self, column: &str, value: Value<Datum<'_>>) {
        match value {
            Value::Known(value) => self.set(column, value),
            Value::Null => self.set_null(column),
            Value::Unchanged => {}
        }
    }

    /// Sets a column to null, or adds it as null.
    pub fn set_null(&mut self, column: &str) {
        self.mark(column, Presence::Null);
    }

    /// Takes one of the row's own columns away, or one that was set. A table that has no such
    /// column loses nothing. For columns that no row of a table is to have, see
    /// [`Transform::only`](crate::Transform::only).
    pub fn remove(&mut self, column: &str) {
        self.mark(column, Presence::Absent);
    }

    /// Sends this JSON document in the row's place. What was set is forgotten.
    pub fn replace(&mut self, json: impl Into<String>) {
        self.end(Verdict::Replace);
        self.document(Effect::Usual, json.into());
    }

    /// Sends this JSON document in the row's place, and says what becomes of it at a destination
    /// that holds state. Called again for the same row, it sends one more.
    pub fn send(&mut self, effect: Effect, json: impl Into<String>) {
        match self.reply.verdicts[self.row] {
            Verdict::Replace | Verdict::Many => self.reply.verdicts[self.row] = Verdict::Many,
            _ => self.end(Verdict::Replace),
        }
        self.document(effect, json.into());
    }

    /// Sends these JSON documents in the row's place, in this order. None is the same as
    /// [`Output::drop_row`]. What was set is forgotten.
    pub fn many<T: Into<String>>(&mut self, documents: impl IntoIterator<Item = T>) {
        self.end(Verdict::Many);
        let before = self.reply.documents.len();
        for json in documents {
            self.document(Effect::Usual, json.into());
        }
        if self.reply.documents.len() == before {
            self.end(Verdict::Drop);
        }
    }

    /// Sends nothing for the row. What was set is forgotten.
    pub fn drop_row(&mut self) {
        self.end(Verdict::Drop);
    }

    /// The row is outside the set: a destination that holds state removes its document. What was
    /// set is forgotten.
    pub fn evict(&mut self) {
        self.end(Verdict::Evict);
    }

    /// The row fails, as if the plugin had returned this error. What was set is forgotten.
    pub fn fail(&mut self, error: Error) {
        self.end(Verdict::Error);
        self.reply.errors.push(error.of_row(self.row));
    }

    pub(crate) fn begin_row(&mut self, row: usize) {
        debug_assert_eq!(self.reply.verdicts.len(), row, "rows come in order");
        self.row = row;
        self.next = 0;
        self.reply.verdicts.push(Verdict::Keep);
    }

    pub(crate) fn finish(mut self, only: Option<Vec<String>>) -> Reply {
        debug_assert_eq!(self.reply.verdicts.len(), self.rows, "every row has a verdict");
        for column in &mut self.reply.columns {
            if let Data::PackedTexts(packed) | Data::PackedJson(packed) = &mut column.data {
                shape::finish(packed, self.rows);
            }
        }
        Reply { only, ..self.reply }
    }

    fn document(&mut self, effect: Effect, json: String) {
        let row = error::index(self.row);
        self.reply.documents.push(Document { row, effect: effect.into(), json });
    }

    /// Ends the row with a verdict that has no columns.
    fn end(&mut self, verdict: Verdict) {
        self.reply.verdicts[self.row] = verdict;
        let row = error::index(self.row);
        while self.reply.documents.last().is_some_and(|document| document.row == row) {
            self.reply.documents.pop();
        }
        while self.reply.errors.last().is_some_and(|error| error.row == row) {
            self.reply.errors.pop();
        }
        for column in &mut self.reply.columns {
            column.presence[self.row] = Presence::Unchanged;
        }
    }

    /// The data of the column, of this shape, with this row's value present.
    fn column(&mut self, name: &str, shape: Shape) -> &mut Data {
        let likely = self.reply.columns.get(self.next);
        let found =
            likely.is_some_and(|set| Shape::of(&set.data) == shape && same(&set.name, name));
        if self.twins || !found {
            self.forget_column(name);
            self.next = self.place(name, shape);
        } else if self.reply.verdicts[self.row] != Verdict::Keep {
            self.end(Verdict::Keep);
        }
        let column = &mut self.reply.columns[self.next];
        self.next += 1;
        column.presence[self.row] = Presence::Value;
        &mut column.data
    }

    /// Says of a column what needs no data.
    fn mark(&mut self, name: &str, presence: Presence) {
        let likely = self.reply.columns.get(self.next).is_some_and(|set| same(&set.name, name));
        let at = if likely && !self.twins && self.reply.verdicts[self.row] == Verdict::Keep {
            self.next
        } else {
            self.forget_column(name);
            let known = self.reply.columns.iter().position(|set| same(&set.name, name));
            // Packed texts are the shape of which a row without a value takes least.
            known.unwrap_or_else(|| self.place(name, Shape::Text))
        };
        self.next = at + 1;
        self.reply.columns[at].presence[self.row] = presence;
    }

    /// A later value of a column takes the place of an earlier one, whatever its shape; and setting
    /// one takes a dropped row back.
    fn forget_column(&mut self, name: &str) {
        if self.reply.verdicts[self.row] != Verdict::Keep {
            self.end(Verdict::Keep);
        }
        for column in self.reply.columns.iter_mut().filter(|column| same(&column.name, name)) {
            column.presence[self.row] = Presence::Unchanged;
        }
    }

    /// Where the column of this name and shape is. Rows that set it to values of different shapes
    /// make several of one name, so that what a row gets does not depend on its neighbours.
    fn place(&mut self, name: &str, shape: Shape) -> usize {
        let columns = &mut self.reply.columns;
        let found =
            columns.iter().position(|set| Shape::of(&set.data) == shape && same(&set.name, name));
        found.unwrap_or_else(|| {
            self.twins |= columns.iter().any(|set| same(&set.name, name));
            columns.push(NewColumn {
                name: name.to_owned(),
                presence: vec![Presence::Unchanged; self.rows],
                data: shape.data(self.rows),
            });
            columns.len() - 1
        })
    }
}

/// A reply without anything in it yet.
pub(crate) fn empty(rows: usize) -> Reply {
    Reply {
        verdicts: Vec::with_capacity(rows),
        columns: Vec::new(),
        only: None,
        documents: Vec::new(),
        errors: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Per row, the columns that it has.
    fn set(reply: &Reply, row: usize) -> Vec<(&str, Presence)> {
        let present = reply.columns.iter().filter(|set| set.presence[row] != Presence::Unchanged);
        present.map(|set| (set.name.as_str(), set.presence[row])).collect()
    }

    #[test]
    fn columns_are_shared_by_rows_and_left_alone_in_the_others() {
        let mut out = Output::new(3);
        for row in 0..3 {
            out.begin_row(row);
            if row != 1 {
                out.set_bool("a", row == 0);
                out.set_text("b", "text");
            }
        }
        let reply = out.finish(None);
        assert_eq!(reply.columns.len(), 2);
        assert!(matches!(&reply.columns[0].data, Data::Booleans(values)
            if *values == [true, false, false]));
        assert_eq!(set(&reply, 1), []);
        assert_eq!(set(&reply, 2), [("a", Presence::Value), ("b", Presence::Value)]);
    }

    #[test]
    fn the_last_value_of_a_column_holds_whatever_its_type() {
        let mut out = Output::new(3);
        for row in 0..3 {
            out.begin_row(row);
            out.set_bool("a", true);
            out.set_int("a", 1);
            if row == 2 {
                out.set_null("a");
            }
        }
        let reply = out.finish(None);
        for row in 0..2 {
            assert_eq!(set(&reply, row), [("a", Presence::Value)]);
            assert_eq!(reply.columns[1].presence[row], Presence::Value, "the integer");
        }
        assert_eq!(set(&reply, 2), [("a", Presence::Null)]);
    }

    #[test]
    fn documents_are_sent_each_with_its_effect() {
        let mut out = Output::new(2);
        out.begin_row(0);
        out.set_bool("a", true);
        out.send(Effect::Complete, "1");
        out.begin_row(1);
        out.drop_row();
        out.send(Effect::Remove, "2");
        out.send(Effect::Write, "3");
        let reply = out.finish(None);
        assert_eq!(reply.verdicts, [Verdict::Replace, Verdict::Many]);
        let sent = reply.documents.iter().map(|of| (of.row, of.effect, of.json.as_str()));
        let (complete, remove, write) =
            (types::Effect::Complete, types::Effect::Remove, types::Effect::Write);
        assert_eq!(
            sent.collect::<Vec<_>>(),
            [(0, complete, "1"), (1, remove, "2"), (1, write, "3")]
        );
    }

    #[test]
    fn the_last_verdict_holds() {
        let mut out = Output::new(5);
        out.begin_row(0);
        out.set_bool("a", true);
        out.replace("1");
        out.many(["2", "3"]);
        out.begin_row(1);
        out.replace("4");
        out.set_bool("a", true);
        out.begin_row(2);
        out.set_bool("a", true);
        out.evict();
        out.begin_row(3);
        out.many(Vec::<String>::new());
        out.begin_row(4);
        out.set_bool("a", true);
        out.replace("5");
        out.fail(Error::new("no"));
        let reply = out.finish(None);
        let verdicts =
            [Verdict::Many, Verdict::Keep, Verdict::Evict, Verdict::Drop, Verdict::Error];
        assert_eq!(reply.verdicts, verdicts);
        let documents = reply.documents.iter().map(|of| (of.row, of.json.as_str()));
        assert_eq!(documents.collect::<Vec<_>>(), [(0, "2"), (0, "3")]);
        let errors = reply.errors.iter().map(|of| (of.row, of.message.as_str()));
        assert_eq!(errors.collect::<Vec<_>>(), [(4, "no")]);
        let columns: Vec<_> = (0..5).map(|row| set(&reply, row).len()).collect();
        assert_eq!(columns, [0, 1, 0, 0, 0]);
    }
    #[test]
    fn texts_are_packed_whatever_rows_set_them_and_how_often() {
        let mut out = Output::new(6);
        for row in 0..6 {
            out.begin_row(row);
            match row {
                1 => out.set_text("a", "one"),
                3 => {
                    out.set_text("a", "a first thought");
                    out.set_text("a", "");
                    out.set_text("a", "drei");
                }
                4 => {
                    out.set_text("a", "forgotten");
                    out.drop_row();
                }
                5 => out.remove("a"),
                _ => {}
            }
        }
        let reply = out.finish(Some(vec!["b".to_owned()]));
        let Data::PackedTexts(packed) = &reply.columns[0].data else { panic!("{reply:?}") };
        assert_eq!(packed.ends, [0, 3, 3, 7, 16, 16]);
        assert_eq!(packed.bytes, b"onedreiforgotten");
        let presence: Vec<_> = (0..6).map(|row| reply.columns[0].presence[row]).collect();
        use Presence::{Absent, Unchanged, Value};
        assert_eq!(presence, [Unchanged, Value, Unchanged, Value, Unchanged, Absent]);
        assert_eq!(reply.only.unwrap(), ["b"]);
    }

    #[test]
    fn json_is_written_where_it_goes() {
        let mut out = Output::new(2);
        out.begin_row(0);
        out.set_json_of("a", &["x"]).unwrap();
        out.begin_row(1);
        let unwritable = std::collections::BTreeMap::from([((1, 2), 3)]);
        assert!(out.set_json_of("a", &unwritable).is_err());
        out.set_json("a", "2");
        let reply = out.finish(None);
        let Data::PackedJson(packed) = &reply.columns[0].data else { panic!("{reply:?}") };
        assert_eq!(
            (packed.bytes.as_slice(), packed.ends.as_slice()),
            (&br#"["x"]2"#[..], &[5, 6][..])
        );
    }
}
