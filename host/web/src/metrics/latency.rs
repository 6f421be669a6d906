//! How long things took, as histograms. The engine counts by itself, so that a scrape reads and
//! nothing waits for it.

use std::sync::Arc;

use engine::status::{Histogram, LATENCIES_US, SinkStatus};
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

fn metric(sink: &SinkStatus, success: Option<&str>, histogram: &Histogram) -> Metric {
    let mut labels = vec![label(SINK[0], &sink.id), label(SINK[1], &sink.name)];
    labels.extend(success.map(|success| label("success", success)));
    labelled(labels, histogram)
}

fn labelled(labels: Vec<LabelPair>, histogram: &Histogram) -> Metric {
    let buckets = LATENCIES_US.iter().zip(histogram.cumulative()).map(|(bound, count)| {
        let mut bucket = Bucket::default();
        #[expect(clippy::cast_precision_loss, reason = "at most fifty million")]
        bucket.set_upper_bound(*bound as f64);
        bucket.set_cumulative_count(count);
        bucket
    });
    let mut counts = proto::Histogram::default();
    counts.set_bucket(buckets.collect());
    counts.set_sample_count(histogram.count());
    #[expect(clippy::cast_precision_loss, reason = "a sum of Prometheus is a float")]
    counts.set_sample_sum(histogram.sum_us() as f64);
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
