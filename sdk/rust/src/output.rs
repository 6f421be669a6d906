//! What a transform makes of rows.
//!
//! Builds the columns of a reply row by row. The order in which a plugin sets columns is nearly
//! always the same in every row, so each is looked for where the last row had it.

use crate::Error;
use crate::bindings::types::{Column, Data, Presence, Reply, Verdict};

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
        Self {
            rows,
            row: 0,
            next: 0,
            twins: false,
            reply,
        }
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
        self.reply
            .documents
            .extend(documents.into_iter().map(|json| (row, json.into())));
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
        debug_assert_eq!(
            self.reply.verdicts.len(),
            self.rows,
            "every row has a verdict"
        );
        self.reply
    }

    /// Ends the row with a verdict that has no columns.
    fn end(&mut self, verdict: Verdict) {
        self.reply.verdicts[self.row] = verdict;
        let row = self.row as u32;
        while self
            .reply
            .documents
            .last()
            .is_some_and(|(of, _)| *of == row)
        {
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
        for column in self
            .reply
            .columns
            .iter_mut()
            .filter(|column| column.name == name)
        {
            column.presence[self.row] = Presence::Unchanged;
        }
    }

    /// Where the column of this name and shape is. Rows that set it to values of different shapes
    /// make several of one name, so that what a row gets does not depend on its neighbours.
    fn place(&mut self, name: &str, shape: Shape) -> usize {
        let columns = &mut self.reply.columns;
        let found = columns
            .iter()
            .position(|set| Shape::of(&set.data) == shape && set.name == name);
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

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Bool,
    Int,
    Float,
    Text,
    Json,
    Bytes,
}

impl Shape {
    fn of(data: &Data) -> Self {
        match data {
            Data::Booleans(_) => Self::Bool,
            Data::Integers(_) => Self::Int,
            Data::Floats(_) => Self::Float,
            Data::Texts(_) => Self::Text,
            Data::Json(_) => Self::Json,
            Data::Bytes(_) => Self::Bytes,
        }
    }

    fn data(self, rows: usize) -> Data {
        match self {
            Self::Bool => Data::Booleans(vec![false; rows]),
            Self::Int => Data::Integers(vec![0; rows]),
            Self::Float => Data::Floats(vec![0.0; rows]),
            Self::Text => Data::Texts(vec![String::new(); rows]),
            Self::Json => Data::Json(vec![String::new(); rows]),
            Self::Bytes => Data::Bytes(vec![Vec::new(); rows]),
        }
    }
}
