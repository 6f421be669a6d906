//! What all parts of the API answer with when they refuse.

use axum::Json;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};

/// An error: the predecessor's body `{"summary": …}`, and a header that goes with the status.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    summary: String,
    header: Option<(HeaderName, &'static str)>,
}

pub(crate) fn error(status: StatusCode, summary: impl Into<String>) -> Refused {
    Refused { status, summary: summary.into(), header: None }
}

impl Refused {
    pub(crate) fn with(self, name: HeaderName, value: &'static str) -> Self {
        Self { header: Some((name, value)), ..self }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        #[derive(serde::Serialize)]
        struct Body {
            summary: String,
        }
        let body = (self.status, Json(Body { summary: self.summary }));
        match self.header {
            Some(header) => ([header], body).into_response(),
            None => body.into_response(),
        }
    }
}
