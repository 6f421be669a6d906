//! What functions cost, by sink and version, and what becomes of versions that are rolled out.

use std::sync::Arc;

use engine::costs::{Calls, FAULTS};
use engine::rollout::{Class, Rollouts};
use engine::status::SinkStatus;
use model::rollout::RolloutState;
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::SINK;

type Read = fn(&Calls) -> u64;

const COUNTERS: [(&str, &str, Read); 8] = [
    ("sequin_plugin_calls_count", "Calls of a function.", |calls| calls.calls.get()),
    ("sequin_plugin_rows_count", "Rows of these calls.", |calls| calls.rows.get()),
    ("sequin_plugin_dropped_count", "Rows that it dropped or evicted.", |calls| {
        calls.dropped.get()
    }),
    ("sequin_plugin_input_bytes_count", "Bytes of its rows.", |calls| calls.bytes_in.get()),
    ("sequin_plugin_output_bytes_count", "Bytes that it gave back.", |calls| calls.bytes_out.get()),
    (
        "sequin_plugin_cpu_us_count",
        "Microseconds of CPU time of the function, in all sinks that share it.",
        |calls| calls.used().map_or(0, |used| us(used.cpu)),
    ),
    ("sequin_plugin_instances_count", "Instances that were made of it, likewise.", |calls| {
        calls.used().map_or(0, |used| used.instances)
    }),
    ("sequin_plugin_compile_us_count", "Microseconds until it was compiled.", |calls| {
        calls.used().map_or(0, |used| us(used.compile))
    }),
];

fn us(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

pub(super) fn register(
    registry: &Registry,
    sinks: &[Arc<SinkStatus>],
    rollouts: Option<&Rollouts>,
) -> Result<(), prometheus::Error> {
    let all = || {
        let of = |sink: &Arc<SinkStatus>| sink.costs.list().into_iter();
        sinks.iter().flat_map(move |sink| of(sink).map(move |costs| (sink, costs)))
    };
    let labels = [SINK[0], SINK[1], "function", "digest"];
    for (name, help, read) in COUNTERS {
        let family = IntCounterVec::new(Opts::new(name, help), &labels)?;
        for (sink, (function, digest, calls)) in all() {
            let labels = [&*sink.id, &*sink.name, &*function, &*digest];
            family.with_label_values(&labels).inc_by(read(&calls));
        }
        registry.register(Box::new(family))?;
    }
    let faults = Opts::new("sequin_plugin_faults_count", "Rows that failed in it, by kind.");
    let faults = IntCounterVec::new(faults, &[SINK[0], SINK[1], "function", "digest", "kind"])?;
    for (sink, (function, digest, calls)) in all() {
        for (kind, count) in FAULTS.iter().zip(&calls.faults) {
            let labels = [&*sink.id, &*sink.name, &*function, &*digest, kind.as_str()];
            faults.with_label_values(&labels).inc_by(count.get());
        }
    }
    registry.register(Box::new(faults))?;
    let Some(rollouts) = rollouts else { return Ok(()) };
    let back = "sequin_rollouts_rolled_back_total";
    let back = IntCounter::new(back, "Versions that their rules took back.")?;
    back.inc_by(rollouts.rolled_back());
    registry.register(Box::new(back))?;
    let labels = ["rollout", "consumer_name", "function", "digest"];
    let share = Opts::new("sequin_rollout_percent", "The share of a version that is rolled out.");
    let share = IntGaugeVec::new(share, &labels)?;
    let skipped = "sequin_rollout_shadow_skipped_count";
    let skipped = Opts::new(skipped, "Rows that a shadow was not shown, because it was busy.");
    let skipped = IntCounterVec::new(skipped, &labels)?;
    let rows = Opts::new("sequin_rollout_shadow_rows_count", "Rows by how their outputs compare.");
    let rows = IntCounterVec::new(rows, &[&labels[..], &["class"]].concat())?;
    for report in rollouts.list().iter().filter(|report| report.record.is_attached()) {
        let record = &report.record;
        let labels = [&*record.id, &*record.sink, &*record.function, &*record.digest];
        share.with_label_values(&labels).set(record.percent.into());
        if record.state == RolloutState::Shadow {
            skipped.with_label_values(&labels).inc_by(report.skipped);
            for class in Class::ALL {
                let labels = [&labels[..], &[class.as_str()]].concat();
                rows.with_label_values(&labels).inc_by(report.comparison.count(class));
            }
        }
    }
    registry.register(Box::new(share))?;
    registry.register(Box::new(skipped))?;
    registry.register(Box::new(rows))
}
