//! `POST /api/sinks/SINK/test_connection`: whether its destination can be reached and would take messages.
//! Nothing is sent.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use engine::run::Handle;
use schemars::JsonSchema;
use serde::Serialize;

use crate::extract::Path;
use crate::letters::desk;
use crate::operation::{Routes, post};
use crate::shape;

/// A destination that does not answer is not waited for longer.
const WAIT: Duration = Duration::from_secs(15);

pub(crate) fn routes(handle: Handle) -> Routes {
    let told = "Whether its destination can be reached and would take messages; nothing is sent";
    let operation = post("/api/sinks/{sink}/test_connection", "sinks_test", told)
        .asks()
        .of("sink")
        .answers(StatusCode::OK, shape::of::<Tested>());
    Routes::new().with(operation, test).with_state(handle)
}

/// As of a database.
#[derive(Serialize, JsonSchema)]
struct Tested {
    success: bool,
    /// What is wrong.
    reason: Option<String>,
}

async fn test(State(handle): State<Handle>, Path(sink): Path<String>) -> Response {
    let checked = match handle.check_sink(&sink) {
        Ok(checking) => tokio::time::timeout(WAIT, checking).await,
        Err(error) => return desk(error).into_response(),
    };
    let reason = match checked {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("it did not answer within {} seconds", WAIT.as_secs())),
    };
    Json(Tested { success: reason.is_none(), reason }).into_response()
}
