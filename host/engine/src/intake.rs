//! From changes to messages: complete, enrich, filter, route, transform, encode, for one sink.
//!
//! It never waits for the destination, only for plugins (bounded by their deadlines), when a row must
//! be put aside for the store, and when the source is asked for values or about rows. Deletes pass
//! the filters unseen: a row that is gone is gone. Truncates pass all plugins: they have no row to
//! look at, and go where the sink sends everything.

use std::sync::Arc;

use model::change::{Change, Operation};
use model::message::Message;
use model::plugin::{Fault, Plugin, PluginError};
use model::route::Route;
use model::store::Letter;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::budget::{Budget, Charge, Share, ShareCharge, WakeOnDrop};
use crate::bury::Burial;
use crate::complete::complete;
use crate::derive::Shapes;
use crate::encode;
use crate::enrich::{self, Asked};
use crate::fan_out::Portion;
use crate::grouping::{self, Doubt};
use crate::ledger::Ledger;
use crate::rollout::{Rolled, Rollouts, Seat};
use crate::router::Routes;
use crate::spec::SinkSpec;
use crate::status::SinkStatus;
use crate::trace::Happened;

/// Rows of one call to a plugin: from here on larger calls gain nothing (256 is the flat part of
/// what was measured), and the memory of a call stays small.
const ROWS_MAX: usize = 256;

/// What a message takes beside itself, about: its entry in the lanes, in its groups' queues and in the
/// ledger.
pub(crate) const BESIDE_BYTES: usize = 384;

/// Rows come without large values. The predecessor's word.
const UNSENT: &str = "toast_columns_detected";

/// Messages on their way to the lanes.
pub(crate) struct Admitted {
    /// When the slot read their changes.
    pub(crate) read_at: Instant,
    pub(crate) messages: Vec<(Arc<Message>, (Charge, ShareCharge))>,
}

/// Everything the intake of one sink works with.
pub(crate) struct Intake {
    pub(crate) spec: Arc<SinkSpec>,
    pub(crate) status: Arc<SinkStatus>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) share: Arc<Share>,
    pub(crate) burial: Burial,
    pub(crate) portions: mpsc::Receiver<Portion>,
    pub(crate) lanes: mpsc::Sender<Admitted>,
    /// What comes is live: it is no replay.
    pub(crate) is_live: bool,
    pub(crate) routes: Routes,
    pub(crate) shapes: Shapes,
    pub(crate) rollouts: Rollouts,
    pub(crate) seat: Seat,
    /// What lies over the chain for the rows that are being taken in.
    pub(crate) rolled: Arc<Rolled>,
    /// Last, so that it is dropped after the queue: the slot may be waiting for a place in it.
    pub(crate) _gone: WakeOnDrop,
}

/// A row that goes on.
pub(crate) struct Passed {
    pub(crate) change: Change,
    /// It is outside the set.
    pub(crate) evicted: bool,
    /// Where it is sent; None: where the sink sends everything.
    pub(crate) route: Option<Arc<Route>>,
    /// The plugins that were asked about it, in their order.
    pub(crate) judges: Vec<Arc<dyn Plugin>>,
}

impl Passed {
    pub(crate) fn new(change: Change) -> Self {
        Self { change, evicted: false, route: None, judges: Vec::new() }
    }
}

impl Intake {
    /// Works until cancelled or until the slot or the delivery is gone. What was not finished stays
    /// open in the ledger.
    pub(crate) async fn run(mut self, cancelled: CancellationToken) {
        let work = async {
            enrich::check(&self.spec, &self.status).await;
            while let Some(portion) = self.portions.recv().await {
                // A place in the queue is free: the slot may wait for it.
                self.budget.wake();
                if !self.take_in(portion).await {
                    break;
                }
            }
        };
        tokio::select! {
            biased;
            () = cancelled.cancelled() => {}
            () = work => {}
        }
    }

    /// False if the delivery is gone.
    async fn take_in(&mut self, portion: Portion) -> bool {
        let handed = &portion.held.handed;
        let read_at = handed.read_at;
        let changes = portion.picks.iter().filter_map(|index| handed.changes.get(*index));
        let mut run: Vec<Change> = Vec::new();
        for change in changes {
            let same = run.last().is_none_or(|last| Arc::ptr_eq(&last.relation, &change.relation));
            if (!same || run.len() == ROWS_MAX)
                && !self.take_in_run(std::mem::take(&mut run), read_at).await
            {
                return false;
            }
            run.push(change.clone());
        }
        run.is_empty() || self.take_in_run(run, read_at).await
    }

    /// One run of changes of the same relation version.
    async fn take_in_run(&mut self, changes: Vec<Change>, read_at: Instant) -> bool {
        // Else all that comes would be put aside like what came before.
        self.status.trip.clear().await;
        let (admitted, letters) = self.make(changes, read_at).await;
        if !letters.is_empty() {
            let positions: Vec<_> = letters.iter().map(|letter| letter.position).collect();
            self.burial.bury(letters).await;
            self.ledger.settle(positions);
        }
        admitted.messages.is_empty() || self.lanes.send(admitted).await.is_ok()
    }

    /// The messages of changes of one relation version, and the letters of those that have none.
    pub(crate) async fn make(
        &mut self,
        changes: Vec<Change>,
        read_at: Instant,
    ) -> (Admitted, Vec<Letter>) {
        changes.iter().for_each(|change| self.status.trace.input(&self.spec, change));
        if let Some(first) = changes.first() {
            let origin = &self.burial.origin;
            let over = self.rollouts.over(&self.seat, &self.status, origin, first.position);
            self.rolled = Arc::new(over.await);
        }
        let mut letters: Vec<Letter> = Vec::new();
        // Held until the messages are charged for themselves.
        let (changes, _charges) = match &self.spec.lookup {
            None => {
                self.tell_unsent(&changes);
                (changes, Vec::new())
            }
            Some(lookup) => {
                let (spec, status) = (&self.spec, &self.status);
                complete(lookup.as_ref(), changes, spec, status, &self.budget).await
            }
        };
        self.tell_order(&changes);
        let Asked { changes, refused, charge: _charge } =
            enrich::enrich(changes, &self.spec, &self.status, &self.budget).await;
        let refused = self.refused(refused, &mut letters).await;
        self.status.tap.show(&self.spec, &changes);
        let filtered = self.filter(changes, &mut letters).await;
        let routed = self.route(filtered, &mut letters).await;
        let mut decided = self.transform(routed, &mut letters).await;
        self.rolled.judge(&self.rollouts).await;
        if !refused.is_empty() {
            decided.extend(refused);
            decided.sort_by_key(|decided| decided.change.position);
        }
        let mut admitted = Admitted { read_at, messages: Vec::new() };
        for decided in decided {
            match encode::messages(&self.spec, &decided) {
                Ok(messages) if messages.is_empty() && decided.failed => {}
                Ok(messages) if messages.is_empty() => self.skip(&decided.change),
                Ok(messages) => {
                    // The letter of a failed removal settles by itself.
                    let parts = messages.len() + usize::from(decided.failed);
                    if parts > 1 {
                        let parts = u32::try_from(parts).unwrap_or(u32::MAX);
                        self.ledger.lock().split(decided.change.position, parts);
                    }
                    for message in encode::shared(messages) {
                        self.status.trace.output(&message);
                        let bytes = message.bytes() + BESIDE_BYTES;
                        let charges = (self.budget.charge(bytes), self.share.charge(bytes));
                        admitted.messages.push((message, charges));
                    }
                }
                Err(_) if decided.failed => {}
                Err(error) => {
                    let input = encode::input(&self.spec, &decided.change);
                    let change = &decided.change;
                    let (reason, text) = (error.reason(), error.to_string());
                    letters.push(self.burial.letter(change, input, reason, text));
                }
            }
        }
        for letter in &letters {
            let text = format!("{}: {}", letter.reason, letter.error);
            self.status.trace.tell(letter.position, || Happened::Nothing(text));
        }
        (admitted, letters)
    }

    /// Says once per table that rows of it come without values that were not sent: whoever reads
    /// them has to know.
    fn tell_unsent(&self, changes: &[Change]) {
        let unsent = |change: &&Change| change.unsent().next().is_some();
        let Some(change) = changes.iter().find(unsent) else { return };
        self.status.rows_unsent.add(changes.iter().filter(unsent).count() as u64);
        let relation = &change.relation;
        let table = format!("{}.{}", relation.schema, relation.table);
        let named = |index: usize| relation.columns.get(index).map(|column| &*column.name);
        let columns: Vec<&str> = change.unsent().filter_map(named).collect();
        let problem = format!(
            "updates of {table} come without large values that they did not touch ({}); the \
             messages name them in `unchanged`. To have them: REPLICA IDENTITY FULL on the table, or \
             `unchanged_values: fetch` on the sink",
            columns.join(", ")
        );
        if self.status.warnings.raise(UNSENT, &table, problem.clone()) {
            warn!(sink.name = %self.spec.name, code = UNSENT, problem, "said once for this table");
        }
    }

    /// Says once per table what is not known of the order of its rows.
    fn tell_order(&self, changes: &[Change]) {
        let warnings = &self.status.warnings;
        match self.spec.grouping.doubt(changes) {
            Doubt::Unasked => {}
            Doubt::None { table } => {
                warnings.clear(grouping::MISSING, &table);
                warnings.clear(grouping::UNKNOWN, &table);
            }
            Doubt::Is { code, table, problem } => {
                if warnings.raise(code, &table, problem.clone()) {
                    warn!(sink.name = %self.spec.name, code, problem, "said once for this table");
                }
            }
        }
    }

    /// A plugin decided that there is nothing to deliver.
    pub(crate) fn skip(&self, change: &Change) {
        self.status.filtered.add(1);
        self.status.trip.passed(self.spec.letter_limit, 1);
        let dropped = || Happened::Nothing("a function dropped it".to_owned());
        self.status.trace.tell(change.position, dropped);
        self.ledger.settle([change.position]);
    }

    pub(crate) fn failed(
        &self,
        change: &Change,
        plugin: &dyn Plugin,
        error: &PluginError,
        letters: &mut Vec<Letter>,
    ) {
        self.status.plugin_failures.add(1);
        letters.push(self.burial.plugin_letter(change, plugin, error));
    }
}

/// Whether there is a row that a plugin could look at.
pub(crate) fn has_row(change: &Change) -> bool {
    change.operation != Operation::Truncate
}

pub(crate) fn contract(message: &str) -> PluginError {
    PluginError { fault: Fault::Output, message: message.to_owned() }
}

pub(crate) fn missing() -> PluginError {
    contract("the plugin host returned fewer results than rows")
}
