//! Where backfills and the slot's task meet: what the stream brought of the tables that are read, the
//! marks that are awaited, and the sinks as they are.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::backfill::Snapshot;
use model::change::{Change, Transaction};
use model::position::Position;
use tokio::sync::{Notify, Semaphore, oneshot};

use super::notes::Notes;
use crate::budget::{Charge, Share};
use crate::ledger::Ledger;
use crate::recorded::Recorded;
use crate::spec::SinkSpec;
use crate::status::SinkStatus;

/// Transactions that are remembered after they came in the stream: a page that is read first may not
/// show one that waits for a standby to confirm it.
const RECENT_MAX: usize = 65_536;

/// A sink as backfills see it.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) spec: Arc<SinkSpec>,
    pub(crate) status: Arc<SinkStatus>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) share: Arc<Share>,
}

/// A page that waits for its mark.
pub(super) struct OpenPage {
    pub(super) sink: Arc<str>,
    pub(super) oid: u32,
    /// Of the table's notes when the page was read.
    pub(super) generation: u64,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) key: Vec<Arc<str>>,
    /// The rows as changes that have no position yet, with their keys.
    pub(super) rows: Vec<(Change, String)>,
    /// How many rows it has lost to the stream.
    pub(super) evicted: u64,
    pub(super) bytes: usize,
    pub(super) charge: Charge,
}

/// What became of a page at its mark.
pub(super) enum Arrived {
    /// It was handed over.
    Handed(HandedPage),
    /// The sink had no room.
    NoRoom(Box<OpenPage>),
    /// What the stream brought meanwhile cannot be compared with it: it is to be read again.
    Invalid,
}

/// A page in the hands of its sink.
#[derive(Debug)]
pub(super) struct HandedPage {
    /// Positions and keys, rising.
    pub(super) rows: Vec<(Position, String)>,
    pub(super) evicted: u64,
}

enum Awaited {
    /// The transaction of the mark is wanted.
    Xid(oneshot::Sender<u32>),
    /// The page is to be handed over.
    Page(Box<OpenPage>, oneshot::Sender<Arrived>),
}

#[derive(Default)]
struct Table {
    notes: Notes,
    /// Who reads it, and the snapshot of the last page that each read.
    users: HashMap<u64, Option<Arc<Snapshot>>>,
    /// Rises when something is not known any more.
    generation: u64,
}

#[derive(Default)]
struct State {
    recent: VecDeque<u32>,
    tables: HashMap<u32, Table>,
    /// Marks by their text. Several may be for one.
    marks: HashMap<Arc<str>, u64>,
    awaited: HashMap<u64, Awaited>,
    sinks: HashMap<Arc<str>, View>,
    /// Rows of pages that sinks were handed.
    reads: HashMap<Arc<str>, u64>,
    /// See [`Registry::turns`].
    turns: HashMap<Arc<str>, Arc<Semaphore>>,
}

/// Shared by the task of one stream and the backfills that run beside it.
pub(crate) struct Registry {
    state: Mutex<State>,
    /// Something was settled or confirmed, or a sink is another.
    changed: Notify,
    /// A sink is another.
    sinks_changed: Notify,
    recorded: Arc<Recorded>,
    /// Tells our marks from those of others who read the same source.
    instance: u64,
    next: AtomicU64,
}

impl Registry {
    pub(crate) fn new(recorded: Arc<Recorded>) -> Arc<Self> {
        let instance = fastrand::Rng::new().u64(..);
        let (state, changed, sinks_changed) = (Mutex::default(), Notify::new(), Notify::new());
        let next = AtomicU64::new(1);
        Arc::new(Self { state, changed, sinks_changed, recorded, instance, next })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// This is the sink of its name from now on.
    pub(crate) fn set_sink(&self, view: View) {
        self.lock().sinks.insert(Arc::clone(&view.spec.name), view);
        self.changed.notify_waiters();
        self.sinks_changed.notify_waiters();
    }

    /// There is no such sink any more.
    pub(crate) fn remove_sink(&self, name: &str) {
        self.lock().sinks.remove(name);
        self.changed.notify_waiters();
        self.sinks_changed.notify_waiters();
    }

    /// Something was settled or confirmed.
    pub(crate) fn wake(&self) {
        self.changed.notify_waiters();
    }

    pub(super) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    pub(super) fn sinks_changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.sinks_changed.notified()
    }

    /// A page of this sink takes the only one, while changes of the stream come for the sink.
    pub(super) fn turns(&self, sink: &Arc<str>) -> Arc<Semaphore> {
        let mut state = self.lock();
        let turns = state.turns.entry(Arc::clone(sink));
        Arc::clone(turns.or_insert_with(|| Arc::new(Semaphore::new(1))))
    }

    /// A sink was handed so many rows of a page.
    pub(super) fn add_reads(&self, sink: &Arc<str>, rows: u64) {
        *self.lock().reads.entry(Arc::clone(sink)).or_default() += rows;
    }

    /// How many rows of pages a sink was handed.
    pub(super) fn reads(&self, sink: &str) -> u64 {
        self.lock().reads.get(sink).copied().unwrap_or(0)
    }

    pub(super) fn view(&self, sink: &str) -> Option<View> {
        self.lock().sinks.get(sink).cloned()
    }

    /// The slot's task has read these, and hands them over next.
    pub(crate) fn see(&self, changes: &[Change]) {
        let mut state = self.lock();
        let State { recent, tables, .. } = &mut *state;
        let mut last: Option<&Arc<Transaction>> = None;
        for change in changes {
            if last.is_none_or(|last| !Arc::ptr_eq(last, &change.transaction)) {
                last = Some(&change.transaction);
                if recent.back() != Some(&change.transaction.xid) {
                    if recent.len() >= RECENT_MAX {
                        recent.pop_front();
                    }
                    recent.push_back(change.transaction.xid);
                }
            }
            if tables.is_empty() {
                continue;
            }
            let ancestors = change.relation.ancestors.iter().map(|ancestor| ancestor.oid);
            for oid in std::iter::once(change.relation.oid).chain(ancestors) {
                let Some(table) = tables.get_mut(&oid) else { continue };
                table.notes.see(change);
                if table.notes.take_lost() {
                    table.generation += 1;
                }
            }
        }
    }

    /// Whether a mark of this text is awaited.
    pub(crate) fn awaits(&self, text: &str) -> bool {
        let state = self.lock();
        !state.awaited.is_empty() && state.marks.contains_key(text)
    }

    /// A mark has come. If a page waits for it: the page, without the rows that the stream had
    /// something newer of for its sink, and who is to be told.
    pub(super) fn arrive(&self, text: &str, xid: u32) -> Option<Judged> {
        let mut state = self.lock();
        let id = state.marks.remove(text)?;
        let awaited = state.awaited.remove(&id)?;
        state.marks.retain(|_, other| *other != id);
        let (mut page, reply) = match awaited {
            Awaited::Xid(reply) => {
                // Whoever asked may be gone.
                reply.send(xid).ok();
                return None;
            }
            Awaited::Page(page, reply) => (page, reply),
        };
        let table = state.tables.get(&page.oid);
        let judges = |table: &&Table| {
            table.generation == page.generation && table.notes.can_judge(&page.snapshot, &page.key)
        };
        let (Some(table), Some(view)) = (table.filter(judges), state.sinks.get(&page.sink)) else {
            reply.send(Arrived::Invalid).ok();
            return None;
        };
        if !table.notes.is_empty() {
            let snapshot = Arc::clone(&page.snapshot);
            // 158: what the sink is not told of in the stream must not take the row away.
            let wants = |operation| view.spec.selection.wants(operation);
            let before = page.rows.len();
            page.rows.retain(|(_, key)| !table.notes.is_stale(key, &snapshot, wants));
            page.evicted += (before - page.rows.len()) as u64;
        }
        Some(Judged { page, reply })
    }

    /// Notes what the stream brings of this table from now on, until the recording is dropped.
    pub(super) fn record(self: &Arc<Self>, oid: u32) -> Recording {
        let user = self.number();
        let mut state = self.lock();
        let before = state.recent.iter().copied().collect();
        let table = state.tables.entry(oid).or_default();
        table.users.insert(user, None);
        let generation = table.generation;
        drop(state);
        Recording { registry: Arc::clone(self), oid, user, generation, before }
    }

    /// The transaction of a mark is awaited.
    pub(super) fn await_xid(self: &Arc<Self>) -> (Waiting, oneshot::Receiver<u32>) {
        let (reply, answer) = oneshot::channel();
        (self.await_mark(Awaited::Xid(reply)), answer)
    }

    /// A page waits for its mark.
    pub(super) fn await_page(
        self: &Arc<Self>,
        page: Box<OpenPage>,
    ) -> (Waiting, oneshot::Receiver<Arrived>) {
        let (reply, answer) = oneshot::channel();
        (self.await_mark(Awaited::Page(page, reply)), answer)
    }

    fn await_mark(self: &Arc<Self>, awaited: Awaited) -> Waiting {
        let id = self.number();
        self.lock().awaited.insert(id, awaited);
        Waiting { registry: Arc::clone(self), id }
    }

    /// Whether something is open of what was handed over between these positions. What the change
    /// log has, and the slot is confirmed beyond, is not sent again by the source.
    pub(super) fn is_open(&self, sink: &str, first: Position, last: Position) -> bool {
        let Some(view) = self.view(sink) else { return true };
        let between = view.ledger.lock().between(first, last);
        between.open || (between.logged && self.recorded.get() <= last.commit_lsn)
    }
}

/// A page as it is handed over.
pub(super) struct Judged {
    pub(super) page: Box<OpenPage>,
    pub(super) reply: oneshot::Sender<Arrived>,
}

/// Somebody waits for a mark, until this is dropped.
pub(super) struct Waiting {
    registry: Arc<Registry>,
    id: u64,
}

impl Waiting {
    /// Whether nothing has come: nothing will, from here on.
    pub(super) fn withdraw(&self) -> bool {
        self.registry.lock().awaited.remove(&self.id).is_some()
    }

    /// The text of another mark that will do.
    pub(super) fn text(&self) -> Arc<str> {
        let Registry { instance, .. } = *self.registry;
        let text: Arc<str> = format!("{instance:016x}-{}", self.registry.number()).into();
        self.registry.lock().marks.insert(Arc::clone(&text), self.id);
        text
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.registry.lock();
        state.awaited.remove(&self.id);
        state.marks.retain(|_, id| *id != self.id);
    }
}

/// What the stream brings of a table is noted as long as this is there.
pub(super) struct Recording {
    registry: Arc<Registry>,
    pub(super) oid: u32,
    user: u64,
    pub(super) generation: u64,
    /// Transactions that came before.
    pub(super) before: Vec<u32>,
}

impl Recording {
    /// A page with this snapshot was read: what all readers of the table have in their pages is
    /// forgotten. False if it is not known any more what came since the recording began.
    pub(super) fn page(&self, snapshot: &Arc<Snapshot>) -> bool {
        let mut state = self.registry.lock();
        let Some(table) = state.tables.get_mut(&self.oid) else { return false };
        table.users.insert(self.user, Some(Arc::clone(snapshot)));
        let floors: Option<Vec<&Snapshot>> = table.users.values().map(Option::as_deref).collect();
        if let Some(floors) = floors {
            table.notes.forget(&floors);
        }
        table.generation == self.generation
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let mut state = self.registry.lock();
        if let Some(table) = state.tables.get_mut(&self.oid) {
            table.users.remove(&self.user);
            if table.users.is_empty() {
                state.tables.remove(&self.oid);
            }
        }
    }
}
