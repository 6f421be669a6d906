//! From changes to messages: complete, enrich, filter, transform, encode, for one sink.
//!
//! It never waits for the destination, only for plugins (bounded by their deadlines), when a row must
//! be put aside for the store, and when the source is asked for values or about rows. Deletes pass the filter unseen: a row that is gone is gone.
//! Truncates pass all plugins: they have no row to look at.

use std::sync::Arc;

use model::change::{Change, Operation};
use model::message::Message;
use model::plugin::{Outcome, Plugin, PluginError, Rows};
use model::sink::SinkKind;
use model::store::Letter;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::budget::{Budget, Charge, WakeOnDrop};
use crate::bury::Burial;
use crate::complete::complete;
use crate::encode::{self, Decided};
use crate::enrich::{self, Asked};
use crate::fan_out::Portion;
use crate::grouping::{self, Doubt};
use crate::ledger::Ledger;
use crate::spec::SinkSpec;
use crate::status::SinkStatus;

/// Rows of one call to a plugin: from here on larger calls gain nothing (256 is the flat part of
/// what was measured), and the memory of a call stays small.
const ROWS_MAX: usize = 256;

/// Rows come without large values. The predecessor's word.
const UNSENT: &str = "toast_columns_detected";

/// Messages on their way to the lanes.
pub(crate) type Admitted = Vec<(Arc<Message>, Charge)>;

/// Everything the intake of one sink works with.
pub(crate) struct Intake {
    pub(crate) spec: Arc<SinkSpec>,
    pub(crate) status: Arc<SinkStatus>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) burial: Burial,
    pub(crate) portions: mpsc::Receiver<Portion>,
    pub(crate) lanes: mpsc::Sender<Admitted>,
    /// Last, so that it is dropped after the queue: the slot may be waiting for a place in it.
    pub(crate) _gone: WakeOnDrop,
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
    async fn take_in(&self, portion: Portion) -> bool {
        let changes = portion.picks.iter().filter_map(|index| portion.handed.changes.get(*index));
        let mut run: Vec<Change> = Vec::new();
        for change in changes {
            let same = run.last().is_none_or(|last| Arc::ptr_eq(&last.relation, &change.relation));
            if (!same || run.len() == ROWS_MAX) && !self.take_in_run(std::mem::take(&mut run)).await
            {
                return false;
            }
            run.push(change.clone());
        }
        run.is_empty() || self.take_in_run(run).await
    }

    /// One run of changes of the same relation version.
    async fn take_in_run(&self, changes: Vec<Change>) -> bool {
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
        let filtered = self.filter(changes, &mut letters).await;
        let mut decided = self.transform(filtered, &mut letters).await;
        if !refused.is_empty() {
            decided.extend(refused);
            decided.sort_by_key(|decided| decided.change.position);
        }
        let mut admitted: Admitted = Vec::new();
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
                        let charge = self.budget.charge(message.bytes());
                        admitted.push((message, charge));
                    }
                }
                Err(_) if decided.failed => {}
                Err(error) => {
                    let input = encode::input(&self.spec, &decided.change);
                    let change = &decided.change;
                    letters.push(self.burial.letter(
                        change,
                        input,
                        "no_document",
                        error.to_string(),
                    ));
                }
            }
        }
        if !letters.is_empty() {
            let positions: Vec<_> = letters.iter().map(|letter| letter.position).collect();
            self.burial.bury(letters).await;
            self.ledger.settle(positions);
        }
        admitted.is_empty() || self.lanes.send(admitted).await.is_ok()
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

    /// Letters for rows that the source refused to say anything about. What has to go of them goes
    /// all the same, beside the letter: deleted rows, and those that the filter finds outside the set
    /// without what the source would have said.
    async fn refused(
        &self,
        refused: Vec<(Change, String)>,
        letters: &mut Vec<Letter>,
    ) -> Vec<Decided> {
        let (mut removals, mut judged) = (Vec::new(), Vec::new());
        for (change, error) in refused {
            let input = encode::input(&self.spec, &change);
            letters.push(self.burial.letter(&change, input, "enrichment", error));
            if is_judged(&change) {
                judged.push(change);
            } else {
                removals.push((change, false));
            }
        }
        if self.spec.sink.kind() == SinkKind::Log {
            return Vec::new();
        }
        if let Some(plugin) = &self.spec.filter {
            let outcomes = call(plugin.as_ref(), judged.clone()).await;
            let evicted = judged.into_iter().zip(outcomes);
            let evicted = evicted.filter(|(_, judged)| matches!(judged, Ok(Outcome::Evict)));
            removals.extend(evicted.map(|(change, _)| (change, true)));
        }
        let removal = |(change, evicted)| {
            let removal = Decided::new(change, evicted, Outcome::Keep);
            Decided { failed: true, ..removal }
        };
        removals.into_iter().map(removal).collect()
    }

    /// What passes the filter, and whether it was found outside the set.
    async fn filter(&self, changes: Vec<Change>, letters: &mut Vec<Letter>) -> Vec<(Change, bool)> {
        let Some(plugin) = &self.spec.filter else {
            return changes.into_iter().map(|change| (change, false)).collect();
        };
        let judged = changes.iter().filter(|change| is_judged(change));
        let mut outcomes = call(plugin.as_ref(), judged.cloned().collect()).await.into_iter();
        let mut passed = Vec::with_capacity(changes.len());
        for change in changes {
            if !is_judged(&change) {
                passed.push((change, false));
                continue;
            }
            match outcomes.next().unwrap_or_else(|| Err(missing())) {
                Ok(Outcome::Keep) => passed.push((change, false)),
                // A log has no state that the row could leave.
                Ok(Outcome::Evict) if self.spec.sink.kind() == SinkKind::Log => self.skip(&change),
                Ok(Outcome::Evict) => passed.push((change, true)),
                Ok(Outcome::Drop) => self.skip(&change),
                Ok(Outcome::Set(_) | Outcome::Replace(_) | Outcome::Many(_)) => {
                    let error = contract("a filter may only keep, drop or evict");
                    self.failed(&change, plugin.as_ref(), &error, letters);
                }
                Err(error) => self.failed(&change, plugin.as_ref(), &error, letters),
            }
        }
        passed
    }

    async fn transform(
        &self,
        filtered: Vec<(Change, bool)>,
        letters: &mut Vec<Letter>,
    ) -> Vec<Decided> {
        let Some(plugin) = &self.spec.transform else {
            let keep = |(change, evicted)| Decided::new(change, evicted, Outcome::Keep);
            return filtered.into_iter().map(keep).collect();
        };
        let rows = filtered.iter().map(|(change, _)| change).filter(|change| has_row(change));
        let mut outcomes = call(plugin.as_ref(), rows.cloned().collect()).await.into_iter();
        let mut decided = Vec::with_capacity(filtered.len());
        for (change, evicted) in filtered {
            if !has_row(&change) {
                decided.push(Decided::new(change, evicted, Outcome::Keep));
                continue;
            }
            match outcomes.next().unwrap_or_else(|| Err(missing())) {
                Ok(outcome) => decided.push(Decided::new(change, evicted, outcome)),
                Err(error) => {
                    self.failed(&change, plugin.as_ref(), &error, letters);
                    // A transform must not keep a document alive that has to go: it goes by the
                    // row's own id, beside the letter.
                    let removes = evicted || change.operation == Operation::Delete;
                    if removes && self.spec.sink.kind() == SinkKind::State {
                        let removal = Decided::new(change, evicted, Outcome::Keep);
                        decided.push(Decided { failed: true, ..removal });
                    }
                }
            }
        }
        decided
    }

    /// A plugin decided that there is nothing to deliver.
    fn skip(&self, change: &Change) {
        self.status.filtered.add(1);
        self.ledger.settle([change.position]);
    }

    fn failed(
        &self,
        change: &Change,
        plugin: &dyn Plugin,
        error: &PluginError,
        letters: &mut Vec<Letter>,
    ) {
        self.status.plugin_failures.add(1);
        letters.push(self.burial.plugin_letter(change, plugin.digest(), error));
    }
}

/// Whether the filter is asked.
fn is_judged(change: &Change) -> bool {
    has_row(change) && change.operation != Operation::Delete
}

/// Whether there is a row that a plugin could look at.
fn has_row(change: &Change) -> bool {
    change.operation != Operation::Truncate
}

/// Runs a plugin over changes of one relation version.
async fn call(plugin: &dyn Plugin, changes: Vec<Change>) -> Vec<Result<Outcome, PluginError>> {
    let Some(first) = changes.first() else { return Vec::new() };
    let relation = Arc::clone(&first.relation);
    plugin.run(Rows { relation, changes }).await
}

fn contract(message: &str) -> PluginError {
    PluginError { fault: model::plugin::Fault::Output, message: message.to_owned() }
}

fn missing() -> PluginError {
    contract("the plugin host returned fewer results than rows")
}
