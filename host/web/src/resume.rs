//! `POST /api/sinks/ID_OR_NAME/resume`: a sink that stopped itself because too many of its messages
//! were put aside goes on. Ours: the predecessor never stops one.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use engine::status::Status;

use crate::access::Access;
use crate::reply;

#[derive(Clone)]
struct Context {
    status: Arc<Status>,
    access: Access,
}

pub(crate) fn routes(status: Arc<Status>, access: Access) -> Router {
    let router = Router::new().route("/api/sinks/{id_or_name}/resume", post(resume));
    router.with_state(Context { status, access })
}

/// What became of it: `resumed` is false if it did not stand.
#[derive(serde::Serialize)]
struct Resumed {
    resumed: bool,
}

async fn resume(
    State(context): State<Context>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    // Who may not asks for nothing, so that is looked at first.
    if let Err(refused) = context.access.check(&headers) {
        return refused.into_response();
    }
    match context.status.resume(&name) {
        Some(resumed) => Json(Resumed { resumed }).into_response(),
        None => {
            let told = format!("Not found: there is no sink `{name:.200}`");
            reply::error(StatusCode::NOT_FOUND, told).into_response()
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use axum::http::HeaderValue;
    use axum::http::header::{HOST, ORIGIN};
    use engine::budget::Budget;
    use engine::status::{ConfigStatus, SinkStatus, SlotStatus};

    use super::*;

    /// Of one sink.
    pub(crate) fn status() -> Arc<Status> {
        let sink = SinkStatus { id: "i".into(), name: "poi".into(), ..SinkStatus::default() };
        let slot = SlotStatus { sinks: vec![Arc::new(sink)].into(), ..SlotStatus::default() };
        let slots = vec![Arc::new(slot)].into();
        Arc::new(Status { slots, budget: Budget::new(9), config: ConfigStatus::default() })
    }

    #[tokio::test]
    async fn who_may_resumes_a_sink_by_its_name_or_id() {
        let status = status();
        let sink = Arc::clone(&status.slots.list()[0].sinks.list()[0]);
        let context = Context { status, access: Access::Local };
        let here = HeaderMap::from_iter([(HOST, HeaderValue::from_static("localhost"))]);
        let mut elsewhere = here.clone();
        elsewhere.insert(ORIGIN, HeaderValue::from_static("http://elsewhere.test"));
        for (name, headers, code, said) in [
            ("poi", &elsewhere, 403, "other hosts"),
            ("nobody", &here, 404, "there is no sink `nobody`"),
            ("poi", &here, 200, r#"{"resumed":true}"#),
            ("poi", &here, 200, r#"{"resumed":false}"#),
            ("i", &here, 200, r#"{"resumed":true}"#),
        ] {
            if name == "i" || code != 200 {
                sink.trip.stop("too many letters".to_owned(), None);
            }
            let name = Path(name.to_owned());
            let answer = resume(State(context.clone()), name, headers.clone()).await;
            assert_eq!(answer.status(), code);
            let body = axum::body::to_bytes(answer.into_body(), 1 << 10).await.unwrap();
            let body = std::str::from_utf8(&body).unwrap();
            assert!(body.contains(said), "{body}");
            assert_eq!(sink.trip.is_tripped(), code != 200);
        }
    }
}
