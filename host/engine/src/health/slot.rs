//! The checks of a slot. Each waits for the one before it: what cannot be reached is not known to
//! be well.

use std::sync::atomic::Ordering;
use std::time::Duration;

use model::source::Seen;
use tokio::time::Instant;

use super::{Check, Health, Level, Problem};
use crate::status::{Fault, SlotStatus};

/// A slot that was not heard of for so long after its start has an error. The predecessor's time.
pub(super) const FIRST_WORD: Duration = Duration::from_secs(5 * 60);

/// So long without a row and without a heartbeat is an error. The predecessor's time.
pub(super) const SILENCE: Duration = Duration::from_secs(10 * 60);

/// So many bytes behind are a warning: the predecessor's limit.
const LAG_BYTES: u64 = 2_500_000_000;

/// So little may still be written before the server gives the slot up,
const SAFE_BYTES: u64 = 1 << 30;

/// or so soon: time for somebody to be woken and to act.
const FORECAST: Duration = Duration::from_secs(6 * 60 * 60);

/// A transaction that is open for so long and holds the log is worth a word.
const LONG_TRANSACTION: Duration = Duration::from_secs(15 * 60);

/// What is not one server's failure but says that it was reached: who may log in, and what is asked
/// of it.
const NOT_REACHED: [&str; 3] = [Fault::UNREACHED, "tls_certificate", "connect_options"];

/// What was noticed of a slot from one judgement to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noticed {
    /// It was judged for the first time.
    pub(super) since: Instant,
    /// Changes that were read, and when there last were more, or a stream was opened.
    pub(super) ingested: u64,
    pub(super) moved: Instant,
    /// Streams that were opened.
    pub(super) connects: u64,
}

impl Noticed {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, ingested: 0, moved: now, connects: 0 }
    }

    pub(super) fn look(&mut self, slot: &SlotStatus, now: Instant) {
        let (ingested, connects) = (slot.ingested.get(), slot.connects.get());
        if (ingested, connects) != (self.ingested, self.connects) {
            (self.ingested, self.connects, self.moved) = (ingested, connects, now);
        }
    }
}

pub(super) fn checks(
    slot: &SlotStatus,
    noticed: &Noticed,
    health: &Health,
    key: &str,
    now: Instant,
) -> Vec<Check> {
    let fault = slot.fault.get();
    let is_connected = slot.connected.load(Ordering::Relaxed);
    let is_unreached = fault.as_ref().is_some_and(|fault| NOT_REACHED.contains(&fault.code));

    let reachable = Check::new("reachable", "Database reachable", Level::Healthy);
    let reachable = match &fault {
        Some(fault) if is_unreached => reachable.with(Level::Error, fault.code, told(fault)),
        None if !is_connected && now.duration_since(noticed.since) >= FIRST_WORD => reachable.with(
            Level::Error,
            "reachability_unknown",
            "nothing was heard of the server for five minutes since the slot was started: look at \
             the log for what it waits for",
        ),
        None if !is_connected => Check { level: Level::Waiting, ..reachable },
        Some(_) | None => reachable,
    };
    let after = |before: &Check, check: Check| match before.level {
        Level::Healthy => check,
        _ => Check { level: Level::Waiting, problem: None, ..check },
    };

    let configured =
        Check::new("replication_configuration", "Replication configured", Level::Healthy);
    let configured = after(
        &reachable,
        match &fault {
            Some(fault) => configured.with(Level::Error, fault.code, told(fault)),
            None => configured,
        },
    );

    let connected = Check::new("replication_connected", "Replication connected", Level::Healthy);
    let connected = after(
        &configured,
        if is_connected { connected } else { Check { level: Level::Waiting, ..connected } },
    );

    let messages = Check::new("replication_messages", "Messages arrive", Level::Healthy);
    let messages = after(&connected, messages_of(messages, slot, noticed, now));

    let mut checks = vec![reachable, configured, connected, messages];
    let seen = slot.held.seen();
    let lag = Check::new("replication_lag", "Replication keeps up", Level::Healthy);
    let retention = Check::new("wal_retention", "The server keeps the log", Level::Healthy);
    match &seen {
        Some(seen) if is_connected => {
            checks.push(lag_of(lag, seen));
            checks.push(retention_of(retention, seen));
            checks.extend(identities(seen, health, key));
        }
        _ => {
            checks.push(Check { level: Level::Waiting, ..lag });
            checks.push(Check { level: Level::Waiting, ..retention });
        }
    }
    checks
}

fn told(fault: &Fault) -> String {
    fault.message.clone()
}

/// Rows without heartbeats are no error: nothing proves more than a row.
fn messages_of(check: Check, slot: &SlotStatus, noticed: &Noticed, now: Instant) -> Check {
    if !slot.held.expects_beats() {
        return check;
    }
    let heard = slot.held.heard().map_or(noticed.moved, Instant::from_std).max(noticed.moved);
    // What is not read, because memory is full, cannot arrive.
    if slot.paused.get() > 0 || now.saturating_duration_since(heard) < SILENCE {
        return check;
    }
    check.with(
        Level::Error,
        "no_heartbeat",
        "no row and no heartbeat came for ten minutes, though a heartbeat is written: look at the log \
         for `no heartbeat can be written`, and whether the server's walsender works",
    )
}

fn lag_of(check: Check, seen: &Seen) -> Check {
    if seen.behind < LAG_BYTES {
        return check;
    }
    let lag = seen.lag.map(|lag| format!(", which is {} s of writing", lag.as_secs()));
    let lag = lag.unwrap_or_default();
    check.with(
        Level::Warning,
        "replication_lag_high",
        format!(
            "{} bytes of log are behind the confirmed position{lag}: look which sink is behind",
            seen.behind
        ),
    )
}

fn retention_of(check: Check, seen: &Seen) -> Check {
    let forecast = seen.forecast();
    let soon = match forecast {
        Some(left) => format!("; at the rate at which it is written, in {} s", left.as_secs()),
        None => String::new(),
    };
    let safe = seen.safe.map_or_else(String::new, |safe| {
        format!(": {safe} more bytes of log may be written until the server may give it up{soon}")
    });
    let help = "let the sinks catch up, or raise max_slot_wal_keep_size; what is given up is lost to \
                the sinks";
    let status = seen.wal_status.as_deref().unwrap_or("reserved");
    if matches!(status, "unreserved" | "lost") {
        let message = format!("the slot's wal_status is {status}{safe}. {help}");
        return check.with(Level::Error, "wal_unreserved", message);
    }
    // `extended` alone is the rule for a slot behind by more than max_wal_size, and says nothing of
    // an end where there is no limit.
    let is_low = seen.safe.is_some_and(|safe| safe < SAFE_BYTES)
        || forecast.is_some_and(|left| left < FORECAST);
    if status == "extended" || is_low && seen.behind > 0 {
        let message = format!("the slot's wal_status is {status}{safe}. {help}{}", pinned(seen));
        return check.with(Level::Warning, "wal_retention_low", message);
    }
    match &seen.oldest {
        Some(oldest) if oldest.age >= LONG_TRANSACTION => check.with(
            Level::Notice,
            "long_transaction",
            format!("the server keeps {} bytes of log{}", seen.held, pinned(seen)),
        ),
        _ => check,
    }
}

/// Who holds the log beside the sinks.
fn pinned(seen: &Seen) -> String {
    match &seen.oldest {
        Some(oldest) if oldest.age >= Duration::from_secs(60) => format!(
            ". A transaction that is open for {} s holds its beginning: {}",
            oldest.age.as_secs(),
            oldest.who
        ),
        _ => String::new(),
    }
}

/// A notice for each table whose old rows do not come.
fn identities(seen: &Seen, health: &Health, key: &str) -> Vec<Check> {
    let check = |table: &String| Check {
        slug: REPLICA_IDENTITY,
        name: "Old rows arrive",
        level: Level::Notice,
        problem: Some(Problem {
            code: REPLICA_IDENTITY,
            message: format!(
                "table {table} has not REPLICA IDENTITY FULL: `changes` of its updates, and all but \
                 the key of its deleted rows, stay empty. If sinks need them: ALTER TABLE {table} \
                 REPLICA IDENTITY FULL"
            ),
            subject: Some(table.clone()),
        }),
    };
    let is_shown =
        |check: &Check| check.notice().is_some_and(|notice| !health.is_dismissed(key, &notice));
    seen.tables_without_old_rows.iter().map(check).filter(is_shown).collect()
}

/// The predecessor's word.
const REPLICA_IDENTITY: &str = "replica_identity_not_full";
