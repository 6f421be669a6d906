//! `GET /health`: the process is up. It says nothing about slots and sinks: an orchestrator that
//! restarts a process because a destination is down makes things worse.

use axum::Json;
use axum::response::IntoResponse;

/// The predecessor's body: `{"ok": true, "rev": …}`.
pub(crate) async fn answer(version: &'static str) -> impl IntoResponse {
    Json(Body { ok: true, rev: version })
}

#[derive(serde::Serialize)]
struct Body {
    ok: bool,
    rev: &'static str,
}
