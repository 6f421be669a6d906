//! What the engine serves over HTTP: liveness, metrics, and the messages of streams; the management
//! API and the console will stand here too.
//!
//! Of the engine it reads the status; a slow reader never slows the engine.
#![warn(missing_docs)]

mod access;
mod backfills;
mod health;
mod healths;
mod letters;
mod login;
mod metrics;
mod plugins;
mod pull;
mod reply;
mod resume;
mod rollouts;
mod streams;

pub use access::{Access, Token};
pub use healths::Healths;
pub use letters::{Letters, Resolve};
pub use plugins::{Audited, ByHand, Plugins, UPLOAD_BYTES_MAX, Upload, list_of};
pub use rollouts::{Open, Rollouts};
pub use streams::{Stream, Streams};

pub use login::Login;

use std::sync::Arc;

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::get;
use engine::backfill::Backfills;
use engine::status::Status;

/// The main port (`SERVER_PORT`).
pub fn api(
    version: &'static str,
    streams: Arc<Streams>,
    letters: Letters,
    healths: Healths,
    access: Access,
) -> Router {
    let health = Router::new().route("/health", get(move || health::answer(version)));
    let health = health.merge(resume::routes(Arc::clone(&letters.status), access.clone()));
    let health = health.merge(healths::routes(healths, access.clone()));
    let management = letters::routes(letters, access.clone());
    health.merge(management).merge(pull::routes(streams, access))
}

/// What the main port has of backfills, beside [`api()`].
pub fn backfills(backfills: Backfills, access: Access) -> Router {
    backfills::routes(backfills, access)
}

/// What the main port has of rollouts and of what functions cost, beside [`api()`].
pub fn rollouts(rollouts: Rollouts, access: Access) -> Router {
    rollouts::routes(rollouts, access)
}

/// What the main port has of plugins and bindings, beside [`api()`].
pub fn plugins(plugins: Arc<dyn Plugins>, access: Access) -> Router {
    plugins::routes(plugins, access)
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
