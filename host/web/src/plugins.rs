//! Versions of plugins, what sinks are bound to, and who did what:
//!
//! | | |
//! |---|---|
//! | `GET /api/plugins` | `{"data": [version…]}` |
//! | `POST /api/plugins?name=&version=&digest=&comment=&by=` | the body is a component; `sequin-signature` headers hold detached signatures, in base64. 201, or 200 if it was there |
//! | `GET /api/plugins/NAME/VERSION`, `DELETE …` | one of them |
//! | `POST /api/plugins/collect` | removes bytes that nothing names: `{"removed": [digest…]}` |
//! | `GET /api/bindings` | what all sinks run, and what is held |
//! | `GET /api/sinks/SINK/bindings` | its generations, the newest first |
//! | `POST /api/sinks/SINK/promote` | `{"to": "name@version", "role": …, "function": …, "config": {…}, "reason": …, "by": …}` |
//! | `POST /api/sinks/SINK/rollback` | `{"role": …, "generation": N, "reason": …, "by": …}` |
//! | `POST /api/sinks/SINK/release` | `{"role": …, "reason": …, "by": …}` |
//! | `GET /api/audit?below=&limit=` | `{"data": [deed…], "next": id or null}`, the newest first |
//!
//! A refusal is `{"summary": "code: text"}`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use model::BoxFuture;
use model::store::StoreError;
use model::tokens::Scope;
use model::versions::{Role, VersionsError};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::caller::{by, limits, may};
use crate::extract::{Body, Path, Query};
use crate::operation::{Routes, delete, get, post};
use crate::paged::{self, Paged};
use crate::reply::{self, Refused};
use crate::shape;

/// A component; what the sandbox loads at most.
pub const UPLOAD_BYTES_MAX: usize = 64 << 20;

/// For the whole body of an upload: a slow one must not keep the others waiting for ever.
const UPLOAD_WAIT: Duration = Duration::from_secs(300);

/// Signatures of one upload, and bytes of each.
const SIGNATURES_MAX: usize = 16;
const SIGNATURE_BYTES_MAX: usize = 1_024;

/// Characters of what people say of an upload or of what they do.
const TEXT_MAX: usize = 2_000;

/// Deeds of a page, unless asked for otherwise, and at most.
const DEEDS: usize = 50;
const DEEDS_MAX: usize = 1_000;

type Answer = BoxFuture<'static, Result<Value, VersionsError>>;

/// What an upload says beside its bytes.
#[derive(Clone, Debug, Default)]
pub struct Upload {
    /// Else what the component says.
    pub name: Option<String>,
    /// Likewise.
    pub version: Option<String>,
    /// What it must be.
    pub digest: Option<String>,
    /// What is to be remembered of it.
    pub comment: String,
    /// Who uploads: claimed, not proven.
    pub by: String,
    /// Of its bytes, in base64.
    pub signatures: Vec<String>,
}

/// Something that is done to a binding by hand.
#[derive(Clone, Debug)]
pub enum ByHand {
    /// Another version.
    Promote {
        /// `name@version` or a digest.
        to: String,
        /// Which of the chain.
        function: Option<String>,
        /// Another config, as a JSON object.
        config: Option<String>,
    },
    /// What it was before.
    Rollback {
        /// Else the newest that was other than what runs.
        to: Option<u64>,
    },
    /// `sequin.yaml` decides again.
    Release,
}

/// On whose word something is done, and why: claimed, not proven.
#[derive(Clone, Debug)]
pub struct Audited {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What the platform does. Answers are JSON as it is told.
pub trait Plugins: Send + Sync {
    /// All versions.
    fn versions(&self) -> Answer;
    /// Checks and records a version; `created` says whether it was new.
    fn upload(&self, upload: Upload, bytes: Vec<u8>) -> Answer;
    /// Forgets a version.
    fn remove(&self, name: String, version: String, audited: Audited) -> Answer;
    /// Removes bytes that nothing names.
    fn collect(&self, audited: Audited) -> Answer;
    /// What all sinks run; of one, its generations.
    fn bindings(&self, sink: Option<String>) -> Answer;
    /// Changes a binding.
    fn by_hand(&self, sink: String, role: Option<Role>, what: ByHand, audited: Audited) -> Answer;
    /// Who did what.
    fn deeds(&self, below: Option<i64>, limit: usize) -> Answer;
}

#[derive(Clone)]
struct Context {
    plugins: Arc<dyn Plugins>,
    /// One at a time: each may take its size in memory.
    uploads: Arc<Semaphore>,
}

pub(crate) fn routes(plugins: Arc<dyn Plugins>) -> Routes {
    use StatusCode as Is;
    const ALL: &str = "/api/plugins";
    const ONE: &str = "/api/plugins/{name}/{version}";
    let binding = || json!({"type": "object"});
    let by_hand = |path: &str, id: &str, told: &str| {
        post(path, id, told)
            .scope(Scope::Plugins)
            .of("sink")
            .takes::<Said>()
            .answers(Is::OK, binding())
            .refuses(&[409])
    };
    Routes::new()
        .with(
            get(ALL, "plugins_list", "Versions of plugins")
                .judged()
                .query::<Paged>()
                .answers(Is::OK, shape::pages(version())),
            list,
        )
        .with(
            post(ALL, "plugins_upload", "Records a version: the body is the component")
                .scope(Scope::Plugins)
                .judged()
                .query::<Asked>()
                .header("sequin-signature", "A detached signature of the bytes, in base64.")
                .takes_as(
                    "application/wasm",
                    json!({"type": "string", "contentMediaType": "application/wasm"}),
                )
                .takes_as("application/octet-stream", json!({"type": "string"}))
                .answers(Is::OK, version())
                .answers(Is::CREATED, version())
                .refuses(&[408, 409, 507]),
            upload,
        )
        .with(
            post("/api/plugins/collect", "plugins_collect", "Removes bytes that nothing names")
                .scope(Scope::Plugins)
                .answers(Is::OK, shape::object(&[("removed", "array")])),
            collect,
        )
        .with(get(ONE, "plugins_show", "A version").of("plugin").answers(Is::OK, version()), one)
        .with(
            delete(ONE, "plugins_delete", "Forgets a version that nothing uses")
                .scope(Scope::Plugins)
                .of("plugin")
                .answers(Is::OK, json!({"type": "object"}))
                .refuses(&[409]),
            remove,
        )
        .with(
            get("/api/bindings", "bindings_list", "What all sinks run, and what is held")
                .answers(Is::OK, shape::list(binding())),
            all_bindings,
        )
        .with(
            get("/api/sinks/{sink}/bindings", "sink_bindings_list", "Its generations")
                .of("sink")
                .answers(Is::OK, shape::list(binding())),
            history,
        )
        .with(
            by_hand(
                "/api/sinks/{sink}/promote",
                "sinks_promote",
                "Another version, from the next row on",
            ),
            promote,
        )
        .with(
            by_hand(
                "/api/sinks/{sink}/rollback",
                "sinks_rollback",
                "What it was before, and a hold",
            ),
            rollback,
        )
        .with(
            by_hand("/api/sinks/{sink}/release", "sinks_release", "`sequin.yaml` decides again"),
            release,
        )
        .with(
            get("/api/audit", "audit_list", "Who changed what, the newest first")
                .query::<Page>()
                .answers(Is::OK, shape::pages(json!({"type": "object"}))),
            audit,
        )
        .with_state(Context { plugins, uploads: Arc::new(Semaphore::new(1)) })
}

fn version() -> Value {
    shape::object(&[("name", "string"), ("version", "string"), ("digest", "string")])
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// Else what the component says.
    name: Option<String>,
    /// Else what the component says.
    version: Option<String>,
    /// What its bytes must be: `sha256:…`.
    digest: Option<String>,
    comment: Option<String>,
    /// Who does it, if that is not the token.
    by: Option<String>,
}

#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Said {
    /// `filter`, `route` or `transform`; needed where it could be several.
    role: Option<String>,
    /// Of a promotion: `NAME@VERSION` or `sha256:…`.
    to: Option<String>,
    /// Of a promotion: which one of the chain.
    function: Option<String>,
    /// Of a promotion: another config.
    config: Option<serde_json::Map<String, Value>>,
    /// Of a rollback: else the newest that was another one.
    generation: Option<u64>,
    by: Option<String>,
    reason: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Page {
    /// What the page before gave as `next`.
    below: Option<i64>,
    /// 50 unless said, 1,000 at most.
    limit: Option<usize>,
}

fn answered(status: StatusCode, answer: Result<Value, Refused>) -> Response {
    match answer {
        Ok(value) => (status, Json(value)).into_response(),
        Err(refused) => refused.into_response(),
    }
}

async fn list(State(context): State<Context>, Query(paged): Query<Paged>) -> Response {
    match context.plugins.versions().await {
        Ok(told) => {
            let mut data = paged::data(told);
            data.retain(|it| may("plugin", paged::text(it, "name")));
            paged.answer_by(data, |it| {
                format!("{}@{}", paged::text(it, "name"), paged::text(it, "version"))
            })
        }
        Err(error) => refused(error).into_response(),
    }
}

async fn one(
    State(context): State<Context>,
    Path((name, version)): Path<(String, String)>,
) -> Response {
    let answer = async {
        let all = context.plugins.versions().await.map_err(refused)?;
        let has = |it: &Value, key: &str, wanted: &str| it.get(key).is_some_and(|is| is == wanted);
        let is_it = |it: &&Value| has(it, "name", &name) && has(it, "version", &version);
        let all = all.get("data").and_then(Value::as_array);
        let found = all.and_then(|all| all.iter().find(is_it)).cloned();
        found.ok_or_else(|| {
            let told = format!("unknown_version: there is no {name:.100}@{version:.100}");
            reply::error(StatusCode::NOT_FOUND, told)
        })
    };
    answered(StatusCode::OK, answer.await)
}

async fn upload(
    State(context): State<Context>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
    body: axum::body::Body,
) -> Response {
    let answer = async {
        if !asked.name.as_ref().map_or(limits().is_none(), |name| may("plugin", name)) {
            let told =
                "limited: the token is not for a plugin of this name: say which, with `name=`";
            return Err(reply::error(StatusCode::FORBIDDEN, told));
        }
        let upload = Upload {
            name: asked.name,
            version: asked.version,
            digest: asked.digest,
            comment: text("comment", asked.comment)?,
            by: text("by", asked.by)?,
            signatures: signatures(&headers)?,
        };
        let bytes = async {
            let turn = context.uploads.acquire().await;
            Ok::<_, Refused>((turn, collected(&headers, body).await?))
        };
        let late = |_| {
            let told = "upload_timeout: the component did not arrive within five minutes";
            reply::error(StatusCode::REQUEST_TIMEOUT, told)
        };
        // Until it is on record: so long its bytes are held.
        let (_turn, bytes) = tokio::time::timeout(UPLOAD_WAIT, bytes).await.map_err(late)??;
        context.plugins.upload(upload, bytes).await.map_err(refused)
    };
    let answer = answer.await;
    let created = answer.as_ref().is_ok_and(|told| told.get("created") == Some(&true.into()));
    answered(if created { StatusCode::CREATED } else { StatusCode::OK }, answer)
}

/// The body, as far as a component may be large: what is beyond is not read.
async fn collected(headers: &HeaderMap, body: axum::body::Body) -> Result<Vec<u8>, Refused> {
    let too_large = || {
        let told = format!("too_large: a component has {UPLOAD_BYTES_MAX} bytes at most");
        reply::error(StatusCode::PAYLOAD_TOO_LARGE, told)
    };
    if headers.contains_key(header::CONTENT_ENCODING) {
        let told = "encoded: send the component as it is, without Content-Encoding";
        return Err(reply::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, told));
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let length: Option<usize> = length.and_then(|length| length.parse().ok());
    if length.is_some_and(|length| length > UPLOAD_BYTES_MAX) {
        return Err(too_large());
    }
    let mut parts = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| {
            reply::error(
                StatusCode::BAD_REQUEST,
                format!("truncated: the body ended early: {error}"),
            )
        })?;
        if bytes.len() + part.len() > UPLOAD_BYTES_MAX {
            return Err(too_large());
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

fn signatures(headers: &HeaderMap) -> Result<Vec<String>, Refused> {
    let wrong = || {
        let told = format!(
            "bad_signature: at most {SIGNATURES_MAX} `sequin-signature` headers, each base64 of at \
             most {SIGNATURE_BYTES_MAX} characters"
        );
        reply::error(StatusCode::UNPROCESSABLE_ENTITY, told)
    };
    let all = headers.get_all("sequin-signature").iter();
    let all = all.map(|value| value.to_str().ok().map(|text| text.trim().to_owned()));
    let all: Vec<String> = all.collect::<Option<_>>().ok_or_else(wrong)?;
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
    let good = |text: &String| text.len() <= SIGNATURE_BYTES_MAX && text.bytes().all(base64);
    if all.len() > SIGNATURES_MAX || !all.iter().all(good) {
        return Err(wrong());
    }
    Ok(all)
}

async fn remove(
    State(context): State<Context>,
    Path((name, version)): Path<(String, String)>,
) -> Response {
    let answer = async {
        let audited = audited(None, None)?;
        context.plugins.remove(name, version, audited).await.map_err(refused)
    };
    answered(StatusCode::OK, answer.await)
}

async fn collect(State(context): State<Context>) -> Response {
    let answer = async { context.plugins.collect(audited(None, None)?).await.map_err(refused) };
    answered(StatusCode::OK, answer.await)
}

async fn all_bindings(State(context): State<Context>) -> Response {
    let answer = async { context.plugins.bindings(None).await.map_err(refused) };
    answered(StatusCode::OK, answer.await)
}

async fn history(State(context): State<Context>, Path(sink): Path<String>) -> Response {
    let answer = async { context.plugins.bindings(Some(sink)).await.map_err(refused) };
    answered(StatusCode::OK, answer.await)
}

async fn promote(
    State(context): State<Context>,
    Path(sink): Path<String>,
    Body(said): Body<Said>,
) -> Response {
    let what = |said: &mut Said| {
        if said.generation.is_some() {
            return Err(bad("`generation` is for a rollback"));
        }
        let to = said.to.take().ok_or_else(|| bad("`to` is missing: name@version or sha256:…"))?;
        let config = said.config.take().map(|config| Value::Object(config).to_string());
        Ok(ByHand::Promote { to, function: said.function.take(), config })
    };
    by_hand(context, sink, said, what).await
}

async fn rollback(
    State(context): State<Context>,
    Path(sink): Path<String>,
    Body(said): Body<Said>,
) -> Response {
    let what = |said: &mut Said| Ok(ByHand::Rollback { to: said.generation.take() });
    by_hand(context, sink, said, what).await
}

async fn release(
    State(context): State<Context>,
    Path(sink): Path<String>,
    Body(said): Body<Said>,
) -> Response {
    by_hand(context, sink, said, |_| Ok(ByHand::Release)).await
}

/// `what` takes what it needs of what was said; nothing may be left of it.
async fn by_hand(
    context: Context,
    sink: String,
    mut said: Said,
    what: impl FnOnce(&mut Said) -> Result<ByHand, Refused>,
) -> Response {
    let answer = async {
        let known = |word: String| {
            let told = || bad("which_role: `role` is filter, route or transform");
            Role::from_word(&word).ok_or_else(told)
        };
        let role = said.role.take().map(known).transpose()?;
        let what = what(&mut said)?;
        let audited = audited(said.by.take(), said.reason.take())?;
        if said != Said::default() {
            return Err(bad("something that was said has no meaning here"));
        }
        context.plugins.by_hand(sink, role, what, audited).await.map_err(refused)
    };
    answered(StatusCode::OK, answer.await)
}

async fn audit(State(context): State<Context>, Query(page): Query<Page>) -> Response {
    let answer = async {
        let limit = page.limit.unwrap_or(DEEDS).clamp(1, DEEDS_MAX);
        context.plugins.deeds(page.below, limit).await.map_err(refused)
    };
    answered(StatusCode::OK, answer.await)
}

fn audited(by: Option<String>, reason: Option<String>) -> Result<Audited, Refused> {
    Ok(Audited { by: text("by", by)?, reason: text("reason", reason)? })
}

/// What people say is shown on a terminal and in a log.
fn text(name: &str, said: Option<String>) -> Result<String, Refused> {
    let said = said.unwrap_or_default();
    if said.chars().count() > TEXT_MAX || said.chars().any(char::is_control) {
        let told = format!("`{name}` has at most {TEXT_MAX} characters, and no control characters");
        return Err(bad(&told));
    }
    if name == "by" { Ok(by(Some(&said))) } else { Ok(said) }
}

fn bad(told: &str) -> Refused {
    reply::error(StatusCode::UNPROCESSABLE_ENTITY, told)
}

fn refused(error: VersionsError) -> Refused {
    let status = match &error {
        VersionsError::Refused { code, .. } => match *code {
            "unknown_sink" | "unknown_version" | "unknown_generation" => StatusCode::NOT_FOUND,
            "version_taken" | "in_use" | "conflict" | "unchanged" | "not_held" => {
                StatusCode::CONFLICT
            }
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        },
        VersionsError::Store(StoreError::Full(_)) => StatusCode::INSUFFICIENT_STORAGE,
        VersionsError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    reply::error(status, error.to_string())
}

/// A list as all lists of the API are told.
#[must_use]
pub fn list_of(data: Vec<Value>) -> Value {
    json!({ "data": data })
}
