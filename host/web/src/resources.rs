//! The predecessor's API of single resources, by name or id: `sinks`, `postgres_databases` and
//! `destinations/http_endpoints`; and `functions` and `change_retentions`, for which it had none.
//!
//! | route | |
//! |---|---|
//! | `GET /api/KIND` | `{"data": […]}` |
//! | `POST /api/KIND` | creates one; 201, sinks 200 as there |
//! | `GET /api/KIND/WHICH` | one, with an `ETag` |
//! | `PUT`, `PATCH /api/KIND/WHICH` | changes what the body names (RFC 7396), with `If-Match` only what was seen |
//! | `DELETE /api/KIND/WHICH` | `{"id": …, "deleted": true}` |
//!
//! `POST /api/postgres_databases/WHICH/test_connection` looks whether it can be read, part by part;
//! `…/refresh_tables` lists its tables.
//!
//! Bodies are as in `sequin.yaml`. Secrets are shown as `(secret)`, unless `show_sensitive=true`; sent back
//! like that they stay what they are.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use model::BoxFuture;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::caller::by;
use crate::configs::ConfigRefused;

/// Of a create that may come twice: by its name and its body it is known whether it was done, so its
/// value does not matter.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

type Answer = BoxFuture<'static, Result<Value, ConfigRefused>>;

/// What is to become of a resource.
#[derive(Clone, Debug)]
pub struct Change {
    /// `sink`, `database`, `http_endpoint`, `function` or `change_retention`.
    pub kind: &'static str,
    /// Its name or id; None of one that is new.
    pub which: Option<String>,
    /// None: it is to go.
    pub body: Option<Map<String, Value>>,
    /// Only if it is still what had this `etag`.
    pub if_match: Option<String>,
    /// Who asks may have asked before: what is there the same already is as good as made.
    pub is_repeatable: bool,
    /// On whose word: claimed, not proven.
    pub by: String,
}

/// What resources can be asked for. Answers are JSON as it is told; one resource has its `etag`.
pub trait Resources: Send + Sync {
    /// All of a kind, or one by its name or id.
    fn look(&self, kind: &'static str, which: Option<String>, with_secrets: bool) -> Answer;
    /// Creates, changes or deletes one; the answer is what it is then.
    fn change(&self, change: Change) -> Answer;
    /// Whether a database can be read, and why not; `{"success", "reason", "checks"}`.
    fn test(&self, database: String) -> Answer;
    /// The tables of a database.
    fn tables(&self, database: String) -> Answer;
}

#[derive(Clone)]
struct Context {
    resources: Arc<dyn Resources>,
    kind: &'static str,
}

/// Where each kind is, and the status of a creation.
const KINDS: [(&str, &str, StatusCode); 5] = [
    ("/api/sinks", "sink", StatusCode::OK),
    ("/api/postgres_databases", "database", StatusCode::CREATED),
    ("/api/destinations/http_endpoints", "http_endpoint", StatusCode::CREATED),
    ("/api/functions", "function", StatusCode::CREATED),
    ("/api/change_retentions", "change_retention", StatusCode::CREATED),
];

pub(crate) fn routes(resources: Arc<dyn Resources>) -> Router {
    let mut all = Router::new();
    for (path, kind, created) in KINDS {
        let context = Context { resources: Arc::clone(&resources), kind };
        let create =
            async move |context, headers, body| create(context, headers, body, created).await;
        let one = get(one).put(change).patch(change).delete(remove);
        let routes = Router::new()
            .route(path, get(list).post(create))
            .route(&format!("{path}/{{which}}"), one);
        all = all.merge(routes.with_state(context));
    }
    let database = Context { resources, kind: "database" };
    let more = Router::new()
        .route("/api/postgres_databases/{which}/test_connection", post(test))
        .route("/api/postgres_databases/{which}/refresh_tables", post(tables));
    all.merge(more.with_state(database))
}

async fn test(State(context): State<Context>, Path(which): Path<String>) -> Response {
    answered(StatusCode::OK, context.resources.test(which).await)
}

async fn tables(State(context): State<Context>, Path(which): Path<String>) -> Response {
    answered(StatusCode::OK, context.resources.tables(which).await)
}

#[derive(Debug, Default, Deserialize)]
struct Shown {
    #[serde(default, alias = "show-sensitive")]
    show_sensitive: bool,
}

async fn list(State(context): State<Context>, Query(shown): Query<Shown>) -> Response {
    let Context { resources, kind } = context;
    answered(StatusCode::OK, resources.look(kind, None, shown.show_sensitive).await)
}

async fn one(
    State(context): State<Context>,
    Path(which): Path<String>,
    Query(shown): Query<Shown>,
) -> Response {
    let Context { resources, kind } = context;
    answered(StatusCode::OK, resources.look(kind, Some(which), shown.show_sensitive).await)
}

async fn create(
    State(context): State<Context>,
    headers: HeaderMap,
    body: Bytes,
    created: StatusCode,
) -> Response {
    answered(created, changed(context, None, &headers, Some(&body)).await)
}

async fn change(
    State(context): State<Context>,
    Path(which): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answered(StatusCode::OK, changed(context, Some(which), &headers, Some(&body)).await)
}

async fn remove(
    State(context): State<Context>,
    Path(which): Path<String>,
    headers: HeaderMap,
) -> Response {
    answered(StatusCode::OK, changed(context, Some(which), &headers, None).await)
}

async fn changed(
    context: Context,
    which: Option<String>,
    headers: &HeaderMap,
    body: Option<&[u8]>,
) -> Result<Value, ConfigRefused> {
    let Context { resources, kind } = context;
    let text = |name: header::HeaderName| {
        let value = headers.get(name)?.to_str().ok()?;
        Some(value.trim().trim_start_matches("W/").trim_matches('"').to_owned())
    };
    let body = body.map(|body| {
        if !text(header::CONTENT_TYPE).is_some_and(|it| it.starts_with("application/json")) {
            let told = "send JSON, with `Content-Type: application/json`";
            return Err(ConfigRefused::new(415, "content_type", told));
        }
        serde_json::from_slice::<Map<String, Value>>(body)
            .map_err(|error| ConfigRefused::new(400, "bad_request", format!("body: {error}")))
    });
    let if_match = text(header::IF_MATCH).filter(|wanted| wanted != "*");
    let is_repeatable = headers.contains_key(IDEMPOTENCY_KEY);
    let by = by(None);
    let body = body.transpose()?;
    resources.change(Change { kind, which, body, if_match, is_repeatable, by }).await
}

fn answered(status: StatusCode, answer: Result<Value, ConfigRefused>) -> Response {
    let mut told = match answer {
        Ok(told) => told,
        Err(refused) => return refused.into_response(),
    };
    let etag = match &mut told {
        Value::Object(told) => told.remove("etag"),
        _ => None,
    };
    let mut response = (status, Json(told)).into_response();
    let etag = etag.as_ref().and_then(Value::as_str).map(|etag| format!("\"{etag}\""));
    if let Some(etag) = etag.and_then(|etag| HeaderValue::from_str(&etag).ok()) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}
