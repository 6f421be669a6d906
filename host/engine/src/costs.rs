//! What the functions of a sink cost: per function and version of it, counted where the sink's intake
//! calls them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::change::Change;
use model::page::Row;
use model::plugin::{Cost, Data, Fault, Outcome, Patch, Plugin, PluginError};

use crate::status::{Counter, Histogram};

/// Versions that are remembered of one sink; with more, those that were called least are forgotten.
const VERSIONS_MAX: usize = 32;

/// All kinds of failures, in the order of [`Calls::faults`].
pub const FAULTS: [Fault; 6] =
    [Fault::Trap, Fault::Deadline, Fault::Memory, Fault::Output, Fault::Guest, Fault::Host];

/// By function and digest.
type ByVersion = BTreeMap<(Arc<str>, Arc<str>), Arc<Calls>>;

/// The functions of one sink.
#[derive(Debug, Default)]
pub struct Costs(Mutex<ByVersion>);

/// One version of one function, as one sink calls it.
#[derive(Debug, Default)]
pub struct Calls {
    /// Calls; rows that sinks judge together are counted with who asked first.
    pub calls: Counter,
    /// Rows of these calls.
    pub rows: Counter,
    /// Rows that were dropped or evicted.
    pub dropped: Counter,
    /// Rows that failed, by [`FAULTS`].
    pub faults: [Counter; FAULTS.len()],
    /// How long calls took by the clock, waiting for a thread included.
    pub took: Histogram,
    /// Bytes of the rows.
    pub bytes_in: Counter,
    /// Bytes of what came back.
    pub bytes_out: Counter,
    /// What it used by itself, by whomever it was called.
    used: Mutex<Option<Cost>>,
}

impl Costs {
    /// Function, digest and numbers of each.
    #[must_use]
    pub fn list(&self) -> Vec<(Arc<str>, Arc<str>, Arc<Calls>)> {
        let known = self.lock();
        let entry = |((function, digest), calls): (&(Arc<str>, Arc<str>), &Arc<Calls>)| {
            (Arc::clone(function), Arc::clone(digest), Arc::clone(calls))
        };
        known.iter().map(entry).collect()
    }

    /// Counts a call.
    pub(crate) fn add(&self, plugin: &dyn Plugin, call: &Call<'_>) {
        let calls = self.of(plugin);
        calls.calls.add(1);
        calls.rows.add(call.outcomes.len() as u64);
        calls.took.observe(call.took);
        calls.bytes_in.add(call.bytes_in as u64);
        let mut bytes_out = 0;
        for outcome in call.outcomes {
            match outcome {
                Ok(Outcome::Drop | Outcome::Evict) => calls.dropped.add(1),
                Ok(outcome) => bytes_out += bytes(outcome),
                Err(error) => {
                    let kinds = FAULTS.iter().zip(&calls.faults);
                    for (_, count) in kinds.filter(|(kind, _)| **kind == error.fault) {
                        count.add(1);
                    }
                }
            }
        }
        calls.bytes_out.add(bytes_out as u64);
        *calls.used.lock().unwrap_or_else(PoisonError::into_inner) = plugin.cost();
    }

    fn of(&self, plugin: &dyn Plugin) -> Arc<Calls> {
        let mut known = self.lock();
        let is_it = |(function, digest): &&(Arc<str>, Arc<str>)| {
            **function == *plugin.name() && **digest == *plugin.digest()
        };
        if let Some(key) = known.keys().find(is_it)
            && let Some(calls) = known.get(key)
        {
            return Arc::clone(calls);
        }
        if known.len() >= VERSIONS_MAX {
            let least = known.iter().min_by_key(|(_, calls)| calls.rows.get());
            if let Some(key) = least.map(|(key, _)| key.clone()) {
                known.remove(&key);
            }
        }
        let key = (plugin.name().into(), plugin.digest().into());
        Arc::clone(known.entry(key).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, ByVersion> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Calls {
    /// What it used by itself, by whomever it was called; None if that is not counted.
    #[must_use]
    pub fn used(&self) -> Option<Cost> {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call of a plugin.
pub(crate) struct Call<'a> {
    pub(crate) took: Duration,
    pub(crate) bytes_in: usize,
    pub(crate) outcomes: &'a [Result<Outcome, PluginError>],
}

/// The bytes of rows.
pub(crate) fn bytes_in(changes: &[Change]) -> usize {
    changes.iter().filter_map(Change::row).map(Row::bytes).sum()
}

/// The bytes of what a plugin gave, about.
pub(crate) fn bytes(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Keep | Outcome::Drop | Outcome::Evict => 0,
        Outcome::Set(patch) => patch.set().map(|column| value_bytes(patch, &column.data)).sum(),
        Outcome::Replace(document) => document.json.len(),
        Outcome::Many(documents) => documents.iter().map(|document| document.json.len()).sum(),
    }
}

fn value_bytes(patch: &Patch, data: &Data) -> usize {
    let row = patch.row;
    match data {
        Data::Booleans(_) => 1,
        Data::Integers(_) | Data::Floats(_) => 8,
        Data::Texts(texts) | Data::Json(texts) => texts.get(row).map_or(0, String::len),
        Data::Bytes(bytes) => bytes.get(row).map_or(0, Vec::len),
        Data::PackedTexts(texts) | Data::PackedJson(texts) => texts.get(row).map_or(0, str::len),
    }
}
