//! What the engine serves over HTTP: liveness, metrics, and the messages of streams; the management
//! API and the console will stand here too.
//!
//! Of the engine it reads the status; a slow reader never slows the engine.
#![warn(missing_docs)]

mod access;
mod backfills;
mod caller;
mod configs;
mod extract;
mod health;
mod healths;
mod letters;
mod login;
mod metrics;
mod openapi;
mod operation;
mod paged;
mod plugins;
mod pull;
mod record;
mod replications;
mod reply;
mod resources;
mod resume;
mod rollouts;
mod shape;
mod sinks;
mod streams;
mod summary;
mod tails;
mod tokens;

pub use access::{Access, Door, Token};
pub use caller::Audit;
pub use configs::{CONFIG_BYTES_MAX, ConfigRefused, Configs, Content, Proposal};
pub use healths::Healths;
pub use letters::{Letters, Resolve};
pub use plugins::{Audited, ByHand, Plugins, UPLOAD_BYTES_MAX, Upload, list_of};
pub use resources::{Change, Resources};
pub use rollouts::{Open, Rollouts};
pub use streams::{Stream, Streams};
pub use tokens::{Admitted, NewToken, Tokens};

pub use login::Login;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use engine::backfill::Backfills;
use engine::status::Status;
use tokio_util::sync::CancellationToken;
use utoipa_swagger_ui::{Config, SwaggerUi};

/// What the API is about.
pub struct Api {
    /// Streams that consumers fetch from.
    pub streams: Arc<Streams>,
    /// Letters, messages that wait, traces, recordings.
    pub letters: Letters,
    /// Of slots and sinks.
    pub healths: Healths,
    /// Whole tables.
    pub backfills: Backfills,
    /// Versions of plugins, and what sinks are bound to.
    pub plugins: Arc<dyn Plugins>,
    /// What is to run.
    pub configs: Arc<dyn Configs>,
    /// The same, one by one.
    pub resources: Arc<dyn Resources>,
    /// Versions on their way into use, and what functions cost.
    pub rollouts: Rollouts,
    /// The server stops: who looks on is not waited for.
    pub stop: CancellationToken,
}

/// The main port (`SERVER_PORT`): all of the API for who may pass the door, and liveness for everybody.
pub fn api(version: &'static str, api: Api, door: Door) -> Router {
    let Api { streams, letters, healths, backfills, plugins, configs, resources, rollouts, stop } =
        api;
    let (handle, status) = (letters.handle.clone(), Arc::clone(&letters.status));
    let tails = tails::Tails { handle: handle.clone(), status: Arc::clone(&status), stop };
    let guarded = resume::routes(Arc::clone(&status))
        .merge(healths::routes(healths))
        .merge(record::routes(handle.clone()))
        .merge(letters::routes(letters))
        .merge(backfills::routes(backfills))
        .merge(plugins::routes(plugins))
        .merge(configs::routes(configs))
        .merge(resources::routes(&resources))
        .merge(replications::routes(resources))
        .merge(rollouts::routes(rollouts))
        .merge(tails::routes(tails))
        .merge(sinks::routes(handle))
        .merge(summary::routes(status))
        .merge(tokens::routes(Arc::clone(&door.tokens)))
        .merge(pull::routes(streams));
    let (guarded, operations) = guarded.split();
    let document = openapi::document(version, &operations).to_string();
    let json = [(header::CONTENT_TYPE, "application/json")];
    let page = SwaggerUi::new("/api/docs").config(Config::new([openapi::PATH]));
    // What is in the document is in the program's source: everybody may read it.
    let open = Router::new()
        .route("/health", get(move || health::answer(version)))
        .route(openapi::PATH, get(async move || (json, document.clone())))
        .merge(page);
    // Who may not ask is told nothing of what there is.
    let guarded = guarded.route(access::NOTHING, any(nothing));
    let guarded = door.guard(guarded, operations.needs());
    open.merge(guarded).fallback(nothing).method_not_allowed_fallback(not_so)
}

async fn nothing() -> Response {
    reply::error(StatusCode::NOT_FOUND, "Not found: the API has no such path").into_response()
}

async fn not_so() -> Response {
    let told = "the path takes other methods: see /api/docs";
    reply::error(StatusCode::METHOD_NOT_ALLOWED, told).into_response()
}

/// The metrics port (`SEQUIN_METRICS_PORT`). With a `login`, only for who shows it.
pub fn metrics(status: Arc<Status>, rollouts: Rollouts, login: Option<Login>) -> Router {
    let answer = async move |headers: HeaderMap| match &login {
        Some(login) if !login.is_shown(&headers) => Login::refusal(),
        _ => metrics::answer(&status, &rollouts.rollouts),
    };
    Router::new().route("/metrics", get(answer))
}

/// Serves a router on a bound listener until `stop` resolves, then until its requests are done.
///
/// # Errors
/// The listener broke.
pub async fn serve(
    listener: tokio::net::TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}
