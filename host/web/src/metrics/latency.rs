//! How long things took, as histograms. The engine counts by itself, so that a scrape reads and
//! nothing waits for it.

use std::sync::Arc;

use engine::status::{Histogram, LATENCIES_US, SinkStatus};
use model::plugin::FUELS;
use prometheus::proto::{self, Bucket, LabelPair, Metric, MetricFamily, MetricType};

use super::SINK;

/// The families of all sinks.
pub(super) fn families<'a>(
    sinks: impl Iterator<Item = &'a SinkStatus> + Clone,
) -> [MetricFamily; 2] {
    let internal = sinks.clone().map(|sink| metric(sink, None, &sink.internal));
    let delivery = sinks.flat_map(|sink| {
        [("true", &sink.requests_delivered), ("false", &sink.requests_failed)]
            .map(|(success, requests)| metric(sink, Some(success), requests))
    });
    [
        family(
            "sequin_internal_latency_us",
            "Microseconds from reading a change to the first attempt to deliver it: of the oldest \
             message of each batch.",
            internal.collect(),
        ),
        family(
            "sequin_delivery_latency_us",
            "Microseconds that a request to deliver took; `success` if all of its messages got \
             through.",
            delivery.collect(),
        ),
    ]
}

fn family(name: &str, help: &str, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(MetricType::HISTOGRAM);
    family.set_metric(metrics);
    family
}

/// How long calls of functions took; None if there was none: nothing can be encoded of that.
pub(super) fn of_plugins(sinks: &[Arc<SinkStatus>]) -> Option<MetricFamily> {
    let mut metrics = Vec::new();
    for sink in sinks {
        for (function, digest, calls) in sink.costs.list() {
            let labels = vec![
                label(SINK[0], &sink.id),
                label(SINK[1], &sink.name),
                label("function", &function),
                label("digest", &digest),
            ];
            metrics.push(labelled(labels, &calls.took));
        }
    }
    let help = "Microseconds that a call of a function took, waiting for a thread included.";
    (!metrics.is_empty()).then(|| family("sequin_plugin_call_us", help, metrics))
}

/// What calls of functions took by the guest's own measure; None if that is not counted.
pub(super) fn of_fuel(sinks: &[Arc<SinkStatus>]) -> Option<MetricFamily> {
    let mut metrics = Vec::new();
    for sink in sinks {
        for (function, digest, calls) in sink.costs.list() {
            let Some(used) = calls.used().filter(|used| used.fuel > 0) else { continue };
            let labels = vec![
                label(SINK[0], &sink.id),
                label(SINK[1], &sink.name),
                label("function", &function),
                label("digest", &digest),
            ];
            let buckets = FUELS.iter().zip(used.fuel_calls);
            metrics.push(counted(labels, buckets, (used.calls, used.fuel)));
        }
    }
    let help = "Fuel that a call of a function took, about one for each instruction, in all sinks \
                that share it.";
    (!metrics.is_empty()).then(|| family("sequin_plugin_call_fuel", help, metrics))
}

fn metric(sink: &SinkStatus, success: Option<&str>, histogram: &Histogram) -> Metric {
    let mut labels = vec![label(SINK[0], &sink.id), label(SINK[1], &sink.name)];
    labels.extend(success.map(|success| label("success", success)));
    labelled(labels, histogram)
}

fn labelled(labels: Vec<LabelPair>, histogram: &Histogram) -> Metric {
    let buckets = LATENCIES_US.iter().zip(histogram.cumulative());
    counted(labels, buckets, (histogram.count(), histogram.sum_us()))
}

/// Classes by their upper bounds, how many there were, and their sum.
fn counted<'a>(
    labels: Vec<LabelPair>,
    buckets: impl Iterator<Item = (&'a u64, u64)>,
    (count, sum): (u64, u64),
) -> Metric {
    let buckets = buckets.map(|(bound, count)| {
        let mut bucket = Bucket::default();
        #[expect(clippy::cast_precision_loss, reason = "at most fifty million")]
        bucket.set_upper_bound(*bound as f64);
        bucket.set_cumulative_count(count);
        bucket
    });
    let mut counts = proto::Histogram::default();
    counts.set_bucket(buckets.collect());
    counts.set_sample_count(count);
    #[expect(clippy::cast_precision_loss, reason = "a sum of Prometheus is a float")]
    counts.set_sample_sum(sum as f64);
    let mut metric = Metric::from_label(labels);
    metric.set_histogram(counts);
    metric
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value.to_owned());
    label
}
