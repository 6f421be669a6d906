//! One run of a plugin for all sinks of a slot that use it.
//!
//! Sinks with the same component and configuration would have it judge the same rows again and
//! again. Here the first one that asks has the rows judged, and the outcomes are kept for the
//! others, until each has had them or there are too many. An outcome depends on nothing but its
//! row, so it is the same whoever asks; a row that was completed or enriched for one sink is that
//! sink's own, and so is every outcome of a plugin that is granted something.
//!
//! A sink that is behind the others finds nothing and pays for itself, as it would alone.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use model::BoxFuture;
use model::change::{Change, Transaction};
use model::plugin::{Cost, Outcome, Plugin, PluginError, Rows};
use model::position::Position;
use tokio::sync::Mutex;

use crate::spec::SinkSpec;

/// Outcomes that are kept at most; sinks that keep up with each other are some portions apart.
const OUTCOMES_MAX: usize = 8_192;

/// What kept documents may take, in bytes. It is little beside what the rows themselves take.
const BYTES_MAX: usize = 8 << 20;

type Judged = Result<Outcome, PluginError>;

/// Which row it is. A position alone would not do: after a promotion the new server may use it for
/// another row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    position: Position,
    xid: u32,
    committed_at_us: i64,
}

impl Key {
    fn of(change: &Change) -> Self {
        let Transaction { xid, committed_at_us, .. } = *change.transaction;
        Self { position: change.position, xid, committed_at_us }
    }
}

/// Puts one runner in the place of each plugin that several of these sinks use. Only those are shared
/// that see the row as it came: of a chain of transforms that is the first, whatever is behind it
/// sees what the chain of its sink made of the row.
pub(crate) fn share(sinks: &mut [SinkSpec]) {
    for role in [filters, routers, first_transform] {
        let mut users: HashMap<usize, usize> = HashMap::new();
        let shareable = |plugin: &&mut Arc<dyn Plugin>| plugin.is_deterministic();
        for plugin in sinks.iter_mut().flat_map(role).filter(shareable) {
            *users.entry(address(plugin)).or_default() += 1;
        }
        let mut shared: HashMap<usize, Arc<dyn Plugin>> = HashMap::new();
        for plugin in sinks.iter_mut().flat_map(role).filter(shareable) {
            let address = address(plugin);
            let users = users.get(&address).copied().unwrap_or(1);
            if users > 1 {
                let own = Arc::clone(plugin);
                let shared = shared.entry(address);
                *plugin = Arc::clone(shared.or_insert_with(|| Arc::new(Shared::new(own, users))));
            }
        }
    }
}

fn filters(sink: &mut SinkSpec) -> &mut [Arc<dyn Plugin>] {
    &mut sink.filters
}

fn routers(sink: &mut SinkSpec) -> &mut [Arc<dyn Plugin>] {
    &mut sink.routers
}

fn first_transform(sink: &mut SinkSpec) -> &mut [Arc<dyn Plugin>] {
    let first = sink.transforms.len().min(1);
    sink.transforms.split_at_mut(first).0
}

fn address(plugin: &Arc<dyn Plugin>) -> usize {
    Arc::as_ptr(plugin).cast::<()>().addr()
}

struct Shared {
    plugin: Arc<dyn Plugin>,
    users: usize,
    /// Held while the plugin runs: who asks for the same rows meanwhile waits for its outcomes.
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    outcomes: HashMap<Key, Entry>,
    /// In the order in which they came.
    order: VecDeque<Key>,
    bytes: usize,
}

struct Entry {
    judged: Judged,
    /// How many sinks have yet to ask.
    users: usize,
}

impl Shared {
    fn new(plugin: Arc<dyn Plugin>, users: usize) -> Self {
        Self { plugin, users, kept: Mutex::default() }
    }

    async fn judge(&self, rows: Rows) -> Vec<Judged> {
        let Rows { relation, changes } = rows;
        let mut kept = self.kept.lock().await;
        let mut judged: Vec<Option<Judged>> = changes
            .iter()
            .map(|change| if is_own(change) { None } else { kept.take(Key::of(change)) })
            .collect();
        let missing = || changes.iter().zip(&judged).filter(|(_, judged)| judged.is_none());
        let asked: Vec<Change> = missing().map(|(change, _)| change.clone()).collect();
        if !asked.is_empty() {
            let found = self.plugin.run(Rows { relation, changes: asked.clone() }).await;
            let mut found = found.into_iter();
            for (place, change) in judged.iter_mut().zip(&changes) {
                if place.is_none()
                    && let Some(outcome) = found.next()
                {
                    if !is_own(change) {
                        kept.keep(Key::of(change), &outcome, self.users - 1);
                    }
                    *place = Some(outcome);
                }
            }
        }
        judged.into_iter().map_while(|outcome| outcome).collect()
    }
}

/// Whether the row is not what other sinks see at its place.
fn is_own(change: &Change) -> bool {
    change.fetched.is_some() || change.enrichment.is_some()
}

impl Kept {
    fn take(&mut self, key: Key) -> Option<Judged> {
        let entry = self.outcomes.get_mut(&key)?;
        entry.users = entry.users.saturating_sub(1);
        if entry.users > 0 {
            return Some(entry.judged.clone());
        }
        let entry = self.outcomes.remove(&key)?;
        self.bytes = self.bytes.saturating_sub(bytes(&entry.judged));
        Some(entry.judged)
    }

    fn keep(&mut self, key: Key, judged: &Judged, users: usize) {
        self.bytes += bytes(judged);
        let entry = Entry { judged: judged.clone(), users };
        // One that is there already was asked for by a sink that reads the row again.
        if let Some(old) = self.outcomes.insert(key, entry) {
            self.bytes = self.bytes.saturating_sub(bytes(&old.judged));
        } else {
            self.order.push_back(key);
        }
        while (self.order.len() > OUTCOMES_MAX || self.bytes > BYTES_MAX)
            && let Some(oldest) = self.order.pop_front()
        {
            if let Some(old) = self.outcomes.remove(&oldest) {
                self.bytes = self.bytes.saturating_sub(bytes(&old.judged));
            }
        }
    }
}

/// What an outcome takes of its own. New columns belong to all rows of a call, and are counted with
/// none: they live no longer than the rows that are kept.
fn bytes(judged: &Judged) -> usize {
    match judged {
        Ok(Outcome::Replace(document)) => document.json.len(),
        Ok(Outcome::Many(documents)) => documents.iter().map(|document| document.json.len()).sum(),
        Ok(Outcome::Keep | Outcome::Drop | Outcome::Evict | Outcome::Set(_)) => 0,
        Err(error) => error.message.len(),
    }
}

impl Plugin for Shared {
    fn name(&self) -> &str {
        self.plugin.name()
    }

    fn digest(&self) -> &str {
        self.plugin.digest()
    }

    fn cost(&self) -> Option<Cost> {
        self.plugin.cost()
    }

    fn judges_deletes(&self) -> bool {
        self.plugin.judges_deletes()
    }

    fn run(&self, rows: Rows) -> BoxFuture<'_, Vec<Judged>> {
        Box::pin(self.judge(rows))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use model::plugin::Fault;

    use super::*;
    use crate::fake::log::{Log, Row};
    use crate::fake::plugin::{document, function};
    use crate::fake::sink::Recording;
    use crate::fake::{engine, run_until, sink_spec};

    const MIB: usize = 1 << 20;

    /// A plugin that counts, drops every third row and fails on every fifth.
    fn counting() -> (Arc<dyn Plugin>, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        let plugin = function(move |change| {
            counter.fetch_add(1, Ordering::Relaxed);
            let model::page::Value::Text(key) = change.row().unwrap().value(0) else { panic!() };
            match key.parse::<u64>().unwrap() {
                key if key % 5 == 0 => {
                    Err(PluginError { fault: Fault::Guest, message: "no".to_owned() })
                }
                key if key % 3 == 0 => Ok(Outcome::Drop),
                _ => Ok(Outcome::Replace(document("{\"id\": 1}"))),
            }
        });
        (plugin, count)
    }

    #[tokio::test(start_paused = true)]
    async fn twelve_sinks_with_one_plugin_have_each_row_judged_once() {
        let log = Log::new();
        for commit in 0..50 {
            log.commit((0..20).map(|n| Row::update(commit * 20 + n, n)).collect());
        }
        let (plugin, count) = counting();
        let sinks: Vec<_> = (0..12).map(|_| Recording::willing()).collect();
        let spec = |(n, sink)| {
            let mut spec = sink_spec(&format!("sink_{n}"), sink);
            spec.transforms = vec![Arc::clone(&plugin)];
            spec
        };
        let specs = sinks.iter().enumerate().map(spec).collect();
        let (engine, status, _) = engine(&log, specs, &Arc::default(), MIB);
        run_until(engine, || log.confirmed() == log.end()).await;
        assert_eq!(count.load(Ordering::Relaxed), 1_000);
        for (sink, status) in sinks.iter().zip(status.slots.list()[0].sinks.list()) {
            // Of 1,000 keys 200 are multiples of 5, and 267 more are multiples of 3.
            assert_eq!((sink.len(), status.buried.get(), status.filtered.get()), (533, 200, 267));
        }
    }

    #[tokio::test]
    async fn what_is_not_fetched_is_forgotten_in_time() {
        let (plugin, count) = counting();
        let shared = Shared::new(plugin, 2);
        let relation = Arc::clone(&crate::fake::log::changes(1, 0)[0].relation);
        let ask = async |from: u64, rows: usize| {
            let changes = crate::fake::log::changes(rows, from);
            assert_eq!(
                shared.judge(Rows { relation: Arc::clone(&relation), changes }).await.len(),
                rows
            );
            count.swap(0, Ordering::Relaxed)
        };
        assert_eq!(ask(0, 10).await, 10);
        assert_eq!(ask(5, 10).await, 5, "half of them are known");
        assert_eq!(ask(5, 5).await, 5, "and forgotten once both have them");
        for batch in 0..100 {
            ask(1_000 + batch * 100, 100).await;
        }
        let kept = shared.kept.lock().await;
        assert!(kept.order.len() <= OUTCOMES_MAX && kept.outcomes.len() <= OUTCOMES_MAX);
        drop(kept);
        assert_eq!(ask(0, 5).await, 5);
    }

    /// A promoted standby may use a position for another row.
    #[tokio::test]
    async fn a_row_of_another_server_at_the_same_position_is_judged_anew() {
        let (plugin, count) = counting();
        let shared = Shared::new(plugin, 2);
        let changes = crate::fake::log::changes(1, 0);
        let relation = Arc::clone(&changes[0].relation);
        let rows = |changes: Vec<Change>| Rows { relation: Arc::clone(&relation), changes };
        shared.judge(rows(changes.clone())).await;
        let mut other = changes;
        let commit_lsn = other[0].transaction.commit_lsn;
        other[0].transaction = Arc::new(Transaction::new(commit_lsn, 2, 0));
        shared.judge(rows(other)).await;
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }
}
