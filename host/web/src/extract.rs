//! What handlers take of a request. What cannot be taken is refused as everything else is.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::reply::{self, Refused};

/// The query.
pub(crate) struct Query<T>(pub(crate) T);

/// The parameters of the path.
pub(crate) struct Path<T>(pub(crate) T);

/// A JSON body, said to be one: a page of another host cannot send that without being asked first.
pub(crate) struct Body<T>(pub(crate) T);

/// A body as it comes.
pub(crate) struct Raw(pub(crate) Bytes);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let read = axum::extract::Query::from_request_parts(parts, state).await;
        let axum::extract::Query(it) =
            read.map_err(|error| reply::error(StatusCode::BAD_REQUEST, short(&error.body_text())))?;
        Ok(Self(it))
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let read = axum::extract::Path::from_request_parts(parts, state).await;
        let axum::extract::Path(it) =
            read.map_err(|error| reply::error(StatusCode::BAD_REQUEST, short(&error.body_text())))?;
        Ok(Self(it))
    }
}

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let read = Bytes::from_request(request, state).await;
        read.map(Self).map_err(|error| reply::error(error.status(), error.body_text()))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let is_json = is_json(request.headers());
        let Raw(body) = Raw::from_request(request, state).await?;
        if !is_json {
            return Err(not_json());
        }
        read(&body).map(Self)
    }
}

/// Whether a body is said to be JSON: `application/json`, and `application/problem+json` is, too.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let kind = kind.to_ascii_lowercase();
    kind == b"application/json" || kind.starts_with(b"application/") && kind.ends_with(b"+json")
}

pub(crate) fn not_json() -> Refused {
    let told = "send JSON, with `Content-Type: application/json`";
    reply::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, told)
}

/// JSON that is broken is 400, JSON that says something else than is taken 422.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| {
        let status = match error.classify() {
            Category::Data => StatusCode::UNPROCESSABLE_ENTITY,
            Category::Syntax | Category::Eof | Category::Io => StatusCode::BAD_REQUEST,
        };
        reply::error(status, format!("the body: {error}"))
    })
}

/// What was sent is told again, but not all of it.
fn short(told: &str) -> String {
    told.chars().take(500).collect()
}
