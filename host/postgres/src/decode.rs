//! From messages to changes: which transaction is open, which version of a table is in force, and
//! which position each change has.
//!
//! A state machine without I/O. What it needs from the catalog it asks for
//! ([`Step::NeedCatalog`]), and is then fed the same message again; a message is either taken in
//! full or leaves no trace.
//!
//! Guarantees, or it reports a [`Fault`]: positions rise strictly; a change stands between the
//! begin and the commit of its transaction; a row has the columns of its table. Ordinals count row
//! events, truncated tables and transactional messages, before any selection, so they are the same
//! on each replay.
//!
//! It knows no socket and no confirmation.

mod annotations;
pub(crate) mod marks;
mod row;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::change::{Operation, Transaction};
use model::lsn::Lsn;
use model::page::{Builder, Cell, Extent, RowSpan};
use model::position::Position;
use model::source::{Changes, Claim, Commit, Mark};

use crate::lineage::{At, Lineage, Lineages};
use crate::pgoutput::{Definition, Message, Old, Tuple};
use crate::relation::{Facts, Question, Table};
use crate::wire::cursor::Malformed;

/// 2000-01-01, the epoch of Postgres, in microseconds since 1970.
const EPOCH_US: i64 = 946_684_800_000_000;

/// Prefix of the messages that only prove that the stream is alive.
const HEARTBEAT: &[u8] = b"sequin.heartbeat";

const CLAIM: &[u8] = Claim::PREFIX.as_bytes();

/// The messages make no sense, or a row cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// A frame that is cut or corrupt.
    #[error("corrupt message: {0}")]
    Malformed(#[from] Malformed),
    /// Messages in an order that cannot be.
    #[error("protocol fault: {0}")]
    Protocol(String),
    /// A row that may be beyond what a page can address: only arrays and intervals grow that much.
    #[error("a row of {table} has {bytes} bytes, more than can be taken")]
    RowTooLarge { table: String, bytes: usize },
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It was taken.
    Taken,
    /// It was not: the same message is due again after [`Decoder::answer`].
    NeedCatalog(Question),
}

/// The state machine, with the batch it is filling.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    lineages: Arc<Lineages>,
    /// Few, and looked up for each row: no hash is as fast as comparing.
    relations: BTreeMap<u32, Entry>,
    open: Option<Open>,
    last_commit: Lsn,
    builder: Builder,
    scratch: row::Scratch,
    commits: Vec<Commit>,
    marks: Vec<Mark>,
    claims: Vec<(Lsn, Claim)>,
    /// Heartbeats that came, which nobody has asked for yet.
    heartbeats: usize,
    /// Whether annotations that are not JSON were complained about.
    warned_annotations: bool,
}

#[derive(Debug)]
struct Entry {
    definition: Definition,
    /// None until a row needs it: many definitions come without any row, such as those of the
    /// leaves of a partitioned table, and cost no query.
    table: Option<Table>,
    /// Whether the table must be completed again.
    stale: bool,
    /// Behind this commit, too: it was a partition until then.
    until: Option<Lsn>,
}

/// The open transaction.
#[derive(Debug)]
struct Open {
    transaction: Arc<Transaction>,
    next_ordinal: u64,
    /// What the changes from here on carry: JSON.
    annotations: Option<Arc<str>>,
}

impl Open {
    fn next_position(&mut self) -> Position {
        let position = Position::new(self.transaction.commit_lsn, self.next_ordinal);
        self.next_ordinal += 1;
        position
    }
}

impl Decoder {
    /// A decoder for a stream from its beginning, with what is known of partitions.
    pub(crate) fn new(lineages: Arc<Lineages>) -> Self {
        Self { lineages, ..Self::default() }
    }

    /// Takes one message of the output plugin.
    ///
    /// # Errors
    /// The decoder is of no further use.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Step, Fault> {
        let message = Message::parse(bytes)?;
        let question = self.question(&message)?;
        if !question.is_empty() {
            return Ok(Step::NeedCatalog(question));
        }
        match message {
            Message::Begin { commit_lsn, committed_at_us, xid } => {
                self.begin(commit_lsn, committed_at_us, xid)?;
            }
            Message::Commit { commit_lsn, end_lsn } => self.commit(commit_lsn, end_lsn)?,
            Message::Relation(definition) => self.define(definition),
            Message::Insert { relation, new } => {
                self.change(Operation::Insert, relation, None, Some(new))?;
            }
            Message::Update { relation, old, new } => {
                self.change(Operation::Update, relation, old, Some(new))?;
            }
            Message::Delete { relation, old } => {
                self.change(Operation::Delete, relation, Some(old), None)?;
            }
            Message::Truncate { relations } => {
                for relation in relations {
                    self.change(Operation::Truncate, relation, None, None)?;
                }
            }
            Message::Logical { transactional: true, prefix, content } => {
                self.annotate(prefix, content)?;
            }
            // One that is not transactional stands outside of every transaction.
            Message::Logical { transactional: false, prefix: HEARTBEAT, .. } => {
                self.heartbeats += 1;
            }
            Message::Logical { transactional: false, .. } | Message::Type | Message::Origin => {}
        }
        Ok(Step::Taken)
    }

    /// What the catalog said to a [`Question`]. A table that it does not know is completed from
    /// the stream alone.
    pub(crate) fn answer(&mut self, question: &Question, facts: &Facts) {
        let at = self.open.as_ref().map(|Open { transaction, .. }| At {
            commit_lsn: transaction.commit_lsn,
            xid: transaction.xid,
        });
        for oid in &question.waiting {
            if let Some(entry) = self.relations.get_mut(oid) {
                let lineage = self.lineages.of(&entry.definition, at, facts);
                entry.complete(facts, lineage);
            }
        }
    }

    /// Whether a transaction is open.
    pub(crate) fn in_transaction(&self) -> bool {
        self.open.is_some()
    }

    /// The commit of the open transaction.
    pub(crate) fn open_commit(&self) -> Option<Lsn> {
        self.open.as_ref().map(|open| open.transaction.commit_lsn)
    }

    /// How many changes, marks and ends of transactions wait to be handed over.
    pub(crate) fn waiting(&self) -> usize {
        self.builder.len() + self.commits.len() + self.marks.len()
    }

    /// The memory that they take, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.builder.bytes()
    }

    /// Whether heartbeats came since this was last asked.
    pub(crate) fn take_heartbeats(&mut self) -> bool {
        std::mem::take(&mut self.heartbeats) > 0
    }

    /// Seals what waits to be handed over.
    pub(crate) fn seal(&mut self) -> Changes {
        let next = self.builder.successor();
        let builder = std::mem::replace(&mut self.builder, next);
        let bytes = builder.bytes();
        let commits = std::mem::take(&mut self.commits);
        let marks = std::mem::take(&mut self.marks);
        let claims = std::mem::take(&mut self.claims);
        Changes { changes: builder.finish(), commits, marks, claims, bytes }
    }

    /// What must be known before the message can be taken.
    fn question(&self, message: &Message<'_>) -> Result<Question, Fault> {
        let mut question = Question::default();
        match message {
            Message::Insert { relation, .. }
            | Message::Update { relation, .. }
            | Message::Delete { relation, .. } => self.require(*relation, &mut question)?,
            Message::Truncate { relations } => {
                // Each once, however often it is named: what is asked has the tables as its bound.
                for relation in relations.iter().collect::<BTreeSet<_>>() {
                    self.require(*relation, &mut question)?;
                }
            }
            Message::Begin { .. }
            | Message::Commit { .. }
            | Message::Relation(_)
            | Message::Type
            | Message::Origin
            | Message::Logical { .. } => {}
        }
        Ok(question)
    }

    fn require(&self, oid: u32, question: &mut Question) -> Result<(), Fault> {
        let entry = self.relations.get(&oid).ok_or_else(|| unknown(oid))?;
        let commit_lsn = self.open.as_ref().map(|open| open.transaction.commit_lsn);
        let is_past = entry.until.is_some_and(|until| commit_lsn > Some(until));
        if entry.table.is_none() || entry.stale || is_past {
            question.add(&entry.definition);
        }
        Ok(())
    }

    fn begin(&mut self, commit_lsn: Lsn, committed_at_us: i64, xid: u32) -> Result<(), Fault> {
        if self.open.is_some() {
            return Err(protocol("a transaction begins inside another"));
        }
        if commit_lsn <= self.last_commit {
            let last = self.last_commit;
            return Err(protocol(format!("commit {commit_lsn} comes after commit {last}")));
        }
        let committed_at_us = committed_at_us.saturating_add(EPOCH_US);
        let transaction = Arc::new(Transaction::new(commit_lsn, xid, committed_at_us));
        self.open = Some(Open { transaction, next_ordinal: 0, annotations: None });
        Ok(())
    }

    fn commit(&mut self, commit_lsn: Lsn, end_lsn: Lsn) -> Result<(), Fault> {
        let open = self.open.take().ok_or_else(outside)?;
        if open.transaction.commit_lsn != commit_lsn || end_lsn <= commit_lsn {
            return Err(protocol(format!(
                "the transaction that began for commit {} ends with commit {commit_lsn}, end {end_lsn}",
                open.transaction.commit_lsn
            )));
        }
        self.last_commit = commit_lsn;
        self.commits.push(Commit { commit_lsn, end_lsn });
        Ok(())
    }

    /// A definition comes before the first row of each table, after each change of it, but also
    /// after every invalidation of the server's cache: only a different one is a new version.
    fn define(&mut self, definition: Definition) {
        if let Some(entry) = self.relations.get_mut(&definition.oid)
            && entry.definition == definition
        {
            // It does not show that the table became a partition or is none any more, nor, under
            // other identities than the default, that the primary key changed.
            entry.stale = true;
            return;
        }
        let entry = Entry { table: None, stale: false, until: None, definition };
        self.relations.insert(entry.definition.oid, entry);
    }

    fn change(
        &mut self,
        operation: Operation,
        oid: u32,
        old: Option<Old<'_>>,
        new: Option<Tuple<'_>>,
    ) -> Result<(), Fault> {
        let open = self.open.as_mut().ok_or_else(outside)?;
        let table = self.relations.get_mut(&oid).and_then(|entry| entry.table.as_mut());
        let table = table.ok_or_else(|| unknown(oid))?;
        let (builder, scratch) = (&mut self.builder, &mut self.scratch);
        let before = match old {
            Some(Old::Key(tuple)) => {
                Some(row::write(builder, table, &tuple, Extent::Key, scratch)?)
            }
            Some(Old::Full(tuple)) => {
                Some(row::write(builder, table, &tuple, Extent::Full, scratch)?)
            }
            None => None,
        };
        let after = match new {
            Some(tuple) => Some(row::write(builder, table, &tuple, Extent::Full, scratch)?),
            None => None,
        };
        if let (Some(Old::Full(_)), Some(before), Some(after)) = (old, before, after) {
            fill(builder, before, after, table.forms.len());
        }
        let relation = Arc::clone(&table.relation);
        let transaction = Arc::clone(&open.transaction);
        builder.annotate(open.annotations.as_ref());
        builder.change(open.next_position(), operation, relation, transaction, before, after);
        Ok(())
    }

    /// A transactional message: it counts, whoever it is for, and those for us say what the
    /// changes behind it carry.
    fn annotate(&mut self, prefix: &[u8], content: &[u8]) -> Result<(), Fault> {
        let open = self.open.as_mut().ok_or_else(outside)?;
        let position = open.next_position();
        match prefix {
            annotations::SET => {
                open.annotations = annotations::read(content);
                if open.annotations.is_none()
                    && !std::mem::replace(&mut self.warned_annotations, true)
                {
                    tracing::warn!(
                        commit_lsn = %open.transaction.commit_lsn,
                        "transaction annotations are not JSON: the changes behind them are \
                         delivered without; said once for this connection"
                    );
                }
            }
            annotations::CLEAR => open.annotations = None,
            marks::PREFIX => {
                if let Some(text) = marks::read(content) {
                    let (before, xid) = (self.builder.len(), open.transaction.xid);
                    self.marks.push(Mark { position, before, xid, text });
                }
            }
            // Handed over with the commit that follows. One of another form is not for us.
            CLAIM => {
                let commit_lsn = open.transaction.commit_lsn;
                self.claims.extend(Claim::read(content).map(|claim| (commit_lsn, claim)));
            }
            _ => {}
        }
        Ok(())
    }
}

impl Entry {
    fn complete(&mut self, facts: &Facts, Lineage { ancestors, until }: Lineage) {
        let table = Table::new(&self.definition, facts, ancestors);
        (self.stale, self.until) = (false, until);
        // The same version stays the same object.
        if self.table.as_ref().is_none_or(|known| known.relation != table.relation) {
            self.table = Some(table);
        }
    }
}

/// Takes from the whole old row what was not sent of the new one: a value that did not change.
fn fill(builder: &mut Builder, before: RowSpan, after: RowSpan, columns: usize) {
    for index in 0..columns {
        if builder.cell(after, index) == Some(Cell::Unchanged)
            && let Some(cell) = builder.cell(before, index)
        {
            builder.set_cell(after, index, cell);
        }
    }
}

fn protocol(text: impl Into<String>) -> Fault {
    Fault::Protocol(text.into())
}

fn outside() -> Fault {
    protocol("a change, message or commit outside of a transaction")
}

fn unknown(oid: u32) -> Fault {
    protocol(format!("a change of table {oid}, which was not defined"))
}

#[cfg(test)]
mod tests;
