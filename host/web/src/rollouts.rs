//! Other versions of functions on their way into use, and what functions cost:
//!
//! | | |
//! |---|---|
//! | `GET /api/sinks/SINK/rollouts` | `{"data": [rollout…]}`, the newest first |
//! | `POST /api/sinks/SINK/rollouts` | `{"function": …, "plugin": …, "percent": N, "rules": {…}}`: without `percent` a shadow |
//! | `GET /api/sinks/SINK/rollouts/ID` | one, with what both versions did |
//! | `PATCH /api/sinks/SINK/rollouts/ID` | `{"percent": N}`, `{"state": "promoted"}`, `{"state": "aborted", "reason": …}` |
//! | `GET /api/functions/costs` | `{"data": [cost…]}`, who took most CPU time first |
//!
//! A sink is named by its name or its id, a version by `NAME@VERSION` or `sha256:…`.

mod show;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use engine::rollout::{Report, RolloutError, Start, Turn};
use engine::status::Status;
use model::BoxFuture;
use model::plugin::Plugin;
use model::rollout::{Rollout, RolloutState, Rules};
use model::store::StoreError;
use model::tokens::Scope;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::extract::{Body, Path, Query};
use crate::operation::{Routes, get, patch, post};
use crate::paged::Paged;
use crate::reply::{self, Refused};
use crate::shape;

/// Loads another version of a function: its name, the component as a configuration names it, and
/// whether it is to run where it takes nothing from the others.
pub type Open = Arc<
    dyn Fn(String, String, bool) -> BoxFuture<'static, Result<Arc<dyn Plugin>, String>>
        + Send
        + Sync,
>;

/// What the management of rollouts needs.
#[derive(Clone)]
pub struct Rollouts {
    /// Of the engine.
    pub rollouts: engine::rollout::Rollouts,
    /// Of the engine.
    pub status: Arc<Status>,
    /// For versions.
    pub open: Open,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Begin {
    /// What the sink calls it.
    function: String,
    /// `NAME@VERSION` or `sha256:…`.
    plugin: String,
    /// Of the groups, by the hash of their key; without it a shadow.
    percent: Option<u8>,
    /// When it is promoted or aborted by itself.
    #[serde(default)]
    #[schemars(with = "serde_json::Map<String, Value>")]
    rules: Rules,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Change {
    percent: Option<u8>,
    /// `promoted` or `aborted`.
    state: Option<String>,
    reason: Option<String>,
}

pub(crate) fn routes(of: Rollouts) -> Routes {
    use StatusCode as Is;
    const ALL: &str = "/api/sinks/{sink}/rollouts";
    const ONE: &str = "/api/sinks/{sink}/rollouts/{id}";
    Routes::new()
        .with(
            get(ALL, "rollouts_list", "Versions on their way into use, the newest first")
                .scope(Scope::Plugins)
                .of("sink")
                .query::<Paged>()
                .answers(Is::OK, shape::pages(show::schema())),
            list,
        )
        .with(
            post(ALL, "rollouts_begin", "Begins a shadow, or with `percent` a canary")
                .scope(Scope::Plugins)
                .of("sink")
                .takes::<Begin>()
                .answers(Is::OK, show::schema_whole())
                .link("rollouts_show", "id", "id")
                .link("rollouts_change", "id", "id")
                .refuses(&[409]),
            begin,
        )
        .with(
            get(ONE, "rollouts_show", "One, with what both versions did")
                .scope(Scope::Plugins)
                .of("sink")
                .answers(Is::OK, show::schema_whole()),
            one,
        )
        .with(
            patch(ONE, "rollouts_change", "Another share, promote or abort")
                .scope(Scope::Plugins)
                .of("sink")
                .takes::<Change>()
                .answers(Is::OK, show::schema_whole())
                .refuses(&[409]),
            change,
        )
        .with(
            get("/api/functions/costs", "functions_costs", "Who took most CPU time first")
                .answers(Is::OK, shape::list(json!({"type": "object"}))),
            costs,
        )
        .with_state(of)
}

fn answered(answer: Result<Value, Refused>) -> Response {
    match answer {
        Ok(value) => Json(value).into_response(),
        Err(refused) => refused.into_response(),
    }
}

async fn list(
    State(of): State<Rollouts>,
    Path(sink): Path<String>,
    Query(paged): Query<Paged>,
) -> Response {
    let reports = of.rollouts.list();
    let of = reports.iter().rev().filter(|report| is_of(&report.record, &sink));
    paged.answer(of.map(show::rollout).collect(), "id")
}

async fn one(State(of): State<Rollouts>, Path((sink, id)): Path<(String, String)>) -> Response {
    let answer = || Ok(show::whole(&of.find(&sink, &id)?));
    answered(answer())
}

async fn begin(
    State(of): State<Rollouts>,
    Path(sink): Path<String>,
    Body(begin): Body<Begin>,
) -> Response {
    let answer = async {
        let Begin { function, plugin: component, percent, rules } = begin;
        let opened = (of.open)(function.clone(), component.clone(), percent.is_none());
        let plugin = opened.await.map_err(bad)?;
        let start = Start { sink, function, component, plugin, percent, rules };
        let report = of.rollouts.start(start).await.map_err(refused)?;
        Ok(show::whole(&report))
    };
    answered(answer.await)
}

async fn change(
    State(of): State<Rollouts>,
    Path((sink, id)): Path<(String, String)>,
    Body(change): Body<Change>,
) -> Response {
    let answer = async {
        let record = of.find(&sink, &id)?.record;
        let Change { percent, state, reason } = change;
        let turn = match (percent, state.as_deref()) {
            (Some(percent), None) => Turn::Share(percent, of.open(&record).await?),
            (None, Some("promoted")) => Turn::Promote(of.open(&record).await?),
            (None, Some("aborted")) => {
                let why = reason.unwrap_or_else(|| "by hand".to_owned());
                Turn::Abort(why)
            }
            _ => return Err(bad("give `percent`, or `state`: promoted or aborted")),
        };
        let report = of.rollouts.turn(&id, turn).await.map_err(refused)?;
        Ok(show::whole(&report))
    };
    answered(answer.await)
}

async fn costs(State(of): State<Rollouts>) -> Response {
    let answer = || {
        let slots = of.status.slots.list();
        let sinks: Vec<_> = slots.iter().flat_map(|slot| slot.sinks.list()).collect();
        Ok(json!({ "data": show::costs(&sinks) }))
    };
    answered(answer())
}

impl Rollouts {
    fn find(&self, sink: &str, id: &str) -> Result<Report, Refused> {
        let found = self.rollouts.get(id).filter(|report| is_of(&report.record, sink));
        found.ok_or_else(|| {
            let told = format!("Not found: sink `{sink:.200}` has no rollout `{id:.50}`");
            reply::error(StatusCode::NOT_FOUND, told)
        })
    }

    /// What was in the shadow, for use: the very version that was.
    async fn open(&self, record: &Rollout) -> Result<Option<Arc<dyn Plugin>>, Refused> {
        if record.state != RolloutState::Shadow {
            return Ok(None);
        }
        let opened = (self.open)(record.function.to_string(), record.digest.to_string(), false);
        opened.await.map(Some).map_err(bad)
    }
}

fn is_of(record: &Rollout, sink: &str) -> bool {
    *record.sink == *sink || *record.sink_id == *sink
}

fn bad(error: impl Into<String>) -> Refused {
    reply::error(StatusCode::UNPROCESSABLE_ENTITY, error)
}

fn refused(error: RolloutError) -> Refused {
    let status = match &error {
        RolloutError::NotFound(_) => StatusCode::NOT_FOUND,
        RolloutError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
        RolloutError::Conflict(_) | RolloutError::Store(StoreError::Refused(_)) => {
            StatusCode::CONFLICT
        }
        RolloutError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    reply::error(status, error.to_string())
}
