//! The API of the configuration.
//!
//! | route | |
//! |---|---|
//! | `POST /api/config/plan` | what an apply would do; nothing is written |
//! | `POST /api/config/apply` | does it; with `plan`, only if it is still that |
//! | `GET /api/config/export?show-sensitive=` | `{"yaml": …}`: what runs |
//! | `GET /api/config/drift` | what runs otherwise than the engine's own file says |
//!
//! A body is the predecessor's `{"yaml": …}`, beside it `plan`, `prune`, `prune_databases`, `owner`, `by`
//! and `reason`; or a bundle (`application/x-tar`), with these in the query. Nothing is filled in from the
//! engine's environment. A plan is `{"changes": […], "actions": […], "hash": …, "warnings": […]}`; what is
//! wrong is 422 with `{"summary", "validation_errors", "code"}`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use model::BoxFuture;
use model::tokens::Limits;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::caller::{by, limits};
use crate::extract::Query;
use crate::operation::{Operation, Routes, get, post};
use crate::shape;

/// Bytes of a body: a bundle with some components.
pub const CONFIG_BYTES_MAX: usize = 128 << 20;
/// Of a body without components.
const YAML_BYTES_MAX: usize = 16 << 20;

/// For the whole body: a slow one must not keep the others waiting for ever.
const WAIT: Duration = Duration::from_secs(300);

/// Characters of what people say of what they do.
const TEXT_MAX: usize = 2_000;

type Answer = BoxFuture<'static, Result<Value, ConfigRefused>>;

/// What is to run.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The configuration.
    pub content: Content,
    /// What the owner had applied before and names no more is to go.
    pub prune: bool,
    /// Databases, too: what their slots hold is lost.
    pub prune_databases: bool,
    /// Whose file it is: of several that are applied to one engine.
    pub owner: String,
    /// On whose word: claimed, not proven.
    pub by: String,
    /// Why.
    pub reason: String,
    /// What whoever asks may change.
    pub limits: Limits,
}

/// A configuration as it comes.
#[derive(Clone, Debug)]
pub enum Content {
    /// A YAML text.
    Yaml(String),
    /// A bundle.
    Bundle(Vec<u8>),
}

/// Why something is not done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigRefused {
    /// The status of the answer.
    pub status: u16,
    /// Stable, for programs.
    pub code: &'static str,
    /// For people.
    pub summary: String,
    /// What is wrong with the configuration, a text for each.
    pub errors: Vec<String>,
}

impl ConfigRefused {
    /// One reason.
    #[must_use]
    pub fn new(status: u16, code: &'static str, summary: impl Into<String>) -> Self {
        Self { status, code, summary: summary.into(), errors: Vec::new() }
    }
}

impl IntoResponse for ConfigRefused {
    fn into_response(self) -> Response {
        let Self { status, code, summary, errors } = self;
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut body = json!({"summary": format!("{code}: {summary}"), "code": code});
        if let (false, Value::Object(body)) = (errors.is_empty(), &mut body) {
            // The predecessor's form: by field.
            body.insert("validation_errors".to_owned(), json!({"yaml": errors}));
        }
        (status, Json(body)).into_response()
    }
}

/// What the configuration can be asked for. Answers are JSON as it is told.
pub trait Configs: Send + Sync {
    /// What an apply would do.
    fn plan(&self, proposal: Proposal) -> Answer;
    /// Does it; if a plan is named, only if it is still that.
    fn apply(&self, proposal: Proposal, plan: Option<String>) -> Answer;
    /// What runs, with its secrets or without.
    fn export(&self, with_secrets: bool) -> Answer;
    /// What runs otherwise than the engine's own file says.
    fn drift(&self) -> Answer;
}

#[derive(Clone)]
struct Context {
    configs: Arc<dyn Configs>,
    /// One body at a time: each may take its size in memory.
    bodies: Arc<Semaphore>,
}

pub(crate) fn routes(configs: Arc<dyn Configs>) -> Routes {
    use StatusCode as Is;
    let takes = |operation: Operation| {
        operation
            .query::<Said>()
            .takes::<Said>()
            .takes_as("application/x-tar", json!({"type": "string"}))
            .refuses(&[408, 409, 502])
    };
    let plan_told = "What an apply would do; nothing is written";
    let export_told = "What runs, as a `sequin.yaml`";
    let drift_told = "What runs otherwise than the engine's own file says";
    Routes::new()
        .with(
            takes(post("/api/config/plan", "config_plan", plan_told))
                .asks()
                .judged()
                .answers(Is::OK, shape::of::<Planned>()),
            plan,
        )
        .with(
            takes(post("/api/config/apply", "config_apply", "Does what a plan says"))
                .judged()
                .answers(Is::OK, shape::object(&[("resources", "array")])),
            apply,
        )
        .with(
            get("/api/config/export", "config_export", export_told)
                .query::<Export>()
                .answers(Is::OK, shape::object(&[("yaml", "string")]))
                .refuses(&[409]),
            export,
        )
        .with(
            get("/api/config/drift", "config_drift", drift_told)
                .answers(Is::OK, json!({"type": "object"}))
                .refuses(&[409]),
            drift,
        )
        .with_state(Context { configs, bodies: Arc::new(Semaphore::new(1)) })
}

/// A plan, for the document.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "plans come as values")]
struct Planned {
    /// What changes, by resource.
    changes: Vec<serde_json::Map<String, Value>>,
    /// What is done beside that: slots, publications, backfills.
    actions: Vec<serde_json::Map<String, Value>>,
    /// Of this plan: an apply that names it does nothing else.
    hash: String,
    /// What is worth a look.
    warnings: Vec<Value>,
}

#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Said {
    /// The file; not in a query.
    yaml: Option<String>,
    /// Of an apply: the hash of the plan that it is to be.
    plan: Option<String>,
    /// What the owner had applied before and names no more is to go.
    #[serde(default)]
    prune: bool,
    /// Databases, too: what their slots hold is lost.
    #[serde(default)]
    prune_databases: bool,
    /// Whose file it is: of several that are applied to one engine.
    owner: Option<String>,
    /// Who does it, if that is not the token.
    by: Option<String>,
    /// Why.
    reason: Option<String>,
}

async fn plan(
    State(context): State<Context>,
    Query(asked): Query<Said>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let answer = async {
        let _turn = context.bodies.acquire().await;
        let (proposal, _) = proposal(asked, &headers, body).await?;
        context.configs.plan(proposal).await
    };
    answered(answer.await)
}

async fn apply(
    State(context): State<Context>,
    Query(asked): Query<Said>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let answer = async {
        let _turn = context.bodies.acquire().await;
        let (proposal, plan) = proposal(asked, &headers, body).await?;
        context.configs.apply(proposal, plan).await
    };
    answered(answer.await)
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
struct Export {
    /// With its secrets: needs the scope `admin`.
    #[serde(default, rename = "show-sensitive")]
    show_sensitive: bool,
}

async fn export(State(context): State<Context>, Query(asked): Query<Export>) -> Response {
    answered(context.configs.export(asked.show_sensitive).await)
}

async fn drift(State(context): State<Context>) -> Response {
    answered(context.configs.drift().await)
}

fn answered(answer: Result<Value, ConfigRefused>) -> Response {
    answer.map_or_else(IntoResponse::into_response, |told| Json(told).into_response())
}

async fn proposal(
    asked: Said,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Proposal, Option<String>), ConfigRefused> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let content_type = content_type.unwrap_or_default();
    let is_bundle = content_type.starts_with("application/x-tar");
    if !is_bundle && !content_type.starts_with("application/json") {
        let told = "send JSON with `Content-Type: application/json`, or a bundle with \
                    `application/x-tar`";
        return Err(ConfigRefused::new(415, "content_type", told));
    }
    let most = if is_bundle { CONFIG_BYTES_MAX } else { YAML_BYTES_MAX };
    let late = |_| {
        ConfigRefused::new(408, "upload_timeout", "the body did not arrive within five minutes")
    };
    let bytes = tokio::time::timeout(WAIT, collected(body, most)).await.map_err(late)??;
    let wrong = |what: String| ConfigRefused::new(422, "bad_request", what);
    let (content, said) = if is_bundle {
        (Content::Bundle(bytes), asked)
    } else {
        if asked != Said::default() {
            return Err(wrong("with JSON, say it in the body and not in the query".to_owned()));
        }
        let mut said: Said =
            serde_json::from_slice(&bytes).map_err(|error| wrong(format!("body: {error}")))?;
        let yaml = said.yaml.take().ok_or_else(|| wrong("`yaml` is missing".to_owned()))?;
        (Content::Yaml(yaml), said)
    };
    let Said { yaml: _, plan, prune, prune_databases, owner, by: said_by, reason } = said;
    let text = |name: &str, said: Option<String>, default: &str| {
        let said = said.filter(|said| !said.is_empty()).unwrap_or_else(|| default.to_owned());
        // It is shown on terminals and in logs.
        if said.chars().count() > TEXT_MAX || said.chars().any(char::is_control) {
            let what =
                format!("`{name}` has at most {TEXT_MAX} characters, and no control characters");
            return Err(wrong(what));
        }
        Ok(said)
    };
    let proposal = Proposal {
        content,
        prune,
        prune_databases,
        owner: text("owner", owner, "default")?,
        by: by(Some(&text("by", said_by, "")?)),
        reason: text("reason", reason, "")?,
        limits: limits(),
    };
    Ok((proposal, plan))
}

async fn collected(body: Body, most: usize) -> Result<Vec<u8>, ConfigRefused> {
    let mut parts = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| {
            ConfigRefused::new(400, "truncated", format!("the body ended early: {error}"))
        })?;
        if bytes.len() + part.len() > most {
            let what = format!("a body of this kind has {most} bytes at most");
            return Err(ConfigRefused::new(413, "too_large", what));
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}
