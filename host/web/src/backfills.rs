//! `/api/sinks/SINK/backfills`: whole tables for one sink. Paths, bodies and answers are the
//! predecessor's; what it did not have is told beside them.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use engine::backfill::{Backfills, Refused as EngineRefused, Request, Shown};
use model::backfill::Wanted;
use model::store::{BackfillLimits, BackfillState};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::extract::{Body, Path, Query};
use crate::operation::{Routes, get, patch, post, put};
use crate::paged::Paged;
use crate::reply::{self, Refused};
use crate::shape;

/// The predecessor's bound.
const TIMEOUT_MS_MAX: u64 = 600_000;
/// Of one backfill.
const RANGES_MAX: usize = 64;

pub(crate) fn routes(backfills: Backfills) -> Routes {
    use StatusCode as Is;
    const ALL: &str = "/api/sinks/{sink}/backfills";
    const ONE: &str = "/api/sinks/{sink}/backfills/{id}";
    let body = || shape::of::<Shape>();
    let told = "Pauses, resumes or cancels a backfill";
    Routes::new()
        .with(
            get(ALL, "backfills_list", "Backfills of a sink, the newest first")
                .of("sink")
                .query::<Paged>()
                .answers(Is::OK, shape::pages(body())),
            list,
        )
        .with(
            post(ALL, "backfills_create", "Reads a table whole, for one sink")
                .of("sink")
                .takes::<Create>()
                .answers(Is::CREATED, body())
                .link("backfills_show", "id", "id")
                .link("backfills_update", "id", "id"),
            create,
        )
        .with(
            get(ONE, "backfills_show", "How far a backfill is").of("sink").answers(Is::OK, body()),
            show,
        )
        .with(
            put(ONE, "backfills_replace", told)
                .of("sink")
                .takes::<Update>()
                .answers(Is::OK, body()),
            update,
        )
        .with(
            patch(ONE, "backfills_update", told)
                .of("sink")
                .takes::<Update>()
                .answers(Is::OK, body()),
            update,
        )
        .with_state(backfills)
}

/// What is asked for. All but `table` has a default.
#[derive(Debug, Deserialize, JsonSchema)]
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

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Update {
    /// `active`, `paused` or `cancelled`.
    state: String,
}

/// A backfill as it is shown.
#[derive(Serialize, JsonSchema)]
struct Shape {
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

impl From<Shown> for Shape {
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

async fn list(
    State(backfills): State<Backfills>,
    Path(sink): Path<String>,
    Query(paged): Query<Paged>,
) -> Response {
    let answer = async {
        let all = backfills.list(&sink).await.map_err(refused)?;
        let data: Vec<Shape> = all.into_iter().map(Shape::from).collect();
        Ok(Json(paged.of(data, |backfill| &*backfill.id)?).into_response())
    };
    answer.await.unwrap_or_else(Refused::into_response)
}

async fn show(
    State(backfills): State<Backfills>,
    Path((sink, id)): Path<(String, String)>,
) -> Response {
    let answer = async {
        let shown = backfills.get(&sink, &id).await.map_err(refused)?;
        Ok(Json(Shape::from(shown)).into_response())
    };
    answer.await.unwrap_or_else(Refused::into_response)
}

async fn create(
    State(backfills): State<Backfills>,
    Path(sink): Path<String>,
    Body(create): Body<Create>,
) -> Response {
    let answer = async {
        let request = request(sink, create)?;
        let shown = backfills.create(request).await.map_err(refused)?;
        Ok((StatusCode::CREATED, Json(Shape::from(shown))).into_response())
    };
    answer.await.unwrap_or_else(Refused::into_response)
}

async fn update(
    State(backfills): State<Backfills>,
    Path((sink, id)): Path<(String, String)>,
    Body(Update { state }): Body<Update>,
) -> Response {
    let answer = async {
        let known = BackfillState::from_word(&state)
            // American, as in `canceled_at`.
            .or_else(|| (state == "canceled").then_some(BackfillState::Cancelled));
        let state = known.ok_or_else(|| {
            let told = format!("`state` is active, paused or cancelled, not `{state:.100}`");
            reply::error(StatusCode::UNPROCESSABLE_ENTITY, told)
        })?;
        let shown = backfills.set_state(&sink, &id, state).await.map_err(refused)?;
        Ok(Json(Shape::from(shown)).into_response())
    };
    answer.await.unwrap_or_else(Refused::into_response)
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
