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
