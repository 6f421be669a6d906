//! `/api/sinks/SINK/backfills`: whole tables for one sink. Paths, bodies and answers are the
//! predecessor's; what it did not have is told beside them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use engine::backfill::{Backfills, Refused as EngineRefused, Request, Shown};
use model::backfill::Wanted;
use model::store::{BackfillLimits, BackfillState};
use serde::{Deserialize, Serialize};

use crate::reply::{self, Refused};

/// The predecessor's bound.
const TIMEOUT_MS_MAX: u64 = 600_000;
/// Of one backfill.
const RANGES_MAX: usize = 64;

pub(crate) fn routes(backfills: Backfills) -> Router {
    let one = get(show).put(update).patch(update);
    Router::new()
        .route("/api/sinks/{sink}/backfills", get(list).post(create))
        .route("/api/sinks/{sink}/backfills/{id}", one)
        .with_state(backfills)
}

/// What is asked for. All but `table` has a default.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    /// `schema.table`, or a table of `public`; needed if the sink may have several.
    table: Option<String>,
    sort_column: Option<String>,
    start_position: Option<serde_json::Value>,
    /// Ours: an SQL condition.
    condition: Option<String>,
    max_timeout_ms: Option<u64>,
    max_rows_per_second: Option<u32>,
    by_place: Option<bool>,
    ranges: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Update {
    state: String,
}

/// A backfill as it is shown.
#[derive(Serialize)]
struct Body {
    id: Arc<str>,
    sink_consumer: Arc<str>,
    table: String,
    state: &'static str,
    sort_column: Option<Arc<str>>,
    start_position: Option<Arc<str>>,
    condition: Option<Arc<str>>,
    /// An estimate: nothing is counted.
    rows_initial_count: Option<u64>,
    rows_processed_count: u64,
    rows_ingested_count: u64,
    rows_evicted_count: u64,
    max_timeout_ms: u64,
    max_rows_per_second: Option<u32>,
    rows_per_second: Option<f64>,
    remaining_seconds: Option<u64>,
    /// Why it does not go on at the moment.
    waiting: Option<String>,
    error: Option<String>,
    inserted_at: String,
    updated_at: String,
    completed_at: Option<String>,
    canceled_at: Option<String>,
    failed_at: Option<String>,
}

impl From<Shown> for Body {
    fn from(shown: Shown) -> Self {
        let Shown { backfill, waiting, rows_per_second, remaining, .. } = shown;
        let ended = |state| {
            let time = backfill.ended_us.filter(|_| backfill.state == state);
            time.map(time_text)
        };
        let millis = backfill.limits.page_timeout.as_millis();
        Self {
            table: format!("{}.{}", backfill.wanted.schema, backfill.wanted.table),
            state: backfill.state.as_str(),
            rows_initial_count: backfill.rows_estimate,
            rows_processed_count: backfill.counts.read,
            rows_ingested_count: backfill.counts.delivered,
            rows_evicted_count: backfill.counts.evicted,
            max_timeout_ms: u64::try_from(millis).unwrap_or(u64::MAX),
            max_rows_per_second: backfill.limits.rows_per_second,
            rows_per_second,
            remaining_seconds: remaining.map(|remaining| remaining.as_secs()),
            waiting,
            inserted_at: time_text(backfill.created_us),
            updated_at: time_text(backfill.updated_us),
            completed_at: ended(BackfillState::Completed),
            canceled_at: ended(BackfillState::Cancelled),
            failed_at: ended(BackfillState::Failed),
            error: backfill.error,
            id: backfill.id,
            sink_consumer: backfill.sink,
            sort_column: backfill.wanted.sort_column,
            start_position: backfill.wanted.from,
            condition: backfill.wanted.condition,
        }
    }
}

/// ISO 8601.
fn time_text(us: i64) -> String {
    let mut text = String::new();
    model::json::timestamp(&mut text, us);
    text
}

async fn list(State(backfills): State<Backfills>, Path(sink): Path<String>) -> Response {
    let answer = async {
        let all = backfills.list(&sink).await.map_err(refused)?;
        let data: Vec<Body> = all.into_iter().map(Body::from).collect();
        Ok(Json(serde_json::json!({ "data": data })).into_response())
    };
    answer.await.unwrap_or_else(Refused::into_response)
}

async fn show(
    State(backfills): State<Backfills>,
    Path((sink, id)): Path<(String, String)>,
) -> Response {
    let answer = async {
        let shown = backfills.get(&sink, &id).await.map_err(refused)?;
        Ok(Json(Body::from(shown)).into_response())
    };
    answer.await.unwrap_or_else(Refused::into_response)
}

async fn create(
    State(backfills): State<Backfills>,
    Path(sink): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let answer = async {
        let create = read(&headers, body)?;
        let request = request(sink, create)?;
        let shown = backfills.create(request).await.map_err(refused)?;
        Ok((StatusCode::CREATED, Json(Body::from(shown))).into_response())
    };
    answer.await.unwrap_or_else(Refused::into_response)
}

async fn update(
    State(backfills): State<Backfills>,
    Path((sink, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let answer = async {
        let Update { state } = read(&headers, body)?;
        let known = BackfillState::from_word(&state)
            // American, as in `canceled_at`.
            .or_else(|| (state == "canceled").then_some(BackfillState::Cancelled));
        let state = known.ok_or_else(|| {
            let told = format!("`state` is active, paused or cancelled, not `{state:.100}`");
            reply::error(StatusCode::UNPROCESSABLE_ENTITY, told)
        })?;
        let shown = backfills.set_state(&sink, &id, state).await.map_err(refused)?;
        Ok(Json(Body::from(shown)).into_response())
    };
    answer.await.unwrap_or_else(Refused::into_response)
}

/// JSON, and said to be: a page of another host cannot send that without being asked first.
fn read<T: for<'a> Deserialize<'a>>(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<T, Refused> {
    let content = headers.get(header::CONTENT_TYPE).and_then(|content| content.to_str().ok());
    let is_json = content.is_some_and(|content| content.starts_with("application/json"));
    if !is_json {
        let told = "send JSON, with `Content-Type: application/json`";
        return Err(reply::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, told));
    }
    let body = body.map_err(|error| reply::error(error.status(), error.body_text()))?;
    serde_json::from_slice(&body)
        .map_err(|error| reply::error(StatusCode::UNPROCESSABLE_ENTITY, format!("body: {error}")))
}

fn request(sink: String, create: Create) -> Result<Request, Refused> {
    let wrong = |told: String| reply::error(StatusCode::UNPROCESSABLE_ENTITY, told);
    let name = create.table.unwrap_or_default();
    let (schema, table) = name.split_once('.').unwrap_or(("public", &name));
    let from = match create.start_position {
        None | Some(serde_json::Value::Null) => None,
        Some(serde_json::Value::String(text)) => Some(text),
        Some(number @ serde_json::Value::Number(_)) => Some(number.to_string()),
        Some(_) => return Err(wrong("`start_position` is a text or a number".to_owned())),
    };
    if from.is_some() && create.sort_column.is_none() {
        return Err(wrong("`start_position` needs the `sort_column` that it is a value of".into()));
    }
    let ranges = create.ranges.unwrap_or(1);
    if !(1..=RANGES_MAX).contains(&ranges) {
        return Err(wrong(format!("`ranges` must be between 1 and {RANGES_MAX}")));
    }
    if create.max_rows_per_second == Some(0) {
        return Err(wrong("`max_rows_per_second` must be 1 or more".to_owned()));
    }
    let mut limits = BackfillLimits {
        rows_per_second: create.max_rows_per_second,
        by_place: create.by_place.unwrap_or(false),
        ..BackfillLimits::default()
    };
    if let Some(timeout) = create.max_timeout_ms {
        if !(1..=TIMEOUT_MS_MAX).contains(&timeout) {
            return Err(wrong(format!("`max_timeout_ms` must be between 1 and {TIMEOUT_MS_MAX}")));
        }
        limits.page_timeout = Duration::from_millis(timeout);
    }
    let wanted = Wanted {
        schema: schema.into(),
        table: table.into(),
        sort_column: create.sort_column.map(Into::into),
        from: from.map(Into::into),
        condition: create.condition.map(Into::into),
        ranges,
    };
    Ok(Request { sink, wanted, limits })
}

fn refused(error: EngineRefused) -> Refused {
    let status = match &error {
        EngineRefused::Missing(_) => StatusCode::NOT_FOUND,
        EngineRefused::Conflict { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        EngineRefused::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let code = match &error {
        EngineRefused::Conflict { code, .. } => format!("{code}: "),
        _ => String::new(),
    };
    reply::error(status, format!("{code}{error}"))
}
