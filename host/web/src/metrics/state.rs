//! How sinks and slots are, in the predecessor's words.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use engine::status::{SinkStatus, SlotStatus};
use prometheus::{IntGaugeVec, Opts, Registry};

/// One sample for each sink and slot, whose status is a label.
pub(super) fn register(
    registry: &Registry,
    slots: &[Arc<SlotStatus>],
) -> Result<(), prometheus::Error> {
    let opts = Opts::new(
        "sequin_entity_health",
        "1, with the status as a label: ok, warn (something to know), error (nothing gets through), \
         paused.",
    );
    let family = IntGaugeVec::new(opts, &["entity_type", "entity_id", "entity_name", "status"])?;
    for slot in slots {
        let id = format!("{}/{}", slot.database, slot.name);
        let labels = ["postgres_replication_slot", &id, &slot.name, of_slot(slot)];
        family.with_label_values(&labels).set(1);
        for sink in slot.sinks.list() {
            let labels = ["sink_consumer", &*sink.id, &*sink.name, of_sink(&sink)];
            family.with_label_values(&labels).set(1);
        }
    }
    registry.register(Box::new(family))
}

fn of_slot(slot: &SlotStatus) -> &'static str {
    if slot.problem.get().is_some() || !slot.connected.load(Ordering::Relaxed) {
        "error"
    } else if slot.paused.get() > 0 {
        // The engine's own back-pressure, and no order of somebody: it holds back the slot.
        "warn"
    } else {
        "ok"
    }
}

fn of_sink(sink: &SinkStatus) -> &'static str {
    if sink.stopped.get().is_some() || sink.trip.is_tripped() {
        "error"
    } else if sink.paused.get() > 0 {
        "paused"
    } else if sink.last_error.get().is_some()
        || sink.waiting.get().is_some()
        || sink.breaker.get().is_some()
    {
        "error"
    } else if !sink.warnings.list().is_empty() {
        "warn"
    } else {
        "ok"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_is_as_bad_as_the_worst_of_it() {
        let sink = SinkStatus::default();
        assert_eq!(of_sink(&sink), "ok");
        sink.warnings.raise("table_renamed", "public.t", "…".to_owned());
        assert_eq!(of_sink(&sink), "warn");
        sink.last_error.set("503".to_owned());
        assert_eq!(of_sink(&sink), "error");
        sink.paused.set(1);
        assert_eq!(of_sink(&sink), "paused");
        sink.stopped.set("a fault".to_owned());
        assert_eq!(of_sink(&sink), "error");
    }

    #[test]
    fn a_slot_without_a_stream_is_an_error_and_one_that_waits_a_warning() {
        let slot = SlotStatus::default();
        assert_eq!(of_slot(&slot), "error");
        slot.connected.store(true, Ordering::Relaxed);
        assert_eq!(of_slot(&slot), "ok");
        slot.paused.set(1);
        assert_eq!(of_slot(&slot), "warn");
        slot.problem.set("the slot is gone".to_owned());
        assert_eq!(of_slot(&slot), "error");
    }
}
