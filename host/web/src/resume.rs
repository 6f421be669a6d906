//! `POST /api/sinks/ID_OR_NAME/resume`: a sink that stopped itself because too many of its messages
//! were put aside goes on. Ours: the predecessor never stops one.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use engine::status::Status;

use crate::extract::Path;
use crate::operation::{Routes, post};
use crate::reply;
use crate::shape;

pub(crate) fn routes(status: Arc<Status>) -> Routes {
    let told = "A sink that stopped itself, because too many messages were put aside, goes on";
    let operation = post("/api/sinks/{sink}/resume", "sinks_resume", told)
        .of("sink")
        .answers(StatusCode::OK, shape::of::<Resumed>());
    Routes::new().with(operation, resume).with_state(status)
}

/// What became of it: `resumed` is false if it did not stand.
#[derive(serde::Serialize, schemars::JsonSchema)]
struct Resumed {
    resumed: bool,
}

async fn resume(State(status): State<Arc<Status>>, Path(name): Path<String>) -> Response {
    match status.resume(&name) {
        Some(resumed) => Json(Resumed { resumed }).into_response(),
        None => {
            let told = format!("Not found: there is no sink `{name:.200}`");
            reply::error(StatusCode::NOT_FOUND, told).into_response()
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use engine::budget::Budget;
    use engine::health::Health;
    use engine::status::{ConfigStatus, SinkStatus, SlotStatus};

    use super::*;

    /// Of one sink.
    pub(crate) fn status() -> Arc<Status> {
        let sink = SinkStatus { id: "i".into(), name: "poi".into(), ..SinkStatus::default() };
        let slot = SlotStatus { sinks: vec![Arc::new(sink)].into(), ..SlotStatus::default() };
        let slots = vec![Arc::new(slot)].into();
        let (config, health) = (ConfigStatus::default(), Health::default());
        Arc::new(Status { slots, budget: Budget::new(9), config, health })
    }

    #[tokio::test]
    async fn a_sink_is_resumed_by_its_name_or_id() {
        let status = status();
        let sink = Arc::clone(&status.slots.list()[0].sinks.list()[0]);
        for (name, code, said) in [
            ("nobody", 404, "there is no sink `nobody`"),
            ("poi", 200, r#"{"resumed":true}"#),
            ("poi", 200, r#"{"resumed":false}"#),
            ("i", 200, r#"{"resumed":true}"#),
        ] {
            if name == "i" || code != 200 {
                sink.trip.stop("too many letters".to_owned(), None);
            }
            let answer = resume(State(Arc::clone(&status)), Path(name.to_owned())).await;
            assert_eq!(answer.status(), code);
            let body = axum::body::to_bytes(answer.into_body(), 1 << 10).await.unwrap();
            let body = std::str::from_utf8(&body).unwrap();
            assert!(body.contains(said), "{body}");
            assert_eq!(sink.trip.is_tripped(), code != 200);
        }
    }
}
