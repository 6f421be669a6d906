//! What the engine shows of itself: counters and states, read by the console, the API and metrics.
//!
//! Writing never waits for a reader.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::position::Position;
use model::source::{Held, Seen};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::budget::Budget;
use crate::costs::Costs;
use crate::health::Health;
use crate::tap::Tap;
use crate::trace::Trace;
use crate::trip::Trip;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The sum so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that is set.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets it.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Its value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A time that something is waited for until, if anything is.
#[derive(Debug, Default)]
pub struct Due(Mutex<Option<Instant>>);

impl Due {
    /// Sets it.
    pub fn set(&self, due: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = due;
    }

    /// How long it is until then: nothing if the time is over.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let due = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        due.map(|due| due.saturating_duration_since(Instant::now()))
    }
}

/// What is known of a destination: requests go, or one message at a time is tried.
#[derive(Debug, Default)]
pub struct BreakerStatus(Mutex<Option<Away>>);

/// A destination is away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Away {
    /// Since when.
    pub since: Instant,
    /// What the last request met.
    pub error: String,
    /// When the next message is tried.
    pub next_probe: Option<Instant>,
    /// One is being tried now: the breaker is half open.
    pub is_probing: bool,
}

impl BreakerStatus {
    /// None while requests go: the breaker is closed.
    #[must_use]
    pub fn get(&self) -> Option<Away> {
        self.away().clone()
    }

    pub(crate) fn open(&self, error: &str) {
        let (since, error) = (Instant::now(), error.to_owned());
        *self.away() = Some(Away { since, error, next_probe: None, is_probing: false });
    }

    pub(crate) fn close(&self) {
        *self.away() = None;
    }

    pub(crate) fn failed(&self, error: &str) {
        if let Some(away) = &mut *self.away() {
            error.clone_into(&mut away.error);
        }
    }

    pub(crate) fn next(&self, next_probe: Option<Instant>, is_probing: bool) {
        if let Some(away) = &mut *self.away() {
            (away.next_probe, away.is_probing) = (next_probe, is_probing);
        }
    }

    fn away(&self) -> std::sync::MutexGuard<'_, Option<Away>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A text that may be absent: the last error, or why something stands still.
#[derive(Debug, Default)]
pub struct Note(Mutex<Option<String>>);

impl Note {
    /// Replaces the text.
    pub fn set(&self, text: impl Into<Option<String>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text.into();
    }

    /// The text.
    #[must_use]
    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Upper bounds of a [`Histogram`]'s classes, in microseconds: the predecessor's.
pub const LATENCIES_US: [u64; 11] = [
    10, 100, 1_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000, 10_000_000, 50_000_000,
];

/// How long things took.
#[derive(Debug, Default)]
pub struct Histogram {
    classes: [AtomicU64; LATENCIES_US.len()],
    count: AtomicU64,
    sum_us: AtomicU64,
}

impl Histogram {
    /// Counts one.
    pub fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let class = LATENCIES_US.partition_point(|bound| *bound < us);
        if let Some(class) = self.classes.get(class) {
            class.fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// How many there were of at most each of [`LATENCIES_US`].
    #[must_use]
    pub fn cumulative(&self) -> [u64; LATENCIES_US.len()] {
        let mut sum = 0;
        self.classes.each_ref().map(|class| {
            sum += class.load(Ordering::Relaxed);
            sum
        })
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// All together, in microseconds.
    #[must_use]
    pub fn sum_us(&self) -> u64 {
        self.sum_us.load(Ordering::Relaxed)
    }
}

/// Why a slot has no stream, or a sink was not started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Stable name of the condition.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do about it; empty if that is only to wait.
    pub help: String,
}

impl Fault {
    /// The code of what passes by itself once the server is back.
    pub const UNREACHED: &str = "unreachable";

    /// The server cannot be reached, or does not serve now.
    #[must_use]
    pub fn unreached(message: String) -> Self {
        Self { code: Self::UNREACHED, message, help: String::new() }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let separator = if self.help.is_empty() { "" } else { "; " };
        write!(f, "{}{separator}{}", self.message, self.help)
    }
}

/// The fault of a slot or a sink, if it has one.
#[derive(Debug, Default)]
pub struct Faulty(Mutex<Option<Fault>>);

impl Faulty {
    /// Replaces it.
    pub fn set(&self, fault: Option<Fault>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// What it is.
    #[must_use]
    pub fn get(&self) -> Option<Fault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the server keeps for a slot, while it can be asked.
#[derive(Debug, Default)]
pub struct Kept(Mutex<Option<Held>>);

impl Kept {
    /// Another stream is open, or none.
    pub fn set(&self, held: Option<Held>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = held;
    }

    /// Bytes of log.
    #[must_use]
    pub fn get(&self) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.get()
    }

    /// All that was seen.
    #[must_use]
    pub fn seen(&self) -> Option<Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.seen()
    }

    /// Whether heartbeats are to come back.
    #[must_use]
    pub fn expects_beats(&self) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .is_some_and(Held::expects_beats)
    }

    /// When a heartbeat last came back on this stream.
    #[must_use]
    pub fn heard(&self) -> Option<std::time::Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.heard()
    }
}

/// Conditions that do not stop anything and that an operator should know, until they are over.
#[derive(Debug, Default)]
pub struct Warnings(Mutex<BTreeMap<(&'static str, String), String>>);

impl Warnings {
    /// How many are kept: more than anybody reads.
    const MAX: usize = 100;

    /// Adds one: a stable code, what it is about, and what is wrong and what to do. False if it
    /// was there already, or if there are too many.
    pub fn raise(&self, code: &'static str, subject: &str, problem: String) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (code, subject.to_owned());
        let is_new = !known.contains_key(&key);
        if is_new && known.len() >= Self::MAX {
            return false;
        }
        known.insert(key, problem);
        is_new
    }

    /// Takes one away: it is over. True if it was there.
    pub fn clear(&self, code: &'static str, subject: &str) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&(code, subject.to_owned())).is_some()
    }

    /// Takes all of one code away.
    pub fn clear_code(&self, code: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(other, _), _| *other != code);
    }

    /// Takes all away: they were about what is not any more.
    pub fn clear_all(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Code and text of each, by code.
    #[must_use]
    pub fn list(&self) -> Vec<(&'static str, String)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|((code, _), problem)| (*code, problem.clone())).collect()
    }
}

/// A list that changes while it is shown.
#[derive(Debug)]
pub struct Shown<T>(Mutex<Vec<Arc<T>>>);

impl<T> Shown<T> {
    /// What is in it now.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces all of it.
    pub fn set(&self, all: Vec<Arc<T>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }
}

impl<T> Default for Shown<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> From<Vec<Arc<T>>> for Shown<T> {
    fn from(all: Vec<Arc<T>>) -> Self {
        Self(Mutex::new(all))
    }
}

/// Everything that runs.
#[derive(Debug)]
pub struct Status {
    /// One per slot.
    pub slots: Shown<SlotStatus>,
    /// The bytes held by all of them.
    pub budget: Arc<Budget>,
    /// What they are made from.
    pub config: ConfigStatus,
    /// How all of it is.
    pub health: Health,
}

impl Status {
    /// Lets the sink of this name or id go on, if it stopped itself because of too many letters. None if
    /// there is no such sink, false if it did not stand.
    #[must_use]
    pub fn resume(&self, sink: &str) -> Option<bool> {
        let slots = self.slots.list();
        let mut sinks = slots.iter().flat_map(|slot| slot.sinks.list());
        sinks
            .find(|status| *status.name == *sink || *status.id == *sink)
            .map(|status| status.trip.resume())
    }
}

/// The configuration that runs.
#[derive(Debug, Default)]
pub struct ConfigStatus {
    /// How often another one was taken up.
    pub reloads: Counter,
    /// How often one was refused.
    pub failures: Counter,
    /// Why the newest one does not run; None if it does.
    pub problem: Note,
    /// When the one that runs was taken up, in seconds since 1970.
    pub applied_at: Gauge,
    /// Another number for another one: the first 48 bits of a hash.
    pub hash: Gauge,
    /// 1 if what runs was applied over the API and is not what the engine's own file says.
    pub drift: Gauge,
    /// Id and name of the sinks that are disabled: they do not run.
    pub disabled: Shown<(String, String)>,
    /// Names of sinks and roles where somebody holds something else than the configuration says.
    pub held: Shown<(String, String)>,
}

/// One slot.
#[derive(Debug, Default)]
pub struct SlotStatus {
    /// The slot's name.
    pub name: Arc<str>,
    /// The database's name in the configuration.
    pub database: Arc<str>,
    /// Whether the stream is open.
    pub connected: AtomicBool,
    /// Why it is not, or why reading is paused.
    pub problem: Note,
    /// The same, in parts.
    pub fault: Faulty,
    /// Changes read.
    pub ingested: Counter,
    /// Truncates of a sink's tables that its `actions` left out, once for each such sink.
    pub truncates_skipped: Counter,
    /// How often the stream was opened.
    pub connects: Counter,
    /// Position confirmed to the server, as a number of bytes.
    pub confirmed: Gauge,
    /// Changes that went to the change log.
    pub logged: Counter,
    /// What the change log takes on the disk, in bytes.
    pub log_bytes: Gauge,
    /// What its owner should know.
    pub warnings: Warnings,
    /// 1 while nothing is read because the budget or a queue is full.
    pub paused: Gauge,
    /// From the last commit that was handed over, by the server's clock, to when it was, by ours, in
    /// microseconds.
    pub ingestion_us: Gauge,
    /// What the server keeps for it; None if there is no stream.
    pub held: Kept,
    /// Its sinks.
    pub sinks: Shown<SinkStatus>,
}

/// One sink.
#[derive(Debug, Default)]
pub struct SinkStatus {
    /// Its id.
    pub id: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// The revision that was taken up last, and what the slot had handed out before: what comes
    /// behind that position is its own, beside what the one before it still owed. None: no revision
    /// was yet.
    pub begun: watch::Sender<Option<(u64, Position)>>,
    /// Changes handed to it.
    pub received: Counter,
    /// Attempts to deliver a message.
    pub attempts: Counter,
    /// Messages delivered.
    pub delivered: Counter,
    /// Attempts that failed.
    pub failed: Counter,
    /// Changes that its filter or transform dropped.
    pub filtered: Counter,
    /// Rows that came without values that were not sent.
    pub rows_unsent: Counter,
    /// Rows for which values that were not sent were fetched from the source.
    pub fetched: Counter,
    /// Messages put aside.
    pub buried: Counter,
    /// Messages put aside that were sent after all.
    pub replayed: Counter,
    /// Messages put aside whose rows have newer state at the destination.
    pub superseded: Counter,
    /// What its functions cost.
    pub costs: Costs,
    /// What passes, for who asked to see it.
    pub trace: Trace,
    /// What its functions are asked about, for who records it.
    pub tap: Tap,
    /// 1 while all that was read for it is settled.
    pub caught_up: Gauge,
    /// 1 while its changes go through the change log.
    pub spooling: Gauge,
    /// Changes that were thrown away because the change log was full, as its policy says.
    pub discarded: Counter,
    /// Rows that failed in a plugin.
    pub plugin_failures: Counter,
    /// Messages that wait or are under way.
    pub pending: Gauge,
    /// The bytes of those in memory.
    pub pending_bytes: Gauge,
    /// Of those, the messages on the disk: they wait behind one of their group that failed.
    pub spilled: Gauge,
    /// Messages that went there.
    pub spills: Counter,
    /// From being read to the first attempt: of the oldest message of each batch.
    pub internal: Histogram,
    /// Requests after which all of their messages were delivered, or had nothing to say.
    pub requests_delivered: Histogram,
    /// The other requests.
    pub requests_failed: Histogram,
    /// When the next message whose attempt failed is tried again; None if none waits.
    pub next_retry: Due,
    /// 1 while it collects and sends nothing because it was told so.
    pub paused: Gauge,
    /// The last failure of a request; None once one succeeded since.
    pub last_error: Note,
    /// Why it takes in nothing at the moment.
    pub waiting: Note,
    /// Why it does not run, or not any more.
    pub stopped: Note,
    /// The same in parts, if its surroundings are the reason: it was not started.
    pub fault: Faulty,
    /// What its owner should know.
    pub warnings: Warnings,
    /// Whether its destination is away.
    pub breaker: BreakerStatus,
    /// Whether it stopped itself because of too many letters.
    pub trip: Trip,
    /// When it may send on, while its rate limit keeps it from that.
    pub rate_limited: Due,
}

impl SinkStatus {
    /// It is not started because of this.
    pub(crate) fn unfit(&self, fault: &Fault) {
        self.stopped.set(fault.to_string());
        self.fault.set(Some(fault.clone()));
    }
}
