//! `GET /metrics`: the engine's counters in Prometheus' text format.
//!
//! Names that the predecessor had mean here what they meant there, with its labels; the others are
//! ours. The families are built anew at each scrape from the engine's own counters.

mod latency;
mod plugins;
mod state;

use std::sync::atomic::Ordering;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use engine::rollout::Rollouts;
use engine::status::{SinkStatus, SlotStatus, Status};
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

const SINK: [&str; 2] = ["consumer_id", "consumer_name"];
const SLOT: [&str; 2] = ["slot_name", "database_name"];

/// The predecessor's id of a slot was a random one; here it is database and name.
const SLOT_ID: [&str; 3] = ["replication_slot_id", SLOT[0], SLOT[1]];

type ReadSink = fn(&SinkStatus) -> u64;
type ReadSlot = fn(&SlotStatus) -> u64;
type ReadKnown = fn(&SlotStatus) -> Option<u64>;

/// Per sink: name, help, how to read it.
const SINK_COUNTERS: [(&str, &str, ReadSink); 11] = [
    ("sequin_messages_received_count", "Changes handed to the sink.", |sink| sink.received.get()),
    ("sequin_message_deliver_attempt_count", "Attempts to deliver a message.", |sink| {
        sink.attempts.get()
    }),
    ("sequin_message_deliver_success_count", "Messages delivered.", |sink| sink.delivered.get()),
    ("sequin_message_deliver_failure_count", "Attempts that failed.", |sink| sink.failed.get()),
    ("sequin_messages_filtered_count", "Changes that a plugin dropped.", |sink| {
        sink.filtered.get()
    }),
    ("sequin_messages_buried_count", "Messages put aside as dead letters.", |sink| {
        sink.buried.get()
    }),
    ("sequin_rows_incomplete_count", "Rows without values that were not sent.", |sink| {
        sink.rows_unsent.get()
    }),
    ("sequin_rows_fetched_count", "Rows completed from the source.", |sink| sink.fetched.get()),
    (
        "sequin_messages_discarded_count",
        "Changes that were thrown away because the change log was full.",
        |sink| sink.discarded.get(),
    ),
    (
        "sequin_messages_spilled_count",
        "Messages that went to the disk, to wait there behind a failed one of their group.",
        |sink| sink.spills.get(),
    ),
    ("sequin_plugin_failures_count", "Rows that failed in a plugin.", |sink| {
        sink.plugin_failures.get()
    }),
];

const SINK_GAUGES: [(&str, &str, ReadSink); 13] = [
    ("sequin_sink_paused", "1 while the sink collects and sends nothing.", |sink| {
        sink.paused.get()
    }),
    ("sequin_sink_caught_up", "1 while all that was read for the sink is settled.", |sink| {
        sink.caught_up.get()
    }),
    (
        "sequin_sink_spooling",
        "1 while the sink is behind and its changes go through the change log.",
        |sink| sink.spooling.get(),
    ),
    ("sequin_messages_pending", "Messages that wait or are under way.", |sink| sink.pending.get()),
    ("sequin_messages_pending_bytes", "The bytes of those in memory.", |sink| {
        sink.pending_bytes.get()
    }),
    (
        "sequin_messages_spilled",
        "Of the pending messages, those on the disk: they wait behind a failed one of their group.",
        |sink| sink.spilled.get(),
    ),
    (
        "sequin_sink_waiting",
        "1 while the source does not answer what the sink asks of it: values, or an enrichment.",
        |sink| u64::from(sink.waiting.get().is_some()),
    ),
    (
        "sequin_sink_next_retry_seconds",
        "Time until a message whose attempt failed is tried again, rounded up; 0 if none waits.",
        |sink| sink.next_retry.remaining().map_or(0, |remaining| remaining.as_secs() + 1),
    ),
    (
        "sequin_sink_breaker",
        "How requests go: 0 all, 1 the destination is away and one message is being tried, 2 it is \
         away and the next try is still to come.",
        |sink| sink.breaker.get().map_or(0, |away| if away.is_probing { 1 } else { 2 }),
    ),
    (
        "sequin_sink_away_seconds",
        "For how long the destination has been away; 0 while it is there.",
        |sink| sink.breaker.get().map_or(0, |away| away.since.elapsed().as_secs()),
    ),
    (
        "sequin_sink_rate_limited_seconds",
        "Time until the sink's rate limit lets it send on, rounded up; 0 while it does.",
        |sink| sink.rate_limited.remaining().map_or(0, |remaining| remaining.as_secs() + 1),
    ),
    (
        "sequin_sink_tripped",
        "1 while the sink stands because too many of its messages were put aside.",
        |sink| u64::from(sink.trip.is_tripped()),
    ),
    ("sequin_sink_up", "0 once the sink has stopped by a fault.", |sink| {
        u64::from(sink.stopped.get().is_none())
    }),
];

const SLOT_COUNTERS: [(&str, &str, ReadSlot); 4] = [
    ("sequin_messages_ingested_count", "Changes read from the slot.", |slot| slot.ingested.get()),
    ("sequin_truncates_skipped_count", "Truncates that a sink's actions left out.", |slot| {
        slot.truncates_skipped.get()
    }),
    ("sequin_changes_logged_count", "Changes that went to the change log.", |slot| {
        slot.logged.get()
    }),
    ("sequin_slot_connects_count", "How often the stream was opened.", |slot| slot.connects.get()),
];

const SLOT_GAUGES: [(&str, &str, ReadSlot); 4] = [
    ("sequin_slot_connected", "1 while the stream is open.", |slot| {
        u64::from(slot.connected.load(Ordering::Relaxed))
    }),
    ("sequin_slot_confirmed_lsn", "Position confirmed to the server, in bytes.", |slot| {
        slot.confirmed.get()
    }),
    ("sequin_change_log_bytes", "What the slot's change log takes on the disk.", |slot| {
        slot.log_bytes.get()
    }),
    ("sequin_slot_paused", "1 while nothing is read because memory or a queue is full.", |slot| {
        slot.paused.get()
    }),
];

/// Per slot, where it is known.
const SLOT_KNOWN: [(&str, &str, ReadKnown); 7] = [
    (
        "sequin_ingestion_latency_us",
        "Microseconds from the last commit that was read, by the server's clock, to its reading.",
        |slot| (slot.ingested.get() > 0).then(|| slot.ingestion_us.get()),
    ),
    (
        "sequin_replication_slot_size",
        "Bytes of log that the server keeps for the slot. It is asked every few seconds.",
        |slot| slot.held.get(),
    ),
    ("sequin_slot_lag_bytes", "Bytes of log behind the confirmed position.", |slot| {
        slot.held.seen().map(|seen| seen.behind)
    }),
    ("sequin_slot_lag_seconds", "How long ago the log ended at the confirmed position.", |slot| {
        Some(slot.held.seen()?.lag?.as_secs())
    }),
    (
        "sequin_slot_safe_wal_bytes",
        "Bytes of log until the server may give the slot up, where there is a limit.",
        |slot| slot.held.seen()?.safe,
    ),
    (
        "sequin_slot_invalidation_forecast_seconds",
        "Time until then, at the rate at which the log was written in the last minutes.",
        |slot| Some(slot.held.seen()?.forecast()?.as_secs()),
    ),
    (
        "sequin_slot_oldest_transaction_seconds",
        "Age of the oldest open transaction that has written: it holds the log.",
        |slot| Some(slot.held.seen()?.oldest?.age.as_secs()),
    ),
];

/// What is told of a sink, by name.
pub(crate) fn of_sink(sink: &SinkStatus) -> serde_json::Map<String, serde_json::Value> {
    let all = SINK_COUNTERS.into_iter().chain(SINK_GAUGES);
    all.map(|(name, _, read)| (name.to_owned(), read(sink).into())).collect()
}

/// What is told of a slot, by name, where it is known.
pub(crate) fn of_slot(slot: &SlotStatus) -> serde_json::Map<String, serde_json::Value> {
    let all = SLOT_COUNTERS.into_iter().chain(SLOT_GAUGES);
    let all = all.map(|(name, _, read)| (name.to_owned(), read(slot).into()));
    let known = SLOT_KNOWN.into_iter();
    all.chain(known.filter_map(|(name, _, read)| Some((name.to_owned(), read(slot)?.into()))))
        .collect()
}

pub(crate) fn answer(status: &Status, rollouts: &Rollouts) -> Response {
    match render(status, Some(rollouts)) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn render(status: &Status, rollouts: Option<&Rollouts>) -> Result<String, prometheus::Error> {
    let registry = Registry::new();
    let slots = status.slots.list();
    let all: Vec<_> = slots.iter().flat_map(|slot| slot.sinks.list()).collect();
    let sinks = || all.iter();
    for (name, help, read) in SINK_COUNTERS {
        let family = IntCounterVec::new(Opts::new(name, help), &SINK)?;
        for sink in sinks() {
            family.with_label_values(&[&*sink.id, &*sink.name]).inc_by(read(sink));
        }
        registry.register(Box::new(family))?;
    }
    for (name, help, read) in SINK_GAUGES {
        let family = IntGaugeVec::new(Opts::new(name, help), &SINK)?;
        for sink in sinks() {
            family.with_label_values(&[&*sink.id, &*sink.name]).set(signed(read(sink)));
        }
        registry.register(Box::new(family))?;
    }
    for (name, help, read) in SLOT_KNOWN {
        let family = IntGaugeVec::new(Opts::new(name, help), &SLOT_ID)?;
        for slot in &slots {
            // Nothing is said of what is not known.
            if let Some(value) = read(slot) {
                let id = format!("{}/{}", slot.database, slot.name);
                let labels = [&*id, &*slot.name, &*slot.database];
                family.with_label_values(&labels).set(signed(value));
            }
        }
        registry.register(Box::new(family))?;
    }
    state::register(&registry, &slots)?;
    plugins::register(&registry, &all, rollouts)?;
    let warnings = Opts::new("sequin_sink_warnings", "Conditions the sink's owner should know.");
    let warnings = IntGaugeVec::new(warnings, &[SINK[0], SINK[1], "code"])?;
    for sink in sinks() {
        for (code, _) in sink.warnings.list() {
            warnings.with_label_values(&[&*sink.id, &*sink.name, code]).inc();
        }
    }
    registry.register(Box::new(warnings))?;
    for (name, help, read) in SLOT_COUNTERS {
        let family = IntCounterVec::new(Opts::new(name, help), &SLOT)?;
        for slot in &slots {
            family.with_label_values(&[&*slot.name, &*slot.database]).inc_by(read(slot));
        }
        registry.register(Box::new(family))?;
    }
    for (name, help, read) in SLOT_GAUGES {
        let family = IntGaugeVec::new(Opts::new(name, help), &SLOT)?;
        for slot in &slots {
            family.with_label_values(&[&*slot.name, &*slot.database]).set(signed(read(slot)));
        }
        registry.register(Box::new(family))?;
    }
    for (name, help, value) in [
        ("sequin_memory_used_bytes", "Bytes of changes and messages held.", status.budget.used()),
        ("sequin_memory_max_bytes", "The limit for them.", status.budget.bytes_max()),
    ] {
        let gauge = prometheus::IntGauge::new(name, help)?;
        gauge.set(signed(value as u64));
        registry.register(Box::new(gauge))?;
    }
    let config = &status.config;
    for (name, help, value) in [
        ("sequin_alerts_total", "Errors of slots and sinks that were told.", &status.health.alerts),
        ("sequin_alerts_resolved_total", "Ends of those.", &status.health.resolved),
        (
            "sequin_config_reloads_total",
            "How often another configuration was taken up.",
            &config.reloads,
        ),
        ("sequin_config_reload_failures_total", "How often one was refused.", &config.failures),
    ] {
        let counter = prometheus::IntCounter::new(name, help)?;
        counter.inc_by(value.get());
        registry.register(Box::new(counter))?;
    }
    let failed = u64::from(config.problem.get().is_some());
    for (name, help, value) in [
        (
            "sequin_config_reload_failed",
            "1 while the newest configuration is not the one that runs.",
            failed,
        ),
        (
            "sequin_config_applied_timestamp_seconds",
            "When the one that runs was taken up.",
            config.applied_at.get(),
        ),
        (
            "sequin_config_drift",
            "1 while what was applied over the API is not what the engine's own file says.",
            config.drift.get(),
        ),
        ("sequin_config_hash", "Another number for another configuration.", config.hash.get()),
    ] {
        let gauge = prometheus::IntGauge::new(name, help)?;
        gauge.set(signed(value));
        registry.register(Box::new(gauge))?;
    }
    let held = Opts::new(
        "sequin_binding_held",
        "1 while a hold keeps a chain of a sink other than sequin.yaml says.",
    );
    let held = IntGaugeVec::new(held, &["consumer_name", "role"])?;
    for binding in config.held.list() {
        held.with_label_values(&[&*binding.0, &*binding.1]).set(1);
    }
    registry.register(Box::new(held))?;
    let mut families = registry.gather();
    // Of no sink there is nothing to encode.
    if !all.is_empty() {
        families.extend(latency::families(all.iter().map(AsRef::as_ref)));
        families.extend(latency::of_plugins(&all));
        families.extend(latency::of_fuel(&all));
    }
    TextEncoder::new().encode_to_string(&families)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use engine::budget::Budget;

    use super::*;

    #[test]
    fn metrics_have_the_predecessors_names_and_labels() {
        let sink = SinkStatus { id: "i".into(), name: "poi".into(), ..SinkStatus::default() };
        sink.delivered.add(3);
        for us in [7, 10, 400, 60_000_000] {
            sink.requests_delivered.observe(std::time::Duration::from_micros(us));
        }
        sink.internal.observe(std::time::Duration::from_micros(2_000));
        let due = tokio::time::Instant::now() + std::time::Duration::from_millis(8_500);
        sink.next_retry.set(Some(due));
        sink.rate_limited.set(Some(due));
        sink.warnings.raise("table_renamed", "public.t", "…".to_owned());
        let slot = SlotStatus {
            name: "s".into(),
            database: "d".into(),
            sinks: vec![Arc::new(sink)].into(),
            ..SlotStatus::default()
        };
        slot.ingested.add(5);
        slot.ingestion_us.set(1_234);
        let held = model::source::Held::default();
        slot.held.set(Some(held.clone()));
        let config = engine::status::ConfigStatus::default();
        config.reloads.add(2);
        let slots = vec![Arc::new(slot)].into();
        let health = engine::health::Health::default();
        let status = Status { slots, budget: Budget::new(9), config, health };
        let before = render(&status, None).unwrap();
        assert!(!before.contains("sequin_replication_slot_size{"), "not asked yet");
        held.set(model::source::Seen { held: 77, ..Default::default() });
        let text = render(&status, None).unwrap();
        for line in [
            "sequin_message_deliver_success_count{consumer_id=\"i\",consumer_name=\"poi\"} 3",
            "sequin_messages_ingested_count{database_name=\"d\",slot_name=\"s\"} 5",
            "sequin_sink_warnings{code=\"table_renamed\",consumer_id=\"i\",consumer_name=\"poi\"} 1",
            "sequin_ingestion_latency_us{database_name=\"d\",replication_slot_id=\"d/s\",slot_name=\"s\"} 1234",
            "sequin_replication_slot_size{database_name=\"d\",replication_slot_id=\"d/s\",slot_name=\"s\"} 77",
            "# TYPE sequin_delivery_latency_us histogram",
            "sequin_delivery_latency_us_bucket{consumer_id=\"i\",consumer_name=\"poi\",success=\"true\",le=\"10\"} 2",
            "sequin_delivery_latency_us_bucket{consumer_id=\"i\",consumer_name=\"poi\",success=\"true\",le=\"50000000\"} 3",
            "sequin_delivery_latency_us_bucket{consumer_id=\"i\",consumer_name=\"poi\",success=\"true\",le=\"+Inf\"} 4",
            "sequin_delivery_latency_us_sum{consumer_id=\"i\",consumer_name=\"poi\",success=\"true\"} 60000417",
            "sequin_delivery_latency_us_count{consumer_id=\"i\",consumer_name=\"poi\",success=\"false\"} 0",
            "sequin_internal_latency_us_bucket{consumer_id=\"i\",consumer_name=\"poi\",le=\"1000\"} 0",
            "sequin_internal_latency_us_bucket{consumer_id=\"i\",consumer_name=\"poi\",le=\"10000\"} 1",
            "sequin_entity_health{entity_id=\"i\",entity_name=\"poi\",entity_type=\"sink_consumer\",status=\"warn\"} 1",
            "sequin_entity_health{entity_id=\"d/s\",entity_name=\"s\",entity_type=\"postgres_replication_slot\",status=\"error\"} 1",
            // B123.
            "sequin_sink_next_retry_seconds{consumer_id=\"i\",consumer_name=\"poi\"} 9",
            "sequin_sink_rate_limited_seconds{consumer_id=\"i\",consumer_name=\"poi\"} 9",
            "sequin_sink_breaker{consumer_id=\"i\",consumer_name=\"poi\"} 0",
            "sequin_sink_tripped{consumer_id=\"i\",consumer_name=\"poi\"} 0",
            "sequin_memory_max_bytes 9",
            "sequin_config_reloads_total 2",
            "sequin_config_reload_failed 0",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
