//! What is outside of a plugin while fixtures are tried: a file says what there is.
//!
//! It is the same for every message, in whatever batch: the clock stands, random bytes begin anew with
//! each call, and what is written to the store is gone with its batch. So an outcome that differs with
//! the batch is the plugin's doing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use model::BoxFuture;
use model::grants::{
    CallError, Clock, Failure, FoundRow, Grants, Http, HttpRequest, HttpResponse, KeyValue, Random,
    ReadRows, RowsQuery, Secrets, Writes,
};
use serde::Deserialize;

use super::fixture::{self, FixtureError};

/// What is there, as it is written. What is not named is not granted.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outside {
    /// Microseconds since 1970.
    clock: Option<i64>,
    /// What random bytes are made from.
    random: Option<u64>,
    /// By name.
    secrets: Option<BTreeMap<String, String>>,
    /// What the store holds.
    kv: Option<BTreeMap<String, String>>,
    http: Option<Vec<Exchange>>,
    /// Rows by table (`schema.table`): values by column, as texts.
    lookup: Option<BTreeMap<String, Vec<Row>>>,
}

type Row = BTreeMap<String, Option<String>>;

/// A request, and what it gets.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exchange {
    #[serde(default = "get")]
    method: String,
    url: String,
    /// Only a request with this body.
    request: Option<String>,
    #[serde(default = "ok")]
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: String,
    /// Instead of an answer.
    failure: Option<NoAnswer>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum NoAnswer {
    Timeout,
    Unavailable,
}

fn get() -> String {
    "GET".to_owned()
}

const fn ok() -> u16 {
    200
}

impl Outside {
    /// Reads such a file.
    ///
    /// # Errors
    /// It cannot be read, or says something else.
    pub fn read(file: &Path) -> Result<Self, FixtureError> {
        fixture::json(file)
    }

    /// As what a plugin is granted.
    #[must_use]
    pub fn grants(&self) -> Grants {
        let this = Arc::new(self.clone());
        let mut grants = Grants::default();
        if self.clock.is_some() {
            grants.clock = Some(Arc::<Self>::clone(&this));
        }
        if self.random.is_some() {
            grants.random = Some(Arc::<Self>::clone(&this));
        }
        if self.secrets.is_some() {
            grants.secrets = Some(Arc::<Self>::clone(&this));
        }
        if self.kv.is_some() {
            grants.kv = Some(Arc::<Self>::clone(&this));
        }
        if self.http.is_some() {
            grants.http = Some(Arc::<Self>::clone(&this));
        }
        if self.lookup.is_some() {
            grants.lookup = Some(this);
        }
        grants
    }

    fn exchange(&self, request: &HttpRequest) -> Result<HttpResponse, CallError> {
        let fits = |known: &&Exchange| {
            known.method == request.method
                && known.url == request.url
                && known.request.as_ref().is_none_or(|body| body.as_bytes() == request.body)
        };
        let HttpRequest { method, url, .. } = request;
        let found = self.http.iter().flatten().find(fits);
        let Some(found) = found else {
            return Err(denied(format!("outside.json has no answer to {method} {url}")));
        };
        let no_answer = |failure| Err(CallError::new(failure, format!("no answer from {url}")));
        match found.failure {
            Some(NoAnswer::Timeout) => return no_answer(Failure::Timeout),
            Some(NoAnswer::Unavailable) => return no_answer(Failure::Unavailable),
            None => {}
        }
        let headers = found.headers.iter().map(|(name, value)| (name.clone(), value.clone()));
        let (headers, body) = (headers.collect(), found.body.clone().into_bytes());
        Ok(HttpResponse { status: found.status, headers, body })
    }

    fn find(&self, query: &RowsQuery) -> Result<Vec<Option<FoundRow>>, CallError> {
        let RowsQuery { table, columns, key, keys } = query;
        let rows = self.lookup.as_ref().and_then(|tables| tables.get(table));
        let rows = rows.ok_or_else(|| denied(format!("outside.json has no table {table}")))?;
        // A row has all its columns, and null where there is nothing.
        let unknown = rows
            .first()
            .and_then(|row| columns.iter().chain(key).find(|column| !row.contains_key(*column)));
        if let Some(column) = unknown {
            let message = format!("{table} of outside.json has no column `{column}`");
            return Err(CallError::new(Failure::Invalid, message));
        }
        let find = |wanted: &Vec<String>| {
            let is_it = |row: &&Row| {
                let mut pairs = key.iter().zip(wanted);
                pairs
                    .all(|(name, value)| row.get(name).is_some_and(|it| it.as_ref() == Some(value)))
            };
            let row = rows.iter().find(is_it)?;
            Some(columns.iter().map(|name| row.get(name).cloned().flatten()).collect())
        };
        Ok(keys.iter().map(find).collect())
    }
}

fn denied(message: String) -> CallError {
    CallError::new(Failure::Denied, message)
}

impl Clock for Outside {
    fn now_us(&self) -> Result<i64, CallError> {
        self.clock.ok_or_else(|| denied("outside.json has no clock".to_owned()))
    }
}

impl Random for Outside {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), CallError> {
        let mut state = self.random.unwrap_or_default();
        for byte in bytes {
            // Knuth's; all that matters is that it is the same each time.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = state.to_be_bytes()[0];
        }
        Ok(())
    }
}

impl Secrets for Outside {
    fn get(&self, name: &str) -> Result<String, CallError> {
        let found = self.secrets.as_ref().and_then(|secrets| secrets.get(name)).cloned();
        found.ok_or_else(|| denied(format!("outside.json has no secret `{name:.100}`")))
    }
}

impl KeyValue for Outside {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, CallError>> {
        let found = self.kv.as_ref().and_then(|kv| kv.get(key));
        let found = found.map(|value| value.clone().into_bytes());
        Box::pin(async move { Ok(found) })
    }

    fn write(&self, _: Writes) -> BoxFuture<'_, Result<(), CallError>> {
        Box::pin(async { Ok(()) })
    }
}

impl Http for Outside {
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, CallError>> {
        Box::pin(async move { self.exchange(&request) })
    }
}

impl ReadRows for Outside {
    fn rows(&self, query: RowsQuery) -> BoxFuture<'_, Result<Vec<Option<FoundRow>>, CallError>> {
        Box::pin(async move { self.find(&query) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outside(json: &str) -> Outside {
        serde_json::from_str(json).unwrap()
    }

    fn request(method: &str, body: &str) -> HttpRequest {
        let (method, url) = (method.to_owned(), "https://a.test/x".to_owned());
        HttpRequest { method, url, body: body.into(), ..HttpRequest::default() }
    }

    #[test]
    fn b269_what_is_not_named_is_not_granted() {
        let names = |json: &str| -> Vec<&str> {
            outside(json).grants().list().map(|capability| capability.as_str()).collect()
        };
        assert!(names("{}").is_empty());
        assert_eq!(names(r#"{"clock": 1, "kv": {}}"#), ["clock", "kv"]);
        let all = r#"{"clock": 1, "random": 2, "secrets": {}, "kv": {}, "http": [], "lookup": {}}"#;
        assert_eq!(names(all).len(), 6);
        assert!(serde_json::from_str::<Outside>(r#"{"klock": 1}"#).is_err());
    }

    #[test]
    fn a_request_gets_what_is_written_for_it() {
        let outside = outside(
            r#"{"http": [
                {"method": "POST", "url": "https://a.test/x", "request": "a", "body": "for a"},
                {"method": "POST", "url": "https://a.test/x", "status": 404},
                {"url": "https://a.test/x", "failure": "timeout"}
            ]}"#,
        );
        let answer = outside.exchange(&request("POST", "a")).unwrap();
        assert_eq!((answer.status, &answer.body[..]), (200, &b"for a"[..]));
        assert_eq!(outside.exchange(&request("POST", "b")).unwrap().status, 404);
        let failure = |method| outside.exchange(&request(method, "")).unwrap_err().failure;
        assert_eq!(failure("GET"), Failure::Timeout);
        assert_eq!(failure("PUT"), Failure::Denied);
    }

    #[test]
    fn rows_are_found_by_their_key() {
        let outside = outside(
            r#"{"lookup": {"public.t": [{"id": "1", "v": "one"}, {"id": "2", "v": null}]}}"#,
        );
        let ask = |column: &str, keys: &[&str]| {
            let keys = keys.iter().map(|key| vec![(*key).to_owned()]).collect();
            let (columns, key) = (vec![column.to_owned()], vec!["id".to_owned()]);
            outside.find(&RowsQuery { table: "public.t".to_owned(), columns, key, keys })
        };
        let found = ask("v", &["2", "3", "1"]).unwrap();
        assert_eq!(found, [Some(vec![None]), None, Some(vec![Some("one".to_owned())])]);
        assert_eq!(ask("w", &["1"]).unwrap_err().failure, Failure::Invalid);
    }
}
