//! `GET /api/metrics/summary`: what the metrics tell of each slot and sink, as one JSON object, for who
//! has no Prometheus at hand.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use engine::status::Status;
use serde_json::{Value, json};

use crate::metrics;
use crate::operation::{Routes, get};
use crate::shape::{self, fields_of};

pub(crate) fn routes(status: Arc<Status>) -> Routes {
    let numbers = || json!({"type": "object", "additionalProperties": {"type": "integer"}});
    let text = || json!({"type": "string"});
    let slot = fields_of([("slot", text()), ("database", text()), ("metrics", numbers())]);
    let sink = [("id", text()), ("name", text()), ("slot", text()), ("metrics", numbers())];
    let all = [("slots", shape::array(slot)), ("sinks", shape::array(fields_of(sink)))];
    let told = "The metrics of each slot and sink, by their names";
    let operation = get("/api/metrics/summary", "metrics_summary", told)
        .answers(StatusCode::OK, fields_of(all));
    Routes::new().with(operation, summary).with_state(status)
}

async fn summary(State(status): State<Arc<Status>>) -> Response {
    let slots = status.slots.list();
    let (mut of_slots, mut of_sinks): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    for slot in &slots {
        let metrics = metrics::of_slot(slot);
        of_slots.push(json!({
            "slot": *slot.name, "database": *slot.database, "metrics": metrics,
        }));
        for sink in slot.sinks.list() {
            let metrics = metrics::of_sink(&sink);
            of_sinks.push(json!({
                "id": *sink.id, "name": *sink.name, "slot": *slot.name, "metrics": metrics,
            }));
        }
    }
    Json(json!({"slots": of_slots, "sinks": of_sinks})).into_response()
}
