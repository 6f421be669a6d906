//! Changes to bytes.

use std::sync::Arc;

use super::bytes::{push_number, push_signed, push_text};
use super::{RelationHash, VERSION, Written, flag};
use crate::change::{Change, Operation, Transaction};
use crate::page::{Extent, Row, Value};
use crate::position::Position;
use crate::relation::Relation;

/// A chunk under construction, for these sinks.
#[derive(Debug)]
pub struct Writer {
    sinks: Vec<Arc<str>>,
    relations: Vec<(RelationHash, Arc<Relation>)>,
    transactions: Vec<Arc<Transaction>>,
    annotations: Vec<Arc<str>>,
    changes: u64,
    body: Vec<u8>,
    /// One change; used again and again.
    scratch: Vec<u8>,
    span: Option<(Position, Position)>,
}

impl Writer {
    /// An empty one.
    #[must_use]
    pub fn new(sinks: Vec<Arc<str>>) -> Self {
        Self {
            sinks,
            relations: Vec::new(),
            transactions: Vec::new(),
            annotations: Vec::new(),
            changes: 0,
            body: Vec::new(),
            scratch: Vec::new(),
            span: None,
        }
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes == 0
    }

    /// About how large it is, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    /// Appends a change that these of the sinks owe, by their indexes. `hash` names relation
    /// versions: it is asked once for each run of changes of one.
    pub fn push(
        &mut self,
        change: &Change,
        owners: impl IntoIterator<Item = usize>,
        hash: impl FnOnce(&Arc<Relation>) -> RelationHash,
    ) {
        let position = change.position;
        self.span = Some(match self.span {
            None => (position, position),
            Some((low, high)) => (low.min(position), high.max(position)),
        });
        let transaction = self.transaction(&change.transaction);
        let relation = self.relation(&change.relation, hash);
        let annotation = change.annotations.as_ref().map(|text| self.annotation(text));
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        push_number(&mut out, transaction);
        push_number(&mut out, position.ordinal);
        let operation = match change.operation {
            Operation::Insert => 0,
            Operation::Update => 1,
            Operation::Delete => 2,
            Operation::Read => 3,
            Operation::Truncate => 4,
        };
        let set = |is: bool, flag: u8| if is { flag } else { 0 };
        let full = |row: &Option<Row>| row.as_ref().is_some_and(|it| it.extent() == Extent::Full);
        out.push(
            operation
                | set(change.before.is_some(), flag::BEFORE)
                | set(full(&change.before), flag::BEFORE_IS_FULL)
                | set(change.after.is_some(), flag::AFTER)
                | set(full(&change.after), flag::AFTER_IS_FULL)
                | set(annotation.is_some(), flag::ANNOTATED),
        );
        push_number(&mut out, relation);
        if let Some(annotation) = annotation {
            push_number(&mut out, annotation);
        }
        let first = out.len();
        out.resize(first + self.sinks.len().div_ceil(8), 0);
        for owner in owners {
            if let Some(byte) = out.get_mut(first + owner / 8) {
                *byte |= 1 << (owner % 8);
            }
        }
        for row in [&change.before, &change.after].into_iter().flatten() {
            push_row(&mut out, row);
        }
        push_number(&mut self.body, out.len() as u64);
        self.body.extend_from_slice(&out);
        self.scratch = out;
        self.changes += 1;
    }

    /// The chunk; None if nothing is in it.
    #[must_use]
    pub fn finish(self) -> Option<Written> {
        let span = self.span?;
        let mut bytes = Vec::with_capacity(self.body.len() + 256);
        bytes.push(VERSION);
        push_number(&mut bytes, self.sinks.len() as u64);
        for sink in &self.sinks {
            push_text(&mut bytes, sink);
        }
        push_number(&mut bytes, self.relations.len() as u64);
        for (hash, _) in &self.relations {
            bytes.extend_from_slice(&hash.0);
        }
        push_number(&mut bytes, self.transactions.len() as u64);
        for transaction in &self.transactions {
            push_number(&mut bytes, transaction.commit_lsn.0);
            push_number(&mut bytes, transaction.xid.into());
            push_signed(&mut bytes, transaction.committed_at_us);
        }
        push_number(&mut bytes, self.annotations.len() as u64);
        for annotation in &self.annotations {
            push_text(&mut bytes, annotation);
        }
        push_number(&mut bytes, self.changes);
        bytes.extend_from_slice(&self.body);
        Some(Written { bytes, relations: self.relations, span })
    }

    /// The last one is the one that is asked for, nearly always.
    fn transaction(&mut self, transaction: &Arc<Transaction>) -> u64 {
        if self.transactions.last().is_none_or(|last| last != transaction) {
            self.transactions.push(Arc::clone(transaction));
        }
        self.transactions.len() as u64 - 1
    }

    fn relation(
        &mut self,
        relation: &Arc<Relation>,
        hash: impl FnOnce(&Arc<Relation>) -> RelationHash,
    ) -> u64 {
        let same = |(_, known): &(RelationHash, Arc<Relation>)| Arc::ptr_eq(known, relation);
        let at = self.relations.iter().rposition(same).unwrap_or_else(|| {
            self.relations.push((hash(relation), Arc::clone(relation)));
            self.relations.len() - 1
        });
        at as u64
    }

    fn annotation(&mut self, text: &Arc<str>) -> u64 {
        if self.annotations.last().is_none_or(|last| last != text) {
            self.annotations.push(Arc::clone(text));
        }
        self.annotations.len() as u64 - 1
    }
}

/// Cells: 0 null, 1 not sent, else two more than the length of the text.
fn push_row(out: &mut Vec<u8>, row: &Row) {
    push_number(out, row.len() as u64);
    for index in 0..row.len() {
        match row.value(index) {
            Value::Null => out.push(0),
            Value::Unchanged => out.push(1),
            Value::Text(text) => {
                push_number(out, text.len() as u64 + 2);
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
}
