//! Carries out decisions over HTTP.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{Request as HttpRequest, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;

use super::behaviour::{Decision, ELSEWHERE};
use super::{Outcome, Request, Shared};

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(handle).with_state(shared)
}

async fn handle(State(shared): State<Arc<Shared>>, request: HttpRequest<Body>) -> Response {
    let (parts, body) = request.into_parts();
    // An incomplete body is no request: the sender has gone.
    let Ok(bytes) = to_bytes(body, usize::MAX).await else { hang_up() };
    let gzip = parts.headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding == "gzip");
    let body = if gzip { gunzip(&bytes) } else { serde_json::from_slice(&bytes).ok() };
    let body = body.unwrap_or(Value::Null);
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let (decision, index) = {
        let mut state = shared.lock();
        let decision = state.policy.decide(parts.uri.path(), &body);
        let method = parts.method.to_string();
        let outcome = decision.outcome();
        let headers = parts.headers;
        let at = tokio::time::Instant::now().into_std();
        state.requests.push(Request { method, path, headers, body, bytes, at, outcome });
        (decision, state.requests.len() - 1)
    };
    match decision {
        Decision::Accept => StatusCode::OK.into_response(),
        Decision::AcceptWith(status) | Decision::Refuse(status) => with_status(status),
        Decision::AcceptAfter(duration) => {
            pass(duration).await;
            shared.lock().requests[index].outcome = Outcome::Accepted;
            StatusCode::OK.into_response()
        }
        Decision::AcceptThenWait(duration) => {
            pass(duration).await;
            StatusCode::OK.into_response()
        }
        Decision::RetryAfter { seconds, status } => {
            (with_status(status).status(), [(header::RETRY_AFTER, seconds.to_string())])
                .into_response()
        }
        Decision::Redirect => {
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, ELSEWHERE)]).into_response()
        }
        Decision::AcceptThenRefuse => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Decision::Drop | Decision::AcceptThenDrop => hang_up(),
    }
}

impl Decision {
    /// What is on record when the sender may first see the answer.
    fn outcome(self) -> Outcome {
        match self {
            Self::Accept | Self::AcceptWith(_) | Self::AcceptThenWait(_) => Outcome::Accepted,
            Self::AcceptAfter(_) => Outcome::Waiting,
            Self::Refuse(status) | Self::RetryAfter { status, .. } => Outcome::Refused(status),
            Self::Redirect => Outcome::Refused(StatusCode::TEMPORARY_REDIRECT.as_u16()),
            Self::Drop => Outcome::Dropped,
            Self::AcceptThenRefuse | Self::AcceptThenDrop => Outcome::Lost,
        }
    }
}

/// None if it is not what its header says.
fn gunzip(bytes: &[u8]) -> Option<Value> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).ok()?;
    serde_json::from_slice(&plain).ok()
}

fn with_status(status: u16) -> Response {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).into_response()
}

/// Closes the connection without an answer: it belongs to the task that this unwinds, and nothing is
/// printed as no panic hook is called.
fn hang_up() -> ! {
    std::panic::resume_unwind(Box::new("the receiver hangs up"))
}

/// Lets time pass; ends early only if the sender gives up.
async fn pass(duration: Duration) {
    tokio::time::timeout(duration, std::future::pending::<()>()).await.ok();
}
