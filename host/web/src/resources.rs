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

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::BoxFuture;
use model::tokens::Limits;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::caller::{by, limits, may};
use crate::configs::ConfigRefused;
use crate::extract::{Path, Query, Raw, is_json};
use crate::operation::{Operation, Routes, delete, get, patch, post, put};
use crate::paged::{self, Paged, text};
use crate::shape;

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
    /// What whoever asks may change.
    pub limits: Limits,
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

/// A kind of resources, and where it is.
struct Kind {
    path: &'static str,
    kind: &'static str,
    /// What it is in the schema of `sequin.yaml`, and what operations on it are called by.
    schema: &'static str,
    ids: &'static str,
    /// Of a creation.
    created: StatusCode,
}

const KINDS: [Kind; 5] = [
    Kind {
        path: "/api/sinks",
        kind: "sink",
        schema: "sink",
        ids: "sinks",
        created: StatusCode::OK,
    },
    Kind {
        path: "/api/postgres_databases",
        kind: "database",
        schema: "database",
        ids: "databases",
        created: StatusCode::CREATED,
    },
    Kind {
        path: "/api/destinations/http_endpoints",
        kind: "http_endpoint",
        schema: "http_endpoint",
        ids: "http_endpoints",
        created: StatusCode::CREATED,
    },
    Kind {
        path: "/api/functions",
        kind: "function",
        schema: "function",
        ids: "functions",
        created: StatusCode::CREATED,
    },
    Kind {
        path: "/api/change_retentions",
        kind: "change_retention",
        schema: "change_retention",
        ids: "change_retentions",
        created: StatusCode::CREATED,
    },
];

pub(crate) fn routes(resources: &Arc<dyn Resources>) -> Routes {
    let mut all = Routes::new();
    for of in KINDS {
        let context = Context { resources: Arc::clone(resources), kind: of.kind };
        all = all.merge(of.routes(context));
    }
    let database = Context { resources: Arc::clone(resources), kind: "database" };
    let test_told = "Whether it can be read, part by part";
    let tables_told = "Its tables, as they are now";
    let tested = shape::object(&[("success", "boolean"), ("reason?", "string|null")]);
    let more = Routes::new()
        .with(
            post("/api/postgres_databases/{which}/test_connection", "databases_test", test_told)
                .asks()
                .of("database")
                .answers(StatusCode::OK, tested),
            test,
        )
        .with(
            post("/api/postgres_databases/{which}/refresh_tables", "databases_tables", tables_told)
                .asks()
                .of("database")
                .answers(StatusCode::OK, json!({"type": "object"}))
                .refuses(&[502]),
            tables,
        );
    all.merge(more.with_state(database))
}

impl Kind {
    fn routes(self, context: Context) -> Routes {
        let Self { path, kind, schema, ids, created } = self;
        let one_path = format!("{path}/{{which}}");
        let id = |what: &str| format!("{ids}_{what}");
        // As in `sequin.yaml`, and what the engine adds.
        let body = || shape::named(schema);
        let shown = || shape::object(&[("id", "string"), ("name", "string")]);
        let named = kind.replace('_', " ");
        let create =
            async move |context, headers, body| create(context, headers, body, created).await;
        let mut routes = Routes::new()
            .with(
                get(path, &id("list"), &format!("All of the kind {named}, by name"))
                    .judged()
                    .query::<Listed>()
                    .answers(StatusCode::OK, shape::pages(shown())),
                list,
            )
            .with(
                post(path, &id("create"), &format!("Creates a {named}"))
                    .judged()
                    .header("idempotency-key", "With it a create may come twice.")
                    .takes_as("application/json", body())
                    .answers(created, shown())
                    .etag()
                    .link(&id("show"), "which", "id")
                    .link(&id("replace"), "which", "id")
                    .link(&id("update"), "which", "id")
                    .link(&id("delete"), "which", "id")
                    .refuses(&[409, 502]),
                create,
            )
            .with(
                get(&one_path, &id("show"), &format!("A {named}, by its name or id"))
                    .of(kind)
                    .query::<Shown>()
                    .answers(StatusCode::OK, shown())
                    .etag(),
                one,
            )
            .with(
                delete(&one_path, &id("delete"), &format!("Deletes a {named}"))
                    .of(kind)
                    .header("if-match", "The `ETag` that was seen.")
                    .answers(StatusCode::OK, json!({"type": "object"}))
                    .refuses(&[409, 412, 422, 502]),
                remove,
            );
        for (operation, what) in [(put as Made, "replace"), (patch as Made, "update")] {
            let told = format!("Changes what the body names of a {named} (RFC 7396)");
            let operation = operation(&one_path, &id(what), &told)
                .of(kind)
                .header("if-match", "The `ETag` that was seen.")
                .takes_as("application/json", json!({"type": "object"}))
                .answers(StatusCode::OK, shown())
                .etag()
                .refuses(&[409, 412, 502]);
            routes = routes.with(operation, change);
        }
        routes.with_state(context)
    }
}

type Made = fn(&str, &str, &str) -> Operation;

async fn test(State(context): State<Context>, Path(which): Path<String>) -> Response {
    answered(StatusCode::OK, context.resources.test(which).await)
}

async fn tables(State(context): State<Context>, Path(which): Path<String>) -> Response {
    answered(StatusCode::OK, context.resources.tables(which).await)
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
struct Shown {
    /// With its secrets: needs the scope `admin`.
    #[serde(default, alias = "show-sensitive")]
    show_sensitive: bool,
}

/// Which ones, and how they are shown. (Written out: serde does not flatten what a query says.)
#[derive(Debug, Default, Deserialize, JsonSchema)]
struct Listed {
    /// With their secrets: needs the scope `admin`.
    #[serde(default, alias = "show-sensitive")]
    show_sensitive: bool,
    /// Of a page, 1,000 at most; without it, all.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
    /// What the page before gave as `next`.
    after: Option<String>,
    /// Has this in its name.
    name: Option<String>,
    /// Has exactly this `status`.
    status: Option<String>,
    /// Is of this database.
    database: Option<String>,
    /// Is of this type; of a sink, that of its destination.
    r#type: Option<String>,
}

impl Listed {
    fn takes(&self, it: &Value) -> bool {
        let of_type = || it.get("type").or_else(|| it.get("destination")?.get("type"));
        let is = |wanted: Option<&String>, found: Option<&Value>| {
            wanted.is_none_or(|wanted| found.is_some_and(|found| found == wanted))
        };
        self.name.as_ref().is_none_or(|part| text(it, "name").contains(part))
            && is(self.status.as_ref(), it.get("status"))
            && is(self.database.as_ref(), it.get("database"))
            && (self.r#type.is_none() || is(self.r#type.as_ref(), of_type()))
    }
}

async fn list(State(context): State<Context>, Query(listed): Query<Listed>) -> Response {
    let Context { resources, kind } = context;
    match resources.look(kind, None, listed.show_sensitive).await {
        Ok(told) => {
            let mut data = paged::data(told);
            data.retain(|it| listed.takes(it) && may(kind, text(it, "name")));
            Paged::new(listed.limit, listed.after).answer(data, "name")
        }
        Err(refused) => refused.into_response(),
    }
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
    Raw(body): Raw,
    created: StatusCode,
) -> Response {
    answered(created, changed(context, None, &headers, Some(&body)).await)
}

async fn change(
    State(context): State<Context>,
    Path(which): Path<String>,
    headers: HeaderMap,
    Raw(body): Raw,
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
    let told = |name: header::HeaderName| {
        let value = headers.get(name)?.to_str().ok()?;
        Some(value.trim().trim_start_matches("W/").trim_matches('"').to_owned())
    };
    let body = body.map(|body| {
        if !is_json(headers) {
            let told = "send JSON, with `Content-Type: application/json`";
            return Err(ConfigRefused::new(415, "content_type", told));
        }
        serde_json::from_slice::<Map<String, Value>>(body)
            .map_err(|error| ConfigRefused::new(400, "bad_request", format!("body: {error}")))
    });
    let if_match = told(header::IF_MATCH).filter(|wanted| wanted != "*");
    let is_repeatable = headers.contains_key(IDEMPOTENCY_KEY);
    let by = by(None);
    let body = body.transpose()?;
    let limits = limits();
    resources.change(Change { kind, which, body, if_match, is_repeatable, by, limits }).await
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
