//! What a transform makes of rows.
//!
//! Builds the columns of a reply row by row. The order in which a plugin sets columns is nearly
//! always the same in every row, so each is looked for where the last row had it.

use crate::Error;
use crate::bindings::types::{Column, Data, Presence, Reply, Verdict};
use crate::shape::Shape;

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

impl Output {
    pub(crate) fn new(rows: usize) -> Self {
        let reply = Reply {
            verdicts: Vec::with_capacity(rows),
            columns: Vec::new(),
            documents: Vec::new(),
            errors: Vec::new(),
        };
        Self { rows, row: 0, next: 0, twins: false, reply }
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
    pub fn set_text(&mut self, column: &str, value: impl Into<String>) {
        let row = self.row;
        if let Data::Texts(values) = self.column(column, Shape::Text) {
            values[row] = value.into();
        }
    }

    /// Sets or adds a JSON column. The text must be JSON, or the engine fails the row.
    pub fn set_json(&mut self, column: &str, value: impl Into<String>) {
        let row = self.row;
        if let Data::Json(values) = self.column(column, Shape::Json) {
            values[row] = value.into();
        }
    }

    /// Sets or adds a column of bytes.
    pub fn set_bytes(&mut self, column: &str, value: impl Into<Vec<u8>>) {
        let row = self.row;
        if let Data::Bytes(values) = self.column(column, Shape::Bytes) {
            values[row] = value.into();
        }
    }

    /// Sets a column to null, or adds it as null.
    pub fn set_null(&mut self, column: &str) {
        self.forget_column(column);
        let shape = self.reply.columns.iter().find(|set| set.name == column);
        let shape = shape.map_or(Shape::Text, |set| Shape::of(&set.data));
        let at = self.place(column, shape);
        self.reply.columns[at].presence[self.row] = Presence::Null;
    }

    /// Sends this JSON document in the row's place. What was set is forgotten.
    pub fn replace(&mut self, json: impl Into<String>) {
        self.end(Verdict::Replace);
        self.reply.documents.push((self.row as u32, json.into()));
    }

    /// Sends these JSON documents in the row's place, in this order. None is the same as
    /// [`Output::drop_row`]. What was set is forgotten.
    pub fn many<T: Into<String>>(&mut self, documents: impl IntoIterator<Item = T>) {
        self.end(Verdict::Many);
        let before = self.reply.documents.len();
        let row = self.row as u32;
        self.reply.documents.extend(documents.into_iter().map(|json| (row, json.into())));
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

    pub(crate) fn begin_row(&mut self, row: usize) {
        debug_assert_eq!(self.reply.verdicts.len(), row, "rows come in order");
        self.row = row;
        self.next = 0;
        self.reply.verdicts.push(Verdict::Keep);
    }

    pub(crate) fn fail(&mut self, error: Error) {
        self.end(Verdict::Error);
        self.reply.errors.push((self.row as u32, error.into_text()));
    }

    pub(crate) fn finish(self) -> Reply {
        debug_assert_eq!(self.reply.verdicts.len(), self.rows, "every row has a verdict");
        self.reply
    }

    /// Ends the row with a verdict that has no columns.
    fn end(&mut self, verdict: Verdict) {
        self.reply.verdicts[self.row] = verdict;
        let row = self.row as u32;
        while self.reply.documents.last().is_some_and(|(of, _)| *of == row) {
            self.reply.documents.pop();
        }
        for column in &mut self.reply.columns {
            column.presence[self.row] = Presence::Unchanged;
        }
    }

    /// The data of the column, of this shape, with this row's value present.
    fn column(&mut self, name: &str, shape: Shape) -> &mut Data {
        let likely = self.reply.columns.get(self.next);
        let found = likely.is_some_and(|set| Shape::of(&set.data) == shape && set.name == name);
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

    /// A later value of a column takes the place of an earlier one, whatever its shape; and setting
    /// one takes a dropped row back.
    fn forget_column(&mut self, name: &str) {
        if self.reply.verdicts[self.row] != Verdict::Keep {
            self.end(Verdict::Keep);
        }
        for column in self.reply.columns.iter_mut().filter(|column| column.name == name) {
            column.presence[self.row] = Presence::Unchanged;
        }
    }

    /// Where the column of this name and shape is. Rows that set it to values of different shapes
    /// make several of one name, so that what a row gets does not depend on its neighbours.
    fn place(&mut self, name: &str, shape: Shape) -> usize {
        let columns = &mut self.reply.columns;
        let found =
            columns.iter().position(|set| Shape::of(&set.data) == shape && set.name == name);
        found.unwrap_or_else(|| {
            self.twins |= columns.iter().any(|set| set.name == name);
            columns.push(Column {
                name: name.to_owned(),
                type_name: String::new(),
                presence: vec![Presence::Unchanged; self.rows],
                data: shape.data(self.rows),
            });
            columns.len() - 1
        })
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
        let reply = out.finish();
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
        let reply = out.finish();
        for row in 0..2 {
            assert_eq!(set(&reply, row), [("a", Presence::Value)]);
            assert_eq!(reply.columns[1].presence[row], Presence::Value, "the integer");
        }
        assert_eq!(set(&reply, 2), [("a", Presence::Null)]);
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
        let reply = out.finish();
        let verdicts =
            [Verdict::Many, Verdict::Keep, Verdict::Evict, Verdict::Drop, Verdict::Error];
        assert_eq!(reply.verdicts, verdicts);
        assert_eq!(reply.documents, [(0, "2".to_owned()), (0, "3".to_owned())]);
        assert_eq!(reply.errors, [(4, "no".to_owned())]);
        let columns: Vec<_> = (0..5).map(|row| set(&reply, row).len()).collect();
        assert_eq!(columns, [0, 1, 0, 0, 0]);
    }
}
