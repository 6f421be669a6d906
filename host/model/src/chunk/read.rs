//! Bytes to changes.

use std::sync::Arc;

use super::bytes::Bytes;
use super::{RelationHash, VERSION, flag};
use crate::change::{Change, Operation, Transaction};
use crate::lsn::Lsn;
use crate::page::{Builder, Extent, RowSpan};
use crate::position::Position;
use crate::relation::Relation;

/// These bytes are no chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the change log is damaged: {0}")]
pub struct Corrupt(pub(super) &'static str);

/// A chunk whose tables were read.
#[derive(Debug)]
pub struct Chunk<'a> {
    sinks: Vec<&'a str>,
    relations: Vec<RelationHash>,
    transactions: Vec<Arc<Transaction>>,
    annotations: Vec<&'a str>,
    changes: u64,
    body: Bytes<'a>,
}

impl<'a> Chunk<'a> {
    /// Reads the tables before the changes.
    ///
    /// # Errors
    /// These bytes are no chunk, or one of a version that is not known here.
    pub fn open(bytes: &'a [u8]) -> Result<Self, Corrupt> {
        let mut bytes = Bytes(bytes);
        if bytes.byte()? != VERSION {
            return Err(Corrupt("a chunk of an unknown version"));
        }
        let sinks = (0..bytes.count()?).map(|_| bytes.text()).collect::<Result<_, _>>()?;
        let relations = (0..bytes.count()?).map(|_| {
            let hash = bytes.take(16)?;
            hash.try_into().map(RelationHash).map_err(|_| Corrupt("a hash is cut short"))
        });
        let relations = relations.collect::<Result<_, _>>()?;
        let transactions = (0..bytes.count()?).map(|_| {
            let commit_lsn = Lsn(bytes.number()?);
            let xid = u32::try_from(bytes.number()?).map_err(|_| Corrupt("an xid is too large"))?;
            Ok(Arc::new(Transaction::new(commit_lsn, xid, bytes.signed()?)))
        });
        let transactions = transactions.collect::<Result<_, Corrupt>>()?;
        let annotations = (0..bytes.count()?).map(|_| bytes.text()).collect::<Result<_, _>>()?;
        let changes = bytes.number()?;
        Ok(Self { sinks, relations, transactions, annotations, changes, body: bytes })
    }

    /// The relation versions that are needed.
    #[must_use]
    pub fn relations(&self) -> &[RelationHash] {
        &self.relations
    }

    /// The changes that a sink owes and that `wanted` says yes to, in order, and the memory that they
    /// take. `relations` are those of [`Chunk::relations`].
    ///
    /// # Errors
    /// These bytes are no chunk.
    pub fn changes_of(
        &self,
        sink: &str,
        relations: &[Arc<Relation>],
        mut wanted: impl FnMut(Position) -> bool,
    ) -> Result<(Vec<Change>, usize), Corrupt> {
        let Some(owner) = self.sinks.iter().position(|name| *name == sink) else {
            return Ok((Vec::new(), 0));
        };
        let mut builder = Builder::default();
        let mut annotated: Option<(usize, Arc<str>)> = None;
        let mut body = self.body;
        for _ in 0..self.changes {
            let len = body.count()?;
            let mut change = Bytes(body.take(len)?);
            let head = self.head(&mut change)?;
            let owners = change.take(self.sinks.len().div_ceil(8))?;
            let owes = owners.get(owner / 8).is_some_and(|byte| byte & 1 << (owner % 8) != 0);
            if !owes || !wanted(head.position) {
                continue;
            }
            let relation = relations.get(head.relation);
            let relation = relation.ok_or(Corrupt("a relation is missing"))?;
            let row = |bytes: &mut Bytes<'_>, builder: &mut Builder, full: u8| {
                let extent = if head.flags & full == 0 { Extent::Key } else { Extent::Full };
                row(bytes, builder, extent)
            };
            let has = |flag: u8| head.flags & flag != 0;
            let mut before = None;
            if has(flag::BEFORE) {
                before = Some(row(&mut change, &mut builder, flag::BEFORE_IS_FULL)?);
            }
            let mut after = None;
            if has(flag::AFTER) {
                after = Some(row(&mut change, &mut builder, flag::AFTER_IS_FULL)?);
            }
            match head.annotation {
                None => builder.annotate(None),
                Some(index) => {
                    if annotated.as_ref().is_none_or(|(known, _)| *known != index) {
                        let text = self.annotations.get(index);
                        let text = text.ok_or(Corrupt("an annotation is missing"))?;
                        annotated = Some((index, Arc::from(*text)));
                    }
                    builder.annotate(annotated.as_ref().map(|(_, text)| text));
                }
            }
            let (relation, transaction) = (Arc::clone(relation), Arc::clone(head.transaction));
            builder.change(head.position, head.operation, relation, transaction, before, after);
        }
        let bytes = builder.bytes();
        Ok((builder.finish(), bytes))
    }

    /// The positions of the changes that a sink owes, in the order in which they were written.
    ///
    /// # Errors
    /// These bytes are no chunk.
    pub fn positions_of(&self, sink: &str) -> Result<Vec<Position>, Corrupt> {
        let Some(owner) = self.sinks.iter().position(|name| *name == sink) else {
            return Ok(Vec::new());
        };
        let mut positions = Vec::new();
        let mut body = self.body;
        for _ in 0..self.changes {
            let len = body.count()?;
            let mut change = Bytes(body.take(len)?);
            let head = self.head(&mut change)?;
            let owners = change.take(self.sinks.len().div_ceil(8))?;
            if owners.get(owner / 8).is_some_and(|byte| byte & 1 << (owner % 8) != 0) {
                positions.push(head.position);
            }
        }
        Ok(positions)
    }

    fn head(&self, bytes: &mut Bytes<'_>) -> Result<Head<'_>, Corrupt> {
        let index = |bytes: &mut Bytes<'_>| {
            usize::try_from(bytes.number()?).map_err(|_| Corrupt("an index is too large"))
        };
        let transaction = self.transactions.get(index(bytes)?);
        let transaction = transaction.ok_or(Corrupt("a transaction is missing"))?;
        let position = Position::new(transaction.commit_lsn, bytes.number()?);
        let flags = bytes.byte()?;
        let operation = match flags & flag::OPERATION {
            0 => Operation::Insert,
            1 => Operation::Update,
            2 => Operation::Delete,
            3 => Operation::Read,
            4 => Operation::Truncate,
            _ => return Err(Corrupt("an unknown operation")),
        };
        let relation = index(bytes)?;
        let is_annotated = flags & flag::ANNOTATED != 0;
        let annotation = is_annotated.then(|| index(bytes)).transpose()?;
        Ok(Head { position, transaction, operation, flags, relation, annotation })
    }
}

struct Head<'a> {
    position: Position,
    transaction: &'a Arc<Transaction>,
    operation: Operation,
    flags: u8,
    relation: usize,
    annotation: Option<usize>,
}

fn row(bytes: &mut Bytes<'_>, builder: &mut Builder, extent: Extent) -> Result<RowSpan, Corrupt> {
    let first = builder.begin_row();
    for _ in 0..bytes.count()? {
        match bytes.number()? {
            0 => builder.null(),
            1 => builder.unchanged(),
            more => {
                let len = usize::try_from(more - 2).map_err(|_| Corrupt("a value is too long"))?;
                let text = std::str::from_utf8(bytes.take(len)?);
                builder.copy(crate::page::Value::Text(
                    text.map_err(|_| Corrupt("a value is not UTF-8"))?,
                ));
            }
        }
    }
    Ok(builder.end_row(first, extent))
}
