//! Rows as the next plugin of a chain sees them: with what the plugins before it made of them.
//!
//! A row with its patches becomes a row of another relation version, in a page of its own. What the
//! plugins set has the form that they gave it; of its old values nothing is known. The columns of
//! the key that were set are no key any more: a plugin is told what stands there, and the identity
//! of the row is the source's.

use std::sync::Arc;

use model::change::{Change, Operation};
use model::page::{Builder, Extent, Row, RowSpan, Value};
use model::plugin::{Fate, Patch, SetValue};
use model::relation::{Column, Kind, Relation};

/// Forms of rows that are remembered: one for each table and kind of outcome. A plugin that sets
/// other columns for each row has them made again and again.
const SHAPES_MAX: usize = 64;

/// From here on a page is sealed, in bytes.
const PAGE_BYTES: usize = 1 << 20;

/// The relation versions that patches lead to.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    known: Vec<Shape>,
}

#[derive(Debug)]
struct Shape {
    source: Arc<Relation>,
    /// Per column of the relation, which column of the source it is; None: it was set.
    origins: Vec<Option<usize>>,
    relation: Arc<Relation>,
}

/// A column of a patched row.
#[derive(Clone, Copy)]
enum Slot<'a> {
    Kept(usize),
    Set(SetValue<'a>),
}

/// Rows of one relation version, with their places among those that were asked for.
pub(crate) struct Alike {
    pub(crate) places: Vec<usize>,
    pub(crate) changes: Vec<Change>,
}

impl Shapes {
    /// These rows with their patches, grouped by what they have become.
    pub(crate) fn derive<'a>(
        &mut self,
        rows: impl Iterator<Item = (usize, &'a Change, Option<&'a Patch>)>,
    ) -> Vec<Alike> {
        let mut groups: Vec<Group> = Vec::new();
        let mut slots = Vec::new();
        for (place, change, patch) in rows {
            let relation = match patch {
                None => Arc::clone(&change.relation),
                Some(patch) => {
                    layout(&change.relation, patch, &mut slots);
                    self.relation(&change.relation, &slots)
                }
            };
            let known = groups.iter().position(|group| Arc::ptr_eq(&group.relation, &relation));
            let at = known.unwrap_or_else(|| {
                groups.push(Group::new(relation));
                groups.len() - 1
            });
            let Some(group) = groups.get_mut(at) else { continue };
            group.places.push(place);
            match patch {
                None => group.changes.push(change.clone()),
                Some(_) => group.push(change, &slots),
            }
        }
        groups.into_iter().map(Group::finish).collect()
    }

    /// The relation version of rows of this layout, the same for all of them.
    fn relation(&mut self, source: &Arc<Relation>, slots: &[Slot<'_>]) -> Arc<Relation> {
        if let Some(known) = self.known.iter().find(|shape| shape.fits(source, slots)) {
            return Arc::clone(&known.relation);
        }
        let column = |slot: &Slot<'_>| match slot {
            Slot::Kept(index) => source.columns.get(*index).cloned(),
            Slot::Set(set) => {
                let kind = set.column.data.kind();
                let (name, type_name) = ((*set.column.name).into(), type_name(kind).into());
                Some(Column { name, kind, type_name, key: false })
            }
        };
        let columns = slots.iter().filter_map(column).collect();
        let rendered = model::relation::Rendered::default();
        let relation = Arc::new(Relation { columns, rendered, ..(**source).clone() });
        let origin = |slot: &Slot<'_>| match slot {
            Slot::Kept(index) => Some(*index),
            Slot::Set(_) => None,
        };
        if self.known.len() >= SHAPES_MAX {
            self.known.clear();
        }
        self.known.push(Shape {
            source: Arc::clone(source),
            origins: slots.iter().map(origin).collect(),
            relation: Arc::clone(&relation),
        });
        relation
    }
}

impl Shape {
    fn fits(&self, source: &Arc<Relation>, slots: &[Slot<'_>]) -> bool {
        let same = |((slot, origin), column): ((&Slot<'_>, &Option<usize>), &Column)| match slot {
            Slot::Kept(index) => Some(*index) == *origin,
            Slot::Set(set) => {
                origin.is_none()
                    && *set.column.name == *column.name
                    && set.column.data.kind() == column.kind
            }
        };
        Arc::ptr_eq(&self.source, source)
            && self.origins.len() == slots.len()
            && slots.iter().zip(&self.origins).zip(&self.relation.columns).all(same)
    }
}

/// The columns of a patched row, in order: the source's that are left, then those that are new.
fn layout<'a>(source: &Relation, patch: &'a Patch, slots: &mut Vec<Slot<'a>>) {
    slots.clear();
    for (index, column) in source.columns.iter().enumerate() {
        match patch.fate(&column.name) {
            Fate::Kept => slots.push(Slot::Kept(index)),
            Fate::Set(set) => slots.push(Slot::Set(set)),
            Fate::Absent => {}
        }
    }
    patch.for_each_value(|set| {
        if source.column(&set.column.name).is_none() {
            slots.push(Slot::Set(set));
        }
    });
}

/// Postgres' name of the type whose values have this form.
fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Boolean => "bool",
        Kind::Integer => "int8",
        Kind::Float => "float8",
        Kind::Text => "text",
        Kind::Json => "jsonb",
        Kind::Bytes => "bytea",
    }
}

/// Rows that have become alike, under construction.
struct Group {
    relation: Arc<Relation>,
    places: Vec<usize>,
    changes: Vec<Change>,
    builder: Builder,
    text: String,
}

impl Group {
    fn new(relation: Arc<Relation>) -> Self {
        let (builder, text) = (Builder::default(), String::new());
        Self { relation, places: Vec::new(), changes: Vec::new(), builder, text }
    }

    fn push(&mut self, change: &Change, slots: &[Slot<'_>]) {
        let stands = change.after.is_some();
        let old = change.before.as_ref().map(|row| self.row(change, row, slots, !stands));
        let new = change.after.as_ref().map(|row| self.row(change, row, slots, true));
        self.builder.annotate(change.annotations.as_ref());
        let (relation, transaction) = (Arc::clone(&self.relation), Arc::clone(&change.transaction));
        let operation: Operation = change.operation;
        self.builder.change(change.position, operation, relation, transaction, old, new);
        if self.builder.bytes() >= PAGE_BYTES {
            self.seal();
        }
    }

    /// A row of the source laid out anew. What was set stands in the row that stands for the change,
    /// and in no other. All that is not known is said so cell by cell.
    fn row(&mut self, change: &Change, row: &Row, slots: &[Slot<'_>], stands: bool) -> RowSpan {
        let first = self.builder.begin_row();
        for slot in slots {
            match slot {
                Slot::Kept(index) => {
                    let column = change.relation.columns.get(*index);
                    let key = column.is_some_and(|column| column.key);
                    let known = row.extent() == Extent::Full || key;
                    self.builder.copy(if known { row.value(*index) } else { Value::Unchanged });
                }
                Slot::Set(_) if !stands => self.builder.unchanged(),
                Slot::Set(set) if set.is_null() => self.builder.null(),
                Slot::Set(set) => {
                    self.text.clear();
                    set.write_text(&mut self.text);
                    self.builder.copy(Value::Text(&self.text));
                }
            }
        }
        self.builder.end_row(first, Extent::Full)
    }

    fn seal(&mut self) {
        self.changes.extend(std::mem::take(&mut self.builder).finish());
    }

    /// Rows that nothing was made of have the source's own relation, so a group has either.
    fn finish(mut self) -> Alike {
        self.seal();
        Alike { places: self.places, changes: self.changes }
    }
}

#[cfg(test)]
mod tests {
    use model::change::Transaction;
    use model::lsn::Lsn;
    use model::plugin::{Data, Outcome};
    use model::position::Position;

    use super::*;
    use crate::fake::log::changes;
    use crate::fake::plugin::{set, text};

    /// A change of key and value, as the source gives it.
    fn change(
        operation: Operation,
        before: Option<(Extent, [&str; 2])>,
        after: Option<[&str; 2]>,
    ) -> Change {
        let relation = Arc::clone(&changes(1, 0)[0].relation);
        let mut builder = Builder::default();
        let mut row = |extent, cells: [&str; 2]| {
            let first = builder.begin_row();
            for cell in cells {
                builder.copy(if cell.is_empty() { Value::Null } else { Value::Text(cell) });
            }
            builder.end_row(first, extent)
        };
        let before = before.map(|(extent, cells)| row(extent, cells));
        let after = after.map(|cells| row(Extent::Full, cells));
        let transaction = Arc::new(Transaction::new(Lsn(8), 1, 0));
        builder.annotate(Some(&Arc::from("{\"by\":1}")));
        let position = Position::new(Lsn(8), 3);
        builder.change(position, operation, relation, transaction, before, after);
        builder.finish().remove(0)
    }

    fn patch() -> Patch {
        let outcome = set([("id", text("x")), ("new", Data::Integers(vec![-7]))]);
        let Outcome::Set(patch) = outcome else { panic!() };
        patch
    }

    fn cells(row: Option<&Row>) -> Option<Vec<String>> {
        let row = row?;
        Some((0..3).map(|index| format!("{:?}", row.value(index))).collect())
    }

    fn derived(shapes: &mut Shapes, change: &Change) -> Change {
        let patch = patch();
        let mut groups = shapes.derive([(0, change, Some(&patch))].into_iter());
        groups.remove(0).changes.remove(0)
    }

    #[test]
    fn what_was_set_stands_in_the_new_row_and_is_not_known_of_the_old() {
        let mut shapes = Shapes::default();
        let old = Some((Extent::Full, ["1", "old"]));
        let updated = derived(&mut shapes, &change(Operation::Update, old, Some(["1", "v"])));
        let [old, new] = [updated.before.as_ref(), updated.after.as_ref()].map(cells);
        assert_eq!(new.unwrap(), ["Text(\"x\")", "Text(\"v\")", "Text(\"-7\")"]);
        assert_eq!(old.unwrap(), ["Unchanged", "Text(\"old\")", "Unchanged"]);
        let columns = &updated.relation.columns;
        let told: Vec<_> =
            columns.iter().map(|it| (&*it.name, it.kind, &*it.type_name, it.key)).collect();
        let expected = [
            ("id", Kind::Text, "text", false),
            ("value", Kind::Text, "text", false),
            ("new", Kind::Integer, "int8", false),
        ];
        assert_eq!(told, expected);
        assert_eq!(updated.annotations.as_deref(), Some("{\"by\":1}"));
        assert_eq!(updated.position.ordinal, 3);

        // Of a row that is no more than its key nothing else is known, which is no null.
        let key = Some((Extent::Key, ["1", ""]));
        let deleted = derived(&mut shapes, &change(Operation::Delete, key, None));
        assert_eq!(cells(deleted.row()).unwrap(), ["Text(\"x\")", "Unchanged", "Text(\"-7\")"],);
        assert!(deleted.after.is_none(), "it is the old row");
    }

    #[test]
    fn rows_of_one_form_have_one_relation_and_few_are_remembered() {
        let mut shapes = Shapes::default();
        let source = change(Operation::Insert, None, Some(["1", "v"]));
        let first = derived(&mut shapes, &source).relation;
        assert!(Arc::ptr_eq(&first, &derived(&mut shapes, &source).relation));
        for n in 0..200 {
            let name: &'static str = format!("c{n}").leak();
            let Outcome::Set(patch) = set([(name, text("x"))]) else { panic!() };
            shapes.derive([(0, &source, Some(&patch))].into_iter());
        }
        assert!(shapes.known.len() <= SHAPES_MAX);
        // Another version of the table is another form.
        let other = change(Operation::Insert, None, Some(["1", "v"]));
        let changed = derived(&mut shapes, &other).relation;
        assert!(!Arc::ptr_eq(&changed, &derived(&mut shapes, &source).relation));
    }
}
