//! `POST /api/sinks/SINK/record`: the next rows that the functions of a sink are asked about, as
//! messages with the types of their columns, one a line.
//!
//! `{"count": N, "seconds": N, "scrub": RULES}`: it answers when there are so many, or after that
//! time, with what there is. With rules nothing leaves the engine that they forbid. The sink goes on
//! as it does, and delivers as it does.

use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use engine::run::Handle;
use model::scrub::Scrub;
use model::tokens::Scope;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::extract::{Body, Path};
use crate::operation::{Routes, post};
use crate::reply::{self, Refused};

/// A recording waits so long at most.
const SECONDS_MAX: u64 = 600;

pub(crate) fn routes(handle: Handle) -> Routes {
    let told = "The next rows that the functions of a sink are asked about, one a line";
    let operation = post("/api/sinks/{sink}/record", "sinks_record", told)
        .scope(Scope::Messages)
        .of("sink")
        .takes::<Wanted>()
        .answers_as(StatusCode::OK, "application/x-ndjson", json!({"type": "string"}))
        .refuses(&[409]);
    Routes::new().with(operation, record).with_state(handle)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// So many.
    count: usize,
    /// So long at most: 600.
    seconds: u64,
    /// What is replaced or left out; see the guide of plugins.
    scrub: Option<Box<RawValue>>,
}

async fn record(
    State(handle): State<Handle>,
    Path(sink): Path<String>,
    Body(wanted): Body<Wanted>,
) -> Response {
    match lines(&handle, &sink, wanted).await {
        Ok(lines) => ([(header::CONTENT_TYPE, "application/x-ndjson")], lines).into_response(),
        Err(refused) => refused.into_response(),
    }
}

async fn lines(handle: &Handle, sink: &str, wanted: Wanted) -> Result<String, Refused> {
    let bad = |told: String| reply::error(StatusCode::BAD_REQUEST, told);
    let Wanted { count, seconds, scrub } = wanted;
    let max = engine::tap::MESSAGES_MAX;
    if !(1..=max).contains(&count) || !(1..=SECONDS_MAX).contains(&seconds) {
        let told = format!("Bad request: count is 1 to {max}, seconds 1 to {SECONDS_MAX}");
        return Err(bad(told));
    }
    let scrub = match scrub {
        Some(rules) => {
            let scrub = Scrub::new(rules.get(), salt());
            Some(scrub.map_err(|error| bad(format!("Bad request: scrub: {error}")))?)
        }
        None => None,
    };
    let mut messages = handle.record(sink, count).map_err(crate::letters::desk)?;
    let mut lines = String::new();
    let collect = async {
        while let Some(message) = messages.recv().await {
            let message = match &scrub {
                Some(scrub) => scrub.apply(&message).map_err(|error| error.to_string())?,
                None => message,
            };
            // A value of type json may hold line ends, between its tokens.
            lines
                .extend(message.chars().map(|it| if matches!(it, '\n' | '\r') { ' ' } else { it }));
            lines.push('\n');
        }
        Ok(())
    };
    // Over its time it ends with what there is.
    let ended: Result<(), String> =
        tokio::time::timeout(Duration::from_secs(seconds), collect).await.unwrap_or(Ok(()));
    let unprocessable = |told| reply::error(StatusCode::UNPROCESSABLE_ENTITY, told);
    ended.map_err(|told| unprocessable(format!("scrub: {told}")))?;
    Ok(lines)
}

/// Another one for each recording: the process seeds it from the system's randomness.
fn salt() -> [u8; 16] {
    use std::hash::{BuildHasher as _, RandomState};
    let state = RandomState::new();
    let (first, second) = (state.hash_one(1_u8), state.hash_one(2_u8));
    (u128::from(first) << 64 | u128::from(second)).to_be_bytes()
}
