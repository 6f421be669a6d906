//! What all parts of the API answer with.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// The predecessor's body of an error: `{"summary": …}`.
pub(crate) fn error(status: StatusCode, summary: impl Into<String>) -> Response {
    #[derive(serde::Serialize)]
    struct Body {
        summary: String,
    }
    (status, Json(Body { summary: summary.into() })).into_response()
}
