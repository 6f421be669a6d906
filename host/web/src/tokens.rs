//! `GET` and `POST /api/api_keys`, `DELETE /api/api_keys/ID_OR_NAME`: the predecessor's routes, with what
//! each token may do and until when. A token is told once, in the answer that makes it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use model::BoxFuture;
use model::tokens::{Limits, Scope};
use model::versions::VersionsError;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::caller::by;
use crate::configs::ConfigRefused;
use crate::extract::{Body, Path, Query};
use crate::operation::{Routes, delete, get, post};
use crate::paged::{self, Paged};
use crate::shape;

/// Characters of a name, and the days of a token's life at most.
const NAME_MAX: usize = 100;
const DAYS_MAX: u32 = 3_660;
/// Patterns of a token.
const LIMITS_MAX: usize = 100;

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
        /// And to what.
        limits: Limits,
    },
}

/// A token that is to be made.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// What it is called.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// And to what.
    pub limits: Limits,
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

/// Whether a request asks for secrets, whatever it is: read as handlers read it, or it could be written
/// otherwise.
pub(crate) fn asks_for_secrets(uri: &Uri) -> bool {
    let query = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri);
    query.is_ok_and(|axum::extract::Query(query)| {
        query.iter().any(|(key, value)| key.contains("sensitive") && value != "false")
    })
}

pub(crate) fn routes(tokens: Arc<dyn Tokens>) -> Routes {
    use StatusCode as Is;
    let token = || {
        shape::object(&[
            ("id?", "string"),
            ("name", "string"),
            ("scopes", "array"),
            ("resources", "array"),
            ("inserted_at?", "string"),
            ("expires_at?", "string|null"),
            ("last_used_at?", "string|null"),
        ])
    };
    let made = shape::with(token(), shape::object(&[("id", "string"), ("token", "string")]));
    let told = "Tokens of the API, without themselves";
    Routes::new()
        .with(
            get("/api/api_keys", "tokens_list", told)
                .scope(Scope::Admin)
                .query::<Paged>()
                .answers(Is::OK, shape::pages(token())),
            list,
        )
        .with(
            post("/api/api_keys", "tokens_create", "Makes a token; it is told this once")
                .scope(Scope::Admin)
                .takes::<Said>()
                .answers(Is::CREATED, made)
                .link("tokens_delete", "which", "id")
                .refuses(&[409]),
            create,
        )
        .with(
            delete("/api/api_keys/{which}", "tokens_delete", "Ends a token, by its name or id")
                .scope(Scope::Admin)
                .answers(Is::OK, shape::object(&[("id", "string"), ("deleted", "boolean")]))
                .refuses(&[409, 422]),
            revoke,
        )
        .with_state(tokens)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Said {
    /// No other token's.
    name: String,
    /// Of `read`, `config`, `plugins`, `messages` and `admin`; without it all but the last.
    scopes: Option<Vec<String>>,
    /// What it is for: `sink:poi-*`, or names of any kind; without it everything.
    resources: Option<Vec<String>>,
    /// Without it, it lasts until it is revoked.
    expires_in_days: Option<u32>,
}

async fn list(State(tokens): State<Arc<dyn Tokens>>, Query(paged): Query<Paged>) -> Response {
    paged.answer(paged::data(tokens.list()), "name")
}

async fn create(State(tokens): State<Arc<dyn Tokens>>, Body(said): Body<Said>) -> Response {
    let answer = async {
        let new = new_token(said)?;
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

fn new_token(said: Said) -> Result<NewToken, ConfigRefused> {
    let wrong = |what: String| ConfigRefused::new(422, "bad_request", what);
    let Said { name, scopes, resources, expires_in_days } = said;
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
    let patterns = resources.unwrap_or_default();
    if patterns.len() > LIMITS_MAX {
        return Err(wrong(format!("`resources` are {LIMITS_MAX} patterns at most")));
    }
    let limits = Limits::new(patterns).map_err(|what| wrong(format!("`resources`: {what}")))?;
    Ok(NewToken { name, scopes, limits, days: expires_in_days, by: by(None) })
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
    fn who_asks_for_secrets_is_known_by_the_query_however_it_is_written() {
        for (uri, expected) in [
            ("/api/sinks", false),
            ("/api/sinks/a?show_sensitive=true", true),
            ("/api/sinks/a?show_sensitiv%65=true", true),
            ("/api/config/export?show-sensitive=true", true),
            ("/api/config/export?show-sensitive=false", false),
            ("/api/config/export?show-sensitive=false&show-sensitive=true", true),
        ] {
            assert_eq!(asks_for_secrets(&uri.parse().unwrap()), expected, "{uri}");
        }
    }
}
