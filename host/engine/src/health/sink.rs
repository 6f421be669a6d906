//! The checks of a sink.

use super::{Check, Level, Problem};
use crate::status::SinkStatus;

pub(super) fn checks(sink: &SinkStatus, slot: Level) -> Vec<Check> {
    let configured = Check::new("sink_configuration", "Sink configured", Level::Healthy);
    let configured = match sink.stopped.get() {
        Some(text) if let Some(fault) = sink.fault.get() => {
            configured.with(Level::Error, fault.code, text)
        }
        Some(fault) => configured.with(Level::Error, "sink_stopped", fault),
        None => configured,
    };
    let filtered = Check::new("messages_filtered", "Messages filtered", Level::Healthy);
    let ingested = Check::new("messages_ingested", "Messages ingested", Level::Healthy);
    let ingested = match sink.waiting.get() {
        Some(why) => ingested.with(Level::Error, "source_does_not_answer", why),
        None => ingested,
    };
    let pending = Check::new("messages_pending_delivery", "Messages wait", Level::Healthy);
    let delivered = Check::new("messages_delivered", "Messages delivered", Level::Healthy);
    let delivered = match sink.last_error.get() {
        Some(error) => delivered.with(Level::Error, "delivery_failing", error),
        // Nothing is known of a destination that nothing was sent to.
        None if sink.delivered.get() == 0 => Check { level: Level::Waiting, ..delivered },
        None => delivered,
    };
    let slot_health = Check::new("slot_health", "Source healthy", Level::Healthy);
    let slot_health = match slot {
        Level::Error => Check { level: Level::Waiting, ..slot_health }.with(
            Level::Waiting,
            "slot_error",
            "the source has an error: nothing new comes until it is mended",
        ),
        Level::Waiting => Check { level: Level::Waiting, ..slot_health },
        _ => slot_health,
    };
    // What comes from the source is not known to be well while it does not come.
    let dependent = [filtered, ingested].map(|check| match slot {
        Level::Error | Level::Waiting if check.level == Level::Healthy => {
            Check { level: Level::Waiting, ..check }
        }
        _ => check,
    });
    let mut checks = vec![slot_health, configured];
    checks.extend(dependent);
    checks.extend([pending, delivered]);
    for (code, problem) in sink.warnings.list() {
        checks.push(Check {
            slug: code,
            name: "Something to know",
            level: Level::Warning,
            problem: Some(Problem { code, message: problem, subject: None }),
        });
    }
    checks
}
