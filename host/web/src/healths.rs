//! `GET /api/health`: every slot and sink with its checks, and the last alerts. `POST
//! /api/health/dismiss` hides a notice, or shows it again.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use engine::health::{Check, Entity, Flip, Problem};
use engine::status::Status;
use model::store::{Epoch, HealthRecords};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::extract::Body;
use crate::operation::{Routes, get, post};
use crate::reply::{self, Refused};
use crate::shape;

/// Where the API of health gets its answers.
#[derive(Clone)]
pub struct Healths {
    /// What the engine shows.
    pub status: Arc<Status>,
    /// Where a dismissal is kept.
    pub records: Arc<dyn HealthRecords>,
    /// This process' token for that.
    pub epoch: Epoch,
}

pub(crate) fn routes(healths: Healths) -> Routes {
    let list_told = "Every slot and sink with its checks, and the last alerts";
    let dismiss_told = "Hides a notice, or shows it again";
    Routes::new()
        .with(
            get("/api/health", "health_list", list_told)
                .answers(StatusCode::OK, shape::of::<Answer>()),
            list,
        )
        .with(
            post("/api/health/dismiss", "health_dismiss", dismiss_told)
                .takes::<Dismissal>()
                .answers_nothing()
                .refuses(&[404]),
            dismiss,
        )
        .with_state(healths)
}

async fn list(State(healths): State<Healths>) -> Response {
    let health = &healths.status.health;
    let (entities, flips) = (health.entities(), health.flips());
    let answer = Answer {
        data: entities.iter().map(EntityView::of).collect(),
        flips: flips.iter().map(FlipView::of).collect(),
    };
    axum::Json(answer).into_response()
}

async fn dismiss(State(healths): State<Healths>, Body(dismissal): Body<Dismissal>) -> Response {
    let answer = async {
        let Dismissal { entity, notice, dismissed } = dismissal;
        let Healths { status, records, epoch } = &healths;
        let is_known = status.health.entities().iter().any(|known| known.key() == entity);
        if !is_known {
            return Err(reply::error(StatusCode::NOT_FOUND, "there is no such entity"));
        }
        let kept = records.dismiss(*epoch, &entity, &notice, dismissed).await;
        kept.map_err(|error| reply::error(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
        status.health.dismiss(&entity, &notice, dismissed);
        Ok(StatusCode::NO_CONTENT.into_response())
    };
    answer.await.unwrap_or_else(Refused::into_response)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Dismissal {
    /// The `key` of an entity.
    entity: String,
    /// The `notice` of a check.
    notice: String,
    #[serde(default = "yes")]
    dismissed: bool,
}

fn yes() -> bool {
    true
}

#[derive(Serialize, JsonSchema)]
struct Answer {
    data: Vec<EntityView>,
    flips: Vec<FlipView>,
}

#[derive(Serialize, JsonSchema)]
struct EntityView {
    key: String,
    entity_kind: &'static str,
    entity_id: String,
    name: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    erroring_since: Option<String>,
    checks: Vec<CheckView>,
}

impl EntityView {
    fn of(entity: &Entity) -> Self {
        Self {
            key: entity.key(),
            entity_kind: entity.kind.as_str(),
            entity_id: entity.id.clone(),
            name: entity.name.clone(),
            status: entity.level.as_str(),
            erroring_since: entity.erroring_since_us.map(time),
            checks: entity.checks.iter().map(CheckView::of).collect(),
        }
    }
}

#[derive(Serialize, JsonSchema)]
struct CheckView {
    slug: &'static str,
    name: &'static str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorView>,
    /// What a dismissal names.
    #[serde(skip_serializing_if = "Option::is_none")]
    notice: Option<String>,
}

impl CheckView {
    fn of(check: &Check) -> Self {
        Self {
            slug: check.slug,
            name: check.name,
            status: check.level.as_str(),
            error: check.problem.as_ref().map(ErrorView::of),
            notice: check.notice(),
        }
    }
}

#[derive(Serialize, JsonSchema)]
struct ErrorView {
    code: &'static str,
    message: String,
}

impl ErrorView {
    fn of(problem: &Problem) -> Self {
        Self { code: problem.code, message: problem.message.clone() }
    }
}

#[derive(Serialize, JsonSchema)]
struct FlipView {
    at: String,
    kind: &'static str,
    entity_kind: &'static str,
    entity_id: String,
    name: String,
    status: &'static str,
    erroring_since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorView>,
}

impl FlipView {
    fn of(flip: &Flip) -> Self {
        Self {
            at: time(flip.at_us),
            kind: if flip.is_alert { "alert" } else { "resolve" },
            entity_kind: flip.kind.as_str(),
            entity_id: flip.id.clone(),
            name: flip.name.clone(),
            status: flip.level.as_str(),
            erroring_since: time(flip.erroring_since_us),
            error: flip.problem.as_ref().map(ErrorView::of),
        }
    }
}

/// What a flip is called, and what it tells.
pub(crate) fn flip_of(flip: &Flip) -> (&'static str, String) {
    let view = FlipView::of(flip);
    (view.kind, serde_json::to_string(&view).unwrap_or_default())
}

/// As the messages write it.
fn time(us: i64) -> String {
    model::json::time_of_day(us)
}

#[cfg(test)]
pub(crate) mod tests {
    use engine::budget::Budget;
    use engine::health::Health;
    use engine::status::{ConfigStatus, Shown};
    use model::BoxFuture;
    use model::store::{HealthRecord, StoreError};

    use super::*;

    struct Nowhere;

    impl HealthRecords for Nowhere {
        fn load(&self) -> BoxFuture<'_, Result<HealthRecord, StoreError>> {
            Box::pin(async { Ok(HealthRecord::default()) })
        }

        fn record(
            &self,
            _epoch: Epoch,
            _erroring: Vec<(String, i64)>,
        ) -> BoxFuture<'_, Result<(), StoreError>> {
            Box::pin(async { Ok(()) })
        }

        fn dismiss<'a>(
            &'a self,
            _epoch: Epoch,
            _entity: &'a str,
            _notice: &'a str,
            _is_dismissed: bool,
        ) -> BoxFuture<'a, Result<(), StoreError>> {
            Box::pin(async { Err(StoreError::Unavailable("nowhere".to_owned())) })
        }
    }

    /// Of an engine without slots.
    pub(crate) fn nothing() -> Healths {
        let (slots, budget) = (Shown::default(), Budget::new(1));
        let (config, health) = (ConfigStatus::default(), Health::default());
        let status = Arc::new(Status { slots, budget, config, health });
        Healths { status, records: Arc::new(Nowhere), epoch: Epoch(1) }
    }

    #[tokio::test]
    async fn what_is_not_known_is_not_dismissed() {
        let healths = || State(nothing());
        assert_eq!(list(healths()).await.status(), StatusCode::OK);
        let unknown = Dismissal { entity: "a".to_owned(), notice: "b".to_owned(), dismissed: true };
        assert_eq!(dismiss(healths(), Body(unknown)).await.status(), StatusCode::NOT_FOUND);
    }
}
