//! What all parts of the API answer with when they refuse.

use axum::Json;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};

/// An error: the predecessor's body `{"summary": …}` with a stable `code`, and a header that goes with the
/// status.
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
            code: String,
            summary: String,
        }
        let code = code(self.status, &self.summary).to_owned();
        let body = (self.status, Json(Body { code, summary: self.summary }));
        match self.header {
            Some(header) => ([header], body).into_response(),
            None => body.into_response(),
        }
    }
}

/// What a summary begins with (`in_use: …`), else what goes with the status.
fn code(status: StatusCode, summary: &str) -> &str {
    let is_word = |word: &str| {
        let of_word = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'_';
        !word.is_empty() && word.bytes().all(of_word)
    };
    let told = summary.split_once(": ").map(|(word, _)| word).filter(|word| is_word(word));
    if let Some(word) = told {
        return word;
    }
    match status {
        StatusCode::BAD_REQUEST => "bad_request",
        StatusCode::UNAUTHORIZED => "unauthorized",
        StatusCode::FORBIDDEN => "forbidden",
        StatusCode::NOT_FOUND => "not_found",
        StatusCode::METHOD_NOT_ALLOWED => "method_not_allowed",
        StatusCode::REQUEST_TIMEOUT => "timeout",
        StatusCode::CONFLICT => "conflict",
        StatusCode::PAYLOAD_TOO_LARGE => "too_large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "content_type",
        StatusCode::UNPROCESSABLE_ENTITY => "unprocessable",
        StatusCode::TOO_MANY_REQUESTS => "too_many_requests",
        StatusCode::BAD_GATEWAY => "bad_gateway",
        StatusCode::SERVICE_UNAVAILABLE => "unavailable",
        StatusCode::INSUFFICIENT_STORAGE => "disk_full",
        _ => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_a_stable_code() {
        for (summary, expected) in [
            ("in_use: a sink runs it", "in_use"),
            ("Not found: there is no sink `a`", "not_found"),
            ("the body: expected a comma", "not_found"),
            ("nothing", "not_found"),
        ] {
            assert_eq!(code(StatusCode::NOT_FOUND, summary), expected, "{summary}");
        }
    }
}
