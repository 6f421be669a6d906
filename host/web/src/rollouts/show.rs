//! Rollouts and costs as they are shown.

use std::sync::Arc;
use std::time::Duration;

use engine::costs::FAULTS;
use engine::rollout::{Arm, Class, Report, Sample, Spread};
use engine::status::SinkStatus;
use model::plugin::Cost;
use model::rollout::Step;
use serde_json::{Map, Value, json};

use crate::shape;

/// What is listed of one.
pub(super) fn rollout(report: &Report) -> Value {
    let record = &report.record;
    json!({
        "id": record.id,
        "sink": record.sink,
        "function": record.function,
        "plugin": record.component,
        "digest": record.digest,
        "base": record.base,
        "state": record.state.as_str(),
        "reason": record.why,
        "percent": record.percent,
        // Decided, and in force from the next row on.
        "pending": record.pending().is_some(),
        "steps": record.steps.iter().map(step).collect::<Vec<_>>(),
        "rules": record.rules,
        "resumed": record.resumed,
        "inserted_at": time_text(record.created_us),
        "updated_at": time_text(record.updated_us),
    })
}

/// One, with what both versions did since it was begun, or gone on with by this process.
pub(super) fn whole(report: &Report) -> Value {
    let mut shown = rollout(report);
    let Report { arms, comparison, skipped, used, .. } = report;
    let counts =
        Class::ALL.map(|class| (class.as_str().to_owned(), comparison.count(class).into()));
    let more = json!({
        "old": arm(&arms.old),
        "new": arm(&arms.new),
        "compared": counts.into_iter().collect::<Map<String, Value>>(),
        "skipped": skipped,
        "samples": comparison.samples().map(sample).collect::<Vec<_>>(),
        "used": used.map(cost),
    });
    if let (Value::Object(shown), Value::Object(more)) = (&mut shown, more) {
        shown.extend(more);
    }
    shown
}

/// The schema of what is listed.
pub(super) fn schema() -> Value {
    shape::object(&[
        ("id", "string"),
        ("sink", "string"),
        ("function", "string"),
        ("plugin", "string"),
        ("digest", "string"),
        ("base", "string"),
        ("state", "string"),
        ("reason", "string|null"),
        ("percent", "integer"),
        ("pending", "boolean"),
        ("steps", "array"),
        ("rules", "object"),
        ("resumed", "any"),
        ("inserted_at", "string"),
        ("updated_at", "string"),
    ])
}

/// Of one.
pub(super) fn schema_whole() -> Value {
    let more = shape::object(&[
        ("old", "object"),
        ("new", "object"),
        ("compared", "object"),
        ("skipped", "any"),
        ("samples", "array"),
        ("used", "any"),
    ]);
    shape::with(schema(), more)
}

fn step(step: &Step) -> Value {
    json!({
        "commit_lsn": step.commit_lsn,
        "ordinal": step.ordinal,
        "percent": step.percent,
        "at": time_text(step.at_us),
    })
}

fn arm(arm: &Arm) -> Value {
    json!({
        "rows": arm.rows,
        "dropped": arm.dropped,
        "errors": arm.errors,
        "traps": arm.traps,
        "time_ns": spread(&arm.time_ns),
        "output_bytes": spread(&arm.output_bytes),
    })
}

fn spread(spread: &Spread) -> Value {
    let classes = spread.classes();
    let classes: Vec<Value> =
        classes.into_iter().map(|(bound, count)| json!([bound.round(), count])).collect();
    let quantile = |share| spread.quantile(share).map(f64::round);
    json!({
        "mean": spread.mean().map(f64::round),
        "p50": quantile(0.5),
        "p99": quantile(0.99),
        "classes": classes,
    })
}

fn sample(sample: &Sample) -> Value {
    let json = |text: &Option<String>| text.as_deref().map(value);
    let differences = sample.differences.iter().map(|difference| {
        json!({
            "pointer": difference.pointer,
            "old": json(&difference.old),
            "new": json(&difference.new),
        })
    });
    json!({
        "commit_lsn": sample.position.commit_lsn.0,
        "ordinal": sample.position.ordinal,
        "table": sample.table,
        "key": value(&sample.key),
        "class": sample.class.as_str(),
        "differences": differences.collect::<Vec<_>>(),
        "old_error": sample.old_error,
        "new_error": sample.new_error,
    })
}

/// JSON, or a text that was JSON and was cut.
fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

fn cost(used: Cost) -> Value {
    json!({
        "cpu_us": us(used.cpu),
        "fuel": (used.fuel > 0).then_some(used.fuel),
        "instances": used.instances,
        "memory_bytes_max": used.memory_bytes_max,
        "compile_us": us(used.compile),
    })
}

/// What the functions of all sinks cost, who took most CPU time first. CPU time is measured for a
/// function in all sinks that share it, and told of each by its share of the time that calls took.
pub(super) fn costs(sinks: &[Arc<SinkStatus>]) -> Vec<Value> {
    let all: Vec<_> = sinks
        .iter()
        .flat_map(|sink| sink.costs.list().into_iter().map(move |costs| (sink, costs)))
        .collect();
    let mut shown: Vec<(u64, Value)> = Vec::with_capacity(all.len());
    for (sink, (function, digest, calls)) in &all {
        let alike =
            all.iter().filter(|(_, (name, version, _))| (name, version) == (function, digest));
        let busy: u64 = alike.map(|(_, (_, _, calls))| calls.took.sum_us()).sum();
        let used = calls.used();
        let share = calls.took.sum_us() as f64 / busy.max(1) as f64;
        let cpu = used.map_or(Duration::ZERO, |used| used.cpu).mul_f64(share);
        let faults = FAULTS.iter().zip(&calls.faults);
        let faults: Map<String, Value> =
            faults.map(|(kind, count)| (kind.as_str().to_owned(), count.get().into())).collect();
        let value = json!({
            "sink": sink.name,
            "function": function,
            "digest": digest,
            "cpu_us": us(cpu),
            "calls": calls.calls.get(),
            "rows": calls.rows.get(),
            "dropped": calls.dropped.get(),
            "faults": faults,
            "took_us": calls.took.sum_us(),
            "bytes_in": calls.bytes_in.get(),
            "bytes_out": calls.bytes_out.get(),
            "shared": used.map(cost),
        });
        shown.push((us(cpu), value));
    }
    shown.sort_by_key(|(cpu, _)| std::cmp::Reverse(*cpu));
    shown.into_iter().map(|(_, value)| value).collect()
}

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// ISO 8601.
fn time_text(us: i64) -> String {
    let mut text = String::new();
    model::json::timestamp(&mut text, us);
    text
}
