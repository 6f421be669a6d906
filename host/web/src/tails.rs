//! What happens, as it happens: server-sent events.
//!
//! | | |
//! |---|---|
//! | `GET /api/sinks/SINK/tail` | what passes through a sink: `input`, `output`, `request`, `nothing`, `sent`; then `end` |
//! | `GET /api/health/tail` | `alert` and `resolve`, as they come |
//!
//! Each event has the number of what it tells as its id. Who lost the connection says the last one that
//! came (`Last-Event-ID`, as browsers do by themselves) and misses nothing that is still kept.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use engine::run::Handle;
use engine::status::Status;
use futures_util::{Stream, stream};
use model::tokens::Scope;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::extract::{Path, Query};
use crate::healths;
use crate::letters::{desk, event_of};
use crate::operation::{Routes, get};
use crate::reply;

/// How often it is looked for something new: soon for eyes, and nothing for the engine.
const LOOK: Duration = Duration::from_millis(200);

/// Those who look at once: each takes a connection.
const TAILS_MAX: usize = 64;

/// What tails are of.
#[derive(Clone)]
pub(crate) struct Tails {
    pub(crate) handle: Handle,
    pub(crate) status: Arc<Status>,
    /// The server stops, and waits for nobody who looks.
    pub(crate) stop: CancellationToken,
}

#[derive(Clone)]
struct Context {
    tails: Tails,
    places: Arc<Semaphore>,
}

pub(crate) fn routes(tails: Tails) -> Routes {
    let text = || json!({"type": "string"});
    let sink_told = "What passes through a sink, as server-sent events";
    let health_told = "Alerts and their ends, as server-sent events";
    let last = "The id of the last event that came.";
    Routes::new()
        .with(
            get("/api/sinks/{sink}/tail", "sinks_tail", sink_told)
                .scope(Scope::Messages)
                .of("sink")
                .query::<Wanted>()
                .header("last-event-id", last)
                .answers_as(StatusCode::OK, "text/event-stream", text())
                .refuses(&[429]),
            sink,
        )
        .with(
            get("/api/health/tail", "health_tail", health_told)
                .header("last-event-id", last)
                .answers_as(StatusCode::OK, "text/event-stream", text())
                .refuses(&[429]),
            health,
        )
        .with_state(Context { tails, places: Arc::new(Semaphore::new(TAILS_MAX)) })
}

#[derive(Deserialize, JsonSchema)]
struct Wanted {
    /// So many rows: 100 unless said, 1,000 at most.
    #[serde(default = "rows")]
    #[schemars(range(min = 1, max = 1000))]
    rows: u64,
    /// So long at most, in seconds: five minutes unless said.
    #[serde(default = "seconds")]
    #[schemars(range(min = 1, max = 3600))]
    seconds: u64,
}

fn rows() -> u64 {
    100
}

fn seconds() -> u64 {
    300
}

/// The number that a client says was the last to come.
fn last_seen(headers: &HeaderMap) -> Option<u64> {
    headers.get("last-event-id")?.to_str().ok()?.parse().ok()
}

async fn sink(
    State(context): State<Context>,
    Path(name): Path<String>,
    Query(Wanted { rows, seconds }): Query<Wanted>,
    headers: HeaderMap,
) -> Response {
    let Context { tails, places } = context;
    if !(1..=1_000).contains(&rows) || !(1..=3_600).contains(&seconds) {
        let told = "`rows` is 1 to 1000, and `seconds` 1 to 3600";
        return reply::error(StatusCode::UNPROCESSABLE_ENTITY, told).into_response();
    }
    // One that goes on looks at what is traced already.
    let seen = last_seen(&headers);
    let begun = match seen {
        Some(_) => Ok(()),
        None => tails.handle.trace(&name, rows, Duration::from_secs(seconds)),
    };
    if let Err(error) = begun.and_then(|()| tails.handle.traced(&name, u64::MAX).map(drop)) {
        return desk(error).into_response();
    }
    let mut seen = seen.unwrap_or_default();
    let mut is_over = false;
    let look = move || {
        if is_over {
            return None;
        }
        // The sink does not run any more, or nothing more is shown.
        let found = tails.handle.traced(&name, seen);
        is_over = !found.as_ref().is_ok_and(|(_, is_on)| *is_on);
        let (events, _) = found.unwrap_or_default();
        let mut told: Vec<Event> = Vec::new();
        for event in &events {
            seen = event.number;
            let (kind, text) = event_of(event);
            told.push(Event::default().event(kind).id(seen.to_string()).data(text));
        }
        if is_over {
            told.push(Event::default().event("end").data("{}"));
        }
        Some(told)
    };
    answer(&places, tails.stop.clone(), look)
}

async fn health(State(context): State<Context>, headers: HeaderMap) -> Response {
    let Context { tails, places } = context;
    let health = &tails.status.health;
    let told = health.flips_after(u64::MAX).1;
    let mut seen = match last_seen(&headers) {
        Some(seen) if seen <= told => seen,
        // Of a process before this one: whoever it is has seen nothing of this.
        Some(_) => 0,
        None => told,
    };
    let status = Arc::clone(&tails.status);
    let look = move || {
        let (flips, told, _) = status.health.flips_after(seen);
        let first = told.saturating_sub(flips.len() as u64);
        seen = told;
        let event = |(number, flip)| {
            let (kind, text) = healths::flip_of(flip);
            Event::default().event(kind).id(format!("{number}")).data(text)
        };
        Some((first + 1..).zip(&flips).map(event).collect())
    };
    answer(&places, tails.stop, look)
}

/// Looks again and again until `look` is over, the engine stops, or nobody listens.
fn answer(
    places: &Arc<Semaphore>,
    stop: CancellationToken,
    look: impl FnMut() -> Option<Vec<Event>> + Send + 'static,
) -> Response {
    let Ok(place) = Arc::clone(places).try_acquire_owned() else {
        let told = format!("{TAILS_MAX} look already: once more after a while");
        let refused = reply::error(StatusCode::TOO_MANY_REQUESTS, told);
        return refused.with(axum::http::header::RETRY_AFTER, "5").into_response();
    };
    let alive = KeepAlive::default();
    Sse::new(events(place, stop, look)).keep_alive(alive).into_response()
}

fn events(
    place: OwnedSemaphorePermit,
    stop: CancellationToken,
    look: impl FnMut() -> Option<Vec<Event>> + Send + 'static,
) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    let parts =
        stream::unfold((place, stop, look, true), async |(place, stop, mut look, first)| {
            if !first && tokio::time::timeout(LOOK, stop.cancelled()).await.is_ok() {
                return None;
            }
            let events = look()?;
            let events = stream::iter(events.into_iter().map(Ok));
            Some((events, (place, stop, look, false)))
        });
    futures_util::StreamExt::flatten(parts)
}
