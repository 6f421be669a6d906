//! A write-ahead log in memory and its one slot.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use model::BoxFuture;
use model::change::{Operation, Transaction};
use model::lsn::Lsn;
use model::page::{Builder, Extent};
use model::position::Position;
use model::relation::{Column, Identity, Kind, Relation};
use model::source::{Changes, Commit, Connect, Event, Mark, Missing, Source, SourceError};
use tokio::sync::Notify;

use crate::status::Status;

/// Bytes between two commits of the fake log.
const STEP: u64 = 100;

/// The log and its slot; clones share it.
#[derive(Clone)]
pub(crate) struct Log {
    state: Arc<Mutex<State>>,
    more: Arc<Notify>,
    /// Of the transactions to come.
    relation: Arc<Mutex<Arc<Relation>>>,
    /// Of the engine that reads it.
    reader: Arc<Mutex<Option<Arc<Status>>>>,
}

#[derive(Default)]
struct State {
    transactions: Vec<(Arc<Relation>, Vec<Row>)>,
    /// The transactions that are marks, by their index.
    marks: HashMap<usize, Arc<str>>,
    /// Rows that were there before the log begins.
    preloaded: BTreeMap<u64, String>,
    confirmed: Lsn,
    /// Streams of it that are open.
    streams: usize,
    /// The stream breaks after this many more events, once.
    break_after: Option<usize>,
    /// The server cannot send this transaction.
    unsendable: Option<usize>,
    /// Somebody dropped the slot.
    dropped: bool,
    /// What the server has may be less than it had.
    is_standby: bool,
    /// How often another server took over.
    timeline: u32,
}

/// Updates of rows `from` and on, each a transaction of its own.
pub(crate) fn changes(rows: usize, from: u64) -> Vec<model::change::Change> {
    let log = Log::new();
    let keys = from..from + rows as u64;
    for key in 0..keys.end {
        log.commit(vec![Row::update(key, key)]);
    }
    let events = keys.filter_map(|index| log.event(usize::try_from(index).unwrap()));
    let changes = events.flat_map(|event| match event {
        Event::Changes(changes) => changes.changes,
        Event::Idle(_) => Vec::new(),
    });
    changes.collect()
}

/// One change: a key, a value, and what happens to it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) key: u64,
    pub(crate) value: String,
    pub(crate) operation: Operation,
    /// Whether the value is sent.
    pub(crate) sent: bool,
    /// Whether the value is null.
    pub(crate) is_null: bool,
    /// The old row, if it is sent: its key, and its value if it is all of it.
    pub(crate) before: Option<(u64, Option<String>)>,
}

impl Row {
    pub(crate) fn insert(key: u64, value: impl ToString) -> Self {
        Self { operation: Operation::Insert, ..Self::update(key, value) }
    }

    pub(crate) fn delete(key: u64) -> Self {
        let before = Some((key, None));
        Self { operation: Operation::Delete, before, ..Self::update(key, "") }
    }

    /// The key itself changes.
    pub(crate) fn moved(from: u64, to: u64, value: impl ToString) -> Self {
        Self { before: Some((from, None)), ..Self::update(to, value) }
    }

    pub(crate) fn update(key: u64, value: impl ToString) -> Self {
        let (value, operation) = (value.to_string(), Operation::Update);
        Self { key, value, operation, sent: true, is_null: false, before: None }
    }

    /// An update that did not touch the value.
    pub(crate) fn unsent(key: u64) -> Self {
        Self { sent: false, ..Self::update(key, "") }
    }

    /// Of the whole table: key and value mean nothing.
    pub(crate) fn truncate() -> Self {
        Self { operation: Operation::Truncate, ..Self::update(0, "") }
    }
}

impl Log {
    pub(crate) fn new() -> Self {
        let column = |name: &str, kind, key| {
            let type_name = "text".into();
            Column { name: name.into(), kind, type_name, key }
        };
        let relation = Relation {
            rendered: model::relation::Rendered::default(),
            oid: 1,
            schema: "public".into(),
            table: "t".into(),
            ancestors: Vec::new(),
            identity: Identity::Default,
            columns: vec![column("id", Kind::Integer, true), column("value", Kind::Text, false)],
        };
        let relation = Arc::new(Mutex::new(Arc::new(relation)));
        let reader = Arc::default();
        Self { state: Arc::default(), more: Arc::new(Notify::new()), relation, reader }
    }

    /// The next transactions are of another version of the table, or of another table.
    pub(crate) fn alter(&self, change: impl FnOnce(&mut Relation)) {
        let mut relation = self.relation.lock().unwrap();
        let mut next = (**relation).clone();
        next.rendered = model::relation::Rendered::default();
        change(&mut next);
        *relation = Arc::new(next);
    }

    /// Commits a transaction.
    pub(crate) fn commit(&self, rows: Vec<Row>) {
        let relation = Arc::clone(&self.relation.lock().unwrap());
        self.state.lock().unwrap().transactions.push((relation, rows));
        self.more.notify_waiters();
    }

    /// The LSN of the `index`th transaction's commit record.
    pub(crate) fn commit_lsn(index: usize) -> Lsn {
        Lsn((index as u64 + 1) * STEP)
    }

    /// The end of everything committed.
    pub(crate) fn end(&self) -> Lsn {
        let count = self.state.lock().unwrap().transactions.len() as u64;
        if count == 0 { Lsn::ZERO } else { Lsn(count * STEP + STEP / 2) }
    }

    pub(crate) fn confirmed(&self) -> Lsn {
        self.state.lock().unwrap().confirmed
    }

    /// It is read by this engine.
    pub(crate) fn is_read_by(&self, status: &Arc<Status>) {
        *self.reader.lock().unwrap() = Some(Arc::clone(status));
    }

    /// Whether a stream of it is open.
    pub(crate) fn is_read(&self) -> bool {
        self.state.lock().unwrap().streams > 0
    }

    /// Whether all is confirmed, and no sink owes anything.
    pub(crate) fn settled(&self) -> bool {
        let reader = self.reader.lock().unwrap();
        let slots = reader.as_ref().map(|status| status.slots.list()).unwrap_or_default();
        let mut sinks = slots.iter().flat_map(|slot| slot.sinks.list());
        let is_read = reader.is_some() && self.confirmed() == self.end();
        is_read && sinks.all(|sink| sink.caught_up.get() == 1)
    }

    pub(crate) fn break_after(&self, events: usize) {
        self.state.lock().unwrap().break_after = Some(events);
    }

    /// A standby that has only the first `keep` transactions takes over, with the slot as it is
    /// there, once the stream is opened again.
    pub(crate) fn fail_over(&self, keep: usize) {
        let mut state = self.state.lock().unwrap();
        state.transactions.truncate(keep);
        state.marks.retain(|index, _| *index < keep);
        state.timeline += 1;
        state.confirmed = state.confirmed.min(Self::commit_lsn(keep));
        state.break_after = Some(0);
        drop(state);
        self.more.notify_waiters();
    }

    /// Each stream breaks where this transaction is due, until it is none.
    pub(crate) fn break_at(&self, index: Option<usize>) {
        self.state.lock().unwrap().unsendable = index;
    }

    /// Somebody drops the slot and creates it again, or reads it to its end: the stream is opened
    /// again where the log ends.
    pub(crate) fn move_slot(&self) {
        let end = self.end();
        let mut state = self.state.lock().unwrap();
        state.confirmed = end;
        state.break_after = Some(0);
        drop(state);
        self.more.notify_waiters();
    }

    /// The server lost the latest confirmations in a crash.
    pub(crate) fn forget_confirmations(&self, confirmed: Lsn) {
        self.state.lock().unwrap().confirmed = confirmed;
    }

    /// Somebody drops the slot, and the stream with it.
    pub(crate) fn drop_slot(&self) {
        let mut state = self.state.lock().unwrap();
        state.dropped = true;
        state.break_after = Some(0);
        drop(state);
        self.more.notify_waiters();
    }

    /// The server is a standby that has the first `have` transactions, so far.
    pub(crate) fn restart_standby(&self, have: usize) -> Vec<Vec<Row>> {
        let mut state = self.state.lock().unwrap();
        state.is_standby = true;
        state.confirmed = state.confirmed.min(Self::commit_lsn(have));
        state.transactions.split_off(have).into_iter().map(|(_, rows)| rows).collect()
    }

    /// The server is restored from a backup that has only the first `keep` transactions.
    pub(crate) fn set_back(&self, keep: usize) {
        let mut state = self.state.lock().unwrap();
        state.transactions.truncate(keep);
        state.marks.retain(|index, _| *index < keep);
        state.confirmed = state.confirmed.min(Self::commit_lsn(keep));
    }

    fn event(&self, index: usize) -> Option<Event> {
        let (relation, rows) = self.state.lock().unwrap().transactions.get(index)?.clone();
        let commit_lsn = Self::commit_lsn(index);
        let transaction = Arc::new(Transaction::new(commit_lsn, xid(index), 0));
        let mut builder = Builder::default();
        for (ordinal, row) in (0..).zip(&rows) {
            let before = row.before.as_ref().map(|(key, value)| {
                let first = builder.begin_row();
                push(&mut builder, &key.to_string());
                match value {
                    Some(value) => push(&mut builder, value),
                    None => builder.null(),
                }
                let extent = if value.is_some() { Extent::Full } else { Extent::Key };
                builder.end_row(first, extent)
            });
            let first = builder.begin_row();
            push(&mut builder, &row.key.to_string());
            match (row.sent, row.is_null) {
                (false, _) => builder.unchanged(),
                (true, true) => builder.null(),
                (true, false) => push(&mut builder, &row.value),
            }
            let span = Some(builder.end_row(first, Extent::Full));
            let (before, after) = match row.operation {
                Operation::Delete => (before.or(span), None),
                Operation::Truncate => (None, None),
                Operation::Insert | Operation::Update | Operation::Read => (before, span),
            };
            let position = Position::new(commit_lsn, ordinal);
            let (relation, transaction) = (Arc::clone(&relation), Arc::clone(&transaction));
            builder.change(position, row.operation, relation, transaction, before, after);
        }
        let bytes = builder.bytes();
        let commits = vec![Commit { commit_lsn, end_lsn: Lsn(commit_lsn.0 + STEP / 2) }];
        let text = self.state.lock().unwrap().marks.get(&index).cloned();
        let position = Position::new(commit_lsn, 0);
        let mark = |text| Mark { position, before: 0, xid: xid(index), text };
        let (changes, marks) = (builder.finish(), text.map(mark).into_iter().collect());
        let claims = Vec::new();
        Some(Event::Changes(Changes { changes, commits, marks, claims, bytes }))
    }
}

/// Of the `index`th transaction.
pub(crate) fn xid(index: usize) -> u32 {
    u32::try_from(index).unwrap() + 10
}

/// The rows of a table, and the transactions that made them: how many there are, and which of them
/// are not shown.
pub(crate) struct Seen {
    pub(crate) relation: Arc<Relation>,
    pub(crate) rows: BTreeMap<u64, String>,
    pub(crate) count: usize,
    pub(crate) hidden: BTreeSet<usize>,
}

impl Log {
    /// These rows are there and were never in the log.
    pub(crate) fn preload(&self, rows: impl IntoIterator<Item = (u64, String)>) {
        self.state.lock().unwrap().preloaded.extend(rows);
    }

    /// How many transactions there are, marks included.
    pub(crate) fn count(&self) -> usize {
        self.state.lock().unwrap().transactions.len()
    }

    /// Somebody writes a mark.
    pub(crate) fn mark(&self, text: &str) {
        let mut state = self.state.lock().unwrap();
        let index = state.transactions.len();
        state.marks.insert(index, text.into());
        drop(state);
        self.commit(Vec::new());
    }

    /// The table as it is, as a reader sees it to whom all but the last `behind` transactions are
    /// shown, and none of `hidden`, nor what waited for those.
    pub(crate) fn see(&self, behind: usize, hidden: impl Fn(usize) -> bool) -> Seen {
        let relation = Arc::clone(&self.relation.lock().unwrap());
        let state = self.state.lock().unwrap();
        let count = state.transactions.len().saturating_sub(behind);
        let mut rows = state.preloaded.clone();
        let (mut not_shown, mut locked) = (BTreeSet::new(), BTreeSet::new());
        let mut all_locked = false;
        for (index, (_, changes)) in state.transactions.iter().take(count).enumerate() {
            let keys = |row: &Row| [Some(row.key), row.before.as_ref().map(|before| before.0)];
            let mut touched = changes.iter().flat_map(keys).flatten();
            let truncates = changes.iter().any(|row| row.operation == Operation::Truncate);
            let waits = all_locked || touched.any(|key| locked.contains(&key));
            if hidden(index) || (waits && !changes.is_empty()) || (truncates && !locked.is_empty())
            {
                not_shown.insert(index);
                locked.extend(changes.iter().flat_map(keys).flatten());
                all_locked |= truncates;
                continue;
            }
            changes.iter().for_each(|row| apply(&mut rows, row));
        }
        Seen { relation, rows, count, hidden: not_shown }
    }
}

/// What a change does to a table.
fn apply(rows: &mut BTreeMap<u64, String>, row: &Row) {
    if let Some((old, _)) = row.before {
        rows.remove(&old);
    }
    match row.operation {
        Operation::Delete => {
            rows.remove(&row.key);
        }
        Operation::Truncate => rows.clear(),
        Operation::Insert | Operation::Update | Operation::Read => {
            rows.insert(row.key, row.value.clone());
        }
    }
}

pub(super) fn push(builder: &mut Builder, text: &str) {
    let written: Result<(), ()> = builder.value(|out| {
        out.push_str(text);
        Ok(())
    });
    written.unwrap();
}

impl Log {
    /// All that was committed.
    pub(crate) fn changes(&self) -> Vec<model::change::Change> {
        let events = (0..).map_while(|index| self.event(index));
        let changes = events.flat_map(|event| match event {
            Event::Changes(changes) => changes.changes,
            Event::Idle(_) => Vec::new(),
        });
        changes.collect()
    }

    /// Whether the stream breaks now.
    fn breaks(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        let breaks = state.break_after == Some(0);
        if breaks {
            state.break_after = None;
        }
        breaks
    }

    /// One event less until it breaks.
    fn passed(&self) {
        let mut state = self.state.lock().unwrap();
        state.break_after = state.break_after.map(|events| events.saturating_sub(1));
    }
}

impl Connect for Log {
    fn connect(&self, missing: Missing) -> BoxFuture<'_, Result<Box<dyn Source>, SourceError>> {
        let dropped = std::mem::take(&mut self.state.lock().unwrap().dropped);
        if dropped && missing == Missing::Refuse {
            self.state.lock().unwrap().dropped = true;
            let (message, help) = ("the slot is gone".to_owned(), String::new());
            let error = SourceError::Definite { code: "slot_missing", message, help };
            return Box::pin(async { Err(error) });
        }
        let confirmed = self.confirmed();
        // The first transaction whose commit is not below the confirmed position.
        let next = (0..).find(|index| Self::commit_lsn(*index) >= confirmed).unwrap();
        let timeline = self.state.lock().unwrap().timeline;
        let origin = format!("fake/{timeline}/slot");
        self.state.lock().unwrap().streams += 1;
        let stream: Box<dyn Source> =
            Box::new(Stream { log: self.clone(), origin, next, began: confirmed });
        Box::pin(async move { Ok(stream) })
    }
}

struct Stream {
    log: Log,
    origin: String,
    next: usize,
    began: Lsn,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.log.state.lock().unwrap().streams -= 1;
    }
}

impl Source for Stream {
    fn origin(&self) -> &str {
        &self.origin
    }

    fn server_position(&self) -> Option<Lsn> {
        let is_standby = self.log.state.lock().unwrap().is_standby;
        (!is_standby).then(|| self.log.end())
    }

    fn slot_position(&self) -> Lsn {
        self.began
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Event, SourceError>> {
        Box::pin(async move {
            loop {
                let more = self.log.more.notified();
                if self.log.breaks() {
                    return Err(SourceError::Transient("cut".into()));
                }
                if self.log.state.lock().unwrap().unsendable == Some(self.next) {
                    let (message, help) = ("it cannot be sent".to_owned(), String::new());
                    let code = "row_too_large_for_server";
                    return Err(SourceError::Definite { code, message, help });
                }
                if let Some(event) = self.log.event(self.next) {
                    self.next += 1;
                    self.log.passed();
                    return Ok(event);
                }
                more.await;
            }
        })
    }

    fn confirm(&mut self, flushed: Lsn) {
        let mut state = self.log.state.lock().unwrap();
        // Nobody hears what is said into a broken stream.
        if state.break_after == Some(0) {
            return;
        }
        assert!(flushed >= state.confirmed, "the slot never moves back");
        state.confirmed = flushed;
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async { Ok(()) })
    }
}
