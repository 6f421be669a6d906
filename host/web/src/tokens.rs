//! `GET` and `POST /api/api_keys`, `DELETE /api/api_keys/ID_OR_NAME`: the predecessor's routes, with what
//! each token may do and until when. A token is told once, in the answer that makes it.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use model::BoxFuture;
use model::tokens::Scope;
use model::versions::VersionsError;
use serde::Deserialize;
use serde_json::Value;

use crate::caller::by;
use crate::configs::ConfigRefused;

/// Characters of a name, and the days of a token's life at most.
const NAME_MAX: usize = 100;
const DAYS_MAX: u32 = 3_660;

/// What a token may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It is none.
    Unknown,
    /// It was one.
    Expired,
    /// What has one of these scopes.
    May {
        /// What it is called.
        name: String,
        /// What it may.
        scopes: Vec<Scope>,
    },
}

/// A token that is to be made.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// What it is called.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// So long it lasts; None: until it is revoked.
    pub days: Option<u32>,
    /// Who makes it, for the record.
    pub by: String,
}

/// Who knows the tokens.
pub trait Tokens: Send + Sync {
    /// What the one that is shown may do.
    fn admit(&self, shown: &[u8]) -> Admitted;
    /// Whether there are any.
    fn is_any(&self) -> bool;
    /// All of them, without themselves.
    fn list(&self) -> Value;
    /// Makes one; the answer has it.
    fn create(self: Arc<Self>, new: NewToken) -> BoxFuture<'static, Result<Value, VersionsError>>;
    /// Ends one, by its name or id.
    fn revoke(
        self: Arc<Self>,
        which: String,
        by: String,
    ) -> BoxFuture<'static, Result<Value, VersionsError>>;
}

/// What a request needs.
pub(crate) fn needed(method: &Method, uri: &Uri) -> Scope {
    let path = uri.path();
    let parts: Vec<&str> = path.strip_prefix("/api/").unwrap_or(path).split('/').collect();
    let is_read = *method == Method::GET || *method == Method::HEAD;
    // With secrets, whatever it is: read as handlers read it, or it could be written otherwise.
    let query = Query::<Vec<(String, String)>>::try_from_uri(uri);
    if query.is_ok_and(|Query(query)| {
        query.iter().any(|(key, value)| key.contains("sensitive") && value != "false")
    }) {
        return Scope::Admin;
    }
    match parts[..] {
        ["api_keys", ..] => Scope::Admin,
        // Rows, whoever looks at them.
        ["letters" | "sequin_streams" | "http_pull_consumers", ..]
        | ["sinks", _, "letters" | "messages" | "trace" | "record", ..] => Scope::Messages,
        // Their reports have samples of rows.
        ["sinks", _, "rollouts", ..] => Scope::Plugins,
        _ if is_read => Scope::Read,
        ["plugins", ..] | ["sinks", _, "promote" | "rollback" | "release", ..] => Scope::Plugins,
        _ => Scope::Config,
    }
}

pub(crate) fn routes(tokens: Arc<dyn Tokens>) -> Router {
    Router::new()
        .route("/api/api_keys", get(list).post(create))
        .route("/api/api_keys/{which}", delete(revoke))
        .with_state(tokens)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    name: String,
    scopes: Option<Vec<String>>,
    expires_in_days: Option<u32>,
}

async fn list(State(tokens): State<Arc<dyn Tokens>>) -> Response {
    Json(tokens.list()).into_response()
}

async fn create(
    State(tokens): State<Arc<dyn Tokens>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let answer = async {
        let new = new_token(&headers, &body)?;
        tokens.create(new).await.map_err(refused)
    };
    match answer.await {
        Ok(told) => (StatusCode::CREATED, Json(told)).into_response(),
        Err(refused) => refused.into_response(),
    }
}

async fn revoke(State(tokens): State<Arc<dyn Tokens>>, Path(which): Path<String>) -> Response {
    match tokens.revoke(which, by(None)).await {
        Ok(told) => Json(told).into_response(),
        Err(error) => refused(error).into_response(),
    }
}

fn new_token(headers: &HeaderMap, body: &[u8]) -> Result<NewToken, ConfigRefused> {
    let content = headers.get(header::CONTENT_TYPE).and_then(|content| content.to_str().ok());
    if !content.is_some_and(|content| content.starts_with("application/json")) {
        let told = "send JSON, with `Content-Type: application/json`";
        return Err(ConfigRefused::new(415, "content_type", told));
    }
    let wrong = |what: String| ConfigRefused::new(422, "bad_request", what);
    let Said { name, scopes, expires_in_days } =
        serde_json::from_slice(body).map_err(|error| wrong(format!("body: {error}")))?;
    if name.is_empty() || name.chars().count() > NAME_MAX || name.chars().any(char::is_control) {
        return Err(wrong(format!(
            "`name` has 1 to {NAME_MAX} characters, and no control characters"
        )));
    }
    if expires_in_days.is_some_and(|days| !(1..=DAYS_MAX).contains(&days)) {
        return Err(wrong(format!("`expires_in_days` is 1 to {DAYS_MAX}")));
    }
    let scope = |word: &String| {
        let known: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
        Scope::from_word(word).ok_or_else(|| {
            wrong(format!("`scopes` are of {}, not `{word:.100}`", known.join(", ")))
        })
    };
    let scopes: Vec<Scope> = match scopes {
        // As the predecessor's, which could do all but make others.
        None => Scope::ALL.into_iter().filter(|scope| *scope != Scope::Admin).collect(),
        Some(words) => words.iter().map(scope).collect::<Result<_, _>>()?,
    };
    if scopes.is_empty() {
        return Err(wrong("`scopes` is empty: the token could do nothing".to_owned()));
    }
    Ok(NewToken { name, scopes, days: expires_in_days, by: by(None) })
}

fn refused(error: VersionsError) -> ConfigRefused {
    match error {
        VersionsError::Refused { code: code @ "unknown_token", what } => {
            ConfigRefused::new(404, code, what)
        }
        VersionsError::Refused { code, what } => ConfigRefused::new(422, code, what),
        VersionsError::Store(error) => {
            ConfigRefused::new(503, "store_unavailable", error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b261_what_a_request_needs_is_told_by_its_method_and_path() {
        for (method, uri, expected) in [
            ("GET", "/api/sinks", Scope::Read),
            ("GET", "/api/sinks/a?show_sensitive=true", Scope::Admin),
            ("GET", "/api/sinks/a?show_sensitiv%65=true", Scope::Admin),
            ("GET", "/api/config/export?show-sensitive=true", Scope::Admin),
            ("GET", "/api/config/export?show-sensitive=false", Scope::Read),
            ("GET", "/api/config/export?show-sensitive=false&show-sensitive=true", Scope::Admin),
            ("GET", "/api/config/export", Scope::Read),
            ("POST", "/api/config/plan", Scope::Config),
            ("PATCH", "/api/sinks/a", Scope::Config),
            ("POST", "/api/sinks/a/backfills", Scope::Config),
            ("GET", "/api/sinks/a/letters", Scope::Messages),
            ("GET", "/api/letters/1", Scope::Messages),
            ("GET", "/api/sequin_streams/a/receive", Scope::Messages),
            ("GET", "/api/sinks/a/rollouts/1", Scope::Plugins),
            ("POST", "/api/sinks/a/promote", Scope::Plugins),
            ("POST", "/api/plugins", Scope::Plugins),
            ("GET", "/api/plugins", Scope::Read),
            ("GET", "/api/api_keys", Scope::Admin),
            ("POST", "/api/whatever", Scope::Config),
        ] {
            let method: Method = method.parse().unwrap();
            assert_eq!(needed(&method, &uri.parse().unwrap()), expected, "{method} {uri}");
        }
    }
}
