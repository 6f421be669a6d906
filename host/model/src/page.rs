//! Rows in bulk: one text buffer and one list of cells for all rows of a batch.
//!
//! A row is a window onto its page, so decoding allocates nothing per row, and cloning a row is one
//! reference count. A retained row pins its page: what waits for long is encoded and copied out.

mod raw;

use std::sync::Arc;

pub use raw::{NotText, RawRow};

use crate::change::{Change, Operation, Transaction};
use crate::position::Position;
use crate::relation::Relation;

/// What stands in one column of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// SQL null.
    Null,
    /// Canonical text (see [`crate::relation::Kind`]): bytes `start..end` of the page's text.
    Value {
        /// First byte.
        start: u32,
        /// One past the last byte.
        end: u32,
    },
    /// Not sent: an out-of-line (TOAST) value that the update did not touch.
    Unchanged,
}

/// One column's value, borrowed from its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// SQL null.
    Null,
    /// Canonical text.
    Text(&'a str),
    /// Not sent; never to be read as null.
    Unchanged,
}

/// How much of a row is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Every column.
    Full,
    /// Only the key columns; the rest are [`Cell::Null`] without meaning null.
    Key,
}

/// The storage of many rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    text: String,
    cells: Vec<Cell>,
}

/// One row: a window onto a [`Page`].
#[derive(Clone, Debug)]
pub struct Row {
    page: Arc<Page>,
    first: usize,
    len: usize,
    extent: Extent,
}

impl Row {
    /// How much of the row is known.
    #[must_use]
    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// The value in column `index`; [`Value::Unchanged`] for a column the row does not have.
    #[must_use]
    pub fn value(&self, index: usize) -> Value<'_> {
        self.cells().get(index).map_or(Value::Unchanged, |cell| self.page.value(*cell))
    }

    /// How many columns it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The values in order. Behind the last one each is [`Value::Unchanged`].
    pub(crate) fn values(&self) -> impl Iterator<Item = Value<'_>> {
        let mut cells = self.cells().iter();
        std::iter::repeat_with(move || {
            cells.next().map_or(Value::Unchanged, |cell| self.page.value(*cell))
        })
    }

    /// Which columns up to `columns` have a value that was not sent.
    pub(crate) fn unsent(&self, columns: usize) -> impl Iterator<Item = usize> + '_ {
        let cells = self.cells();
        let unsent = |index: &usize| matches!(cells.get(*index), None | Some(Cell::Unchanged));
        (0..columns).filter(unsent)
    }

    fn cells(&self) -> &[Cell] {
        self.page.cells.get(self.first..self.first + self.len).unwrap_or_default()
    }
}

/// What a page is given room for beforehand, at most, in text, cells and changes each.
const ROOM_BYTES_MAX: usize = 512 * 1024;
impl Row {
    /// A copy of the row with `columns` columns, in a page of its own, in which each pair of
    /// `taken` (a column here, a column of `other`) has the value of `other`.
    pub(crate) fn completed(&self, columns: usize, other: &Self, taken: &[(usize, usize)]) -> Self {
        let mut page = Page::default();
        for column in 0..columns {
            let from = taken.iter().find(|(here, _)| *here == column);
            let value = from.map_or_else(|| self.value(column), |(_, there)| other.value(*there));
            page.push(value);
        }
        Self { page: Arc::new(page), first: 0, len: columns, extent: self.extent }
    }

    /// What its values take in memory, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let text = |index| if let Value::Text(text) = self.value(index) { text.len() } else { 0 };
        (0..self.len).map(text).sum::<usize>() + self.len * size_of::<Cell>()
    }
}

impl Page {
    #[inline(always)]
    fn value(&self, cell: Cell) -> Value<'_> {
        match cell {
            Cell::Null => Value::Null,
            Cell::Value { start, end } => {
                let text = self.text.get(start as usize..end as usize);
                text.map_or(Value::Unchanged, Value::Text)
            }
            Cell::Unchanged => Value::Unchanged,
        }
    }

    /// Appends a value whose text is canonical already. What does not fit is left unsaid, which no
    /// caller can bring about: a row of Postgres is below 2 GiB.
    fn push(&mut self, value: Value<'_>) {
        let cell = match value {
            Value::Null => Cell::Null,
            Value::Unchanged => Cell::Unchanged,
            Value::Text(text) => {
                let start = self.text.len();
                match (u32::try_from(start), u32::try_from(start + text.len())) {
                    (Ok(start), Ok(end)) => {
                        self.text.push_str(text);
                        Cell::Value { start, end }
                    }
                    _ => Cell::Unchanged,
                }
            }
        };
        self.cells.push(cell);
    }
}

/// Rows and changes under construction; [`Builder::finish`] seals them.
#[derive(Debug, Default)]
pub struct Builder {
    page: Page,
    drafts: Vec<Draft>,
    /// What the changes to come carry.
    annotations: Option<Arc<str>>,
    annotation_bytes: usize,
}

/// Where a finished row stands in the page being built.
#[derive(Clone, Copy, Debug)]
pub struct RowSpan {
    first: usize,
    len: usize,
    extent: Extent,
}

impl RowSpan {
    fn of(self, page: &Arc<Page>) -> Row {
        Row { page: Arc::clone(page), first: self.first, len: self.len, extent: self.extent }
    }
}

#[derive(Debug)]
struct Draft {
    position: Position,
    operation: Operation,
    relation: Arc<Relation>,
    transaction: Arc<Transaction>,
    before: Option<RowSpan>,
    after: Option<RowSpan>,
    annotations: Option<Arc<str>>,
}

impl Builder {
    /// The largest text of a page, in bytes: cells address it with 32 bits.
    pub const TEXT_BYTES_MAX: usize = u32::MAX as usize;

    /// An empty one with room for as much again, so that the next page of a stream does not grow
    /// piece by piece; after a large one it does.
    #[must_use]
    pub fn successor(&self) -> Self {
        let Page { text, cells } = &self.page;
        Self {
            page: Page {
                text: String::with_capacity(text.len().min(ROOM_BYTES_MAX)),
                cells: Vec::with_capacity(cells.len().min(ROOM_BYTES_MAX / size_of::<Cell>())),
            },
            drafts: Vec::with_capacity(self.drafts.len().min(ROOM_BYTES_MAX / size_of::<Draft>())),
            annotations: None,
            annotation_bytes: 0,
        }
    }

    /// Where the next row will begin; hand it to [`Builder::end_row`].
    #[must_use]
    pub fn begin_row(&self) -> usize {
        self.page.cells.len()
    }

    /// Appends a null.
    #[inline]
    pub fn null(&mut self) {
        self.page.cells.push(Cell::Null);
    }

    /// Appends a value that was not sent.
    #[inline]
    pub fn unchanged(&mut self) {
        self.page.cells.push(Cell::Unchanged);
    }

    /// Appends a value that `write` adds to the end of the page's text, as canonical text.
    ///
    /// # Errors
    /// What `write` fails with; the text is then as it was.
    ///
    /// # Panics
    /// If the page's text would pass [`Builder::TEXT_BYTES_MAX`]: the caller seals pages long
    /// before, and one value of Postgres is below 1 GiB.
    pub fn value<E>(&mut self, write: impl FnOnce(&mut String) -> Result<(), E>) -> Result<(), E> {
        let start = self.page.text.len();
        if let Err(error) = write(&mut self.page.text) {
            self.page.text.truncate(start);
            return Err(error);
        }
        let end = self.page.text.len();
        assert!(start <= end && end <= Self::TEXT_BYTES_MAX, "a page is sealed before 4 GiB");
        self.page.cells.push(Cell::Value { start: start as u32, end: end as u32 });
        Ok(())
    }

    /// Appends a value whose text is canonical already, as a row or a plugin has it.
    pub fn copy(&mut self, value: Value<'_>) {
        self.page.push(value);
    }

    /// Closes the row that began at `first`.
    #[must_use]
    pub fn end_row(&self, first: usize, extent: Extent) -> RowSpan {
        RowSpan { first, len: self.page.cells.len() - first, extent }
    }

    /// The cell of column `index` of a finished row, to fill one row from another of this page.
    #[must_use]
    pub fn cell(&self, row: RowSpan, index: usize) -> Option<Cell> {
        (index < row.len).then(|| self.page.cells.get(row.first + index).copied()).flatten()
    }

    /// Replaces the cell of column `index` of a finished row.
    pub fn set_cell(&mut self, row: RowSpan, index: usize, cell: Cell) {
        if index < row.len
            && let Some(slot) = self.page.cells.get_mut(row.first + index)
        {
            *slot = cell;
        }
    }

    /// From here on, changes carry these annotations: valid JSON text, or none.
    pub fn annotate(&mut self, annotations: Option<&Arc<str>>) {
        let same = match (&self.annotations, annotations) {
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            (None, None) => true,
            _ => false,
        };
        if !same {
            self.annotation_bytes += annotations.map_or(0, |text| text.len());
            self.annotations = annotations.map(Arc::clone);
        }
    }

    /// Appends a change over finished rows.
    pub fn change(
        &mut self,
        position: Position,
        operation: Operation,
        relation: Arc<Relation>,
        transaction: Arc<Transaction>,
        before: Option<RowSpan>,
        after: Option<RowSpan>,
    ) {
        let annotations = self.annotations.clone();
        self.drafts.push(Draft {
            position,
            operation,
            relation,
            transaction,
            before,
            after,
            annotations,
        });
    }

    /// How many changes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.drafts.len()
    }

    /// Whether there is no change yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.drafts.is_empty()
    }

    /// The memory that the rows take, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.page.text.len()
            + self.page.cells.len() * size_of::<Cell>()
            + self.drafts.len() * size_of::<Change>()
            + self.annotation_bytes
    }

    /// Seals the page and hands out rows of it that belong to no change.
    #[must_use]
    pub fn into_rows(self, spans: impl IntoIterator<Item = RowSpan>) -> Vec<Row> {
        let page = Arc::new(self.page);
        spans.into_iter().map(|span| span.of(&page)).collect()
    }

    /// Seals the page and hands out its changes, in order.
    #[must_use]
    pub fn finish(self) -> Vec<Change> {
        let mut page = self.page;
        // What is charged for is what is used: a page may take twice that, and no more.
        if page.text.capacity() / 2 > page.text.len() {
            page.text.shrink_to_fit();
        }
        if page.cells.capacity() / 2 > page.cells.len() {
            page.cells.shrink_to_fit();
        }
        let page = Arc::new(page);
        let row = |span: RowSpan| span.of(&page);
        self.drafts
            .into_iter()
            .map(|draft| Change {
                position: draft.position,
                operation: draft.operation,
                relation: draft.relation,
                transaction: draft.transaction,
                before: draft.before.map(row),
                after: draft.after.map(row),
                annotations: draft.annotations,
                fetched: None,
                enrichment: None,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Lsn;

    /// A change of one row with a short text.
    fn small(mut builder: Builder) -> Change {
        let transaction = Transaction::new(Lsn(8), 1, 0);
        let first = builder.begin_row();
        write(&mut builder, "short");
        let row = builder.end_row(first, Extent::Full);
        let (relation, transaction) = (crate::sample::relation(&["id"]), Arc::new(transaction));
        let position = Position::new(Lsn(8), 0);
        builder.change(position, Operation::Insert, relation, transaction, None, Some(row));
        builder.finish().remove(0)
    }

    fn write(builder: &mut Builder, text: &str) {
        let written = builder.value::<()>(|out| {
            out.push_str(text);
            Ok(())
        });
        assert_eq!(written, Ok(()));
    }

    #[test]
    fn room_made_beforehand_does_not_stay_with_a_small_page() {
        let mut large = Builder::default();
        write(&mut large, &"x".repeat(4 * ROOM_BYTES_MAX));
        let next = large.successor();
        assert!(next.bytes() == 0 && next.page.text.capacity() >= ROOM_BYTES_MAX);
        assert!(next.page.text.capacity() < 2 * ROOM_BYTES_MAX, "room is bounded");
        let change = small(next);
        let page = &change.after.as_ref().unwrap().page;
        assert!(page.text.capacity() <= 2 * page.text.len(), "{}", page.text.capacity());
    }
}
