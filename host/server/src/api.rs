//! What commands ask of an engine, over its API: of the one on this machine, or of the one at
//! `SEQUIN_URL`.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode, Url};
use serde_json::Value;

use crate::Failure;
use crate::contexts::{self, Meant};
use crate::health::reachable;
use crate::plugin::push::user;
use crate::settings;

/// Of a whole exchange. Components may have to be compiled before there is an answer.
const TIMEOUT: Duration = Duration::from_secs(600);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Where the engine is; else it is on this machine.
const URL: &str = "SEQUIN_URL";
const TOKEN: &str = "SEQUIN_API_TOKEN";
/// What says so where it is a context.
const CONTEXT: &str = "`sequin context`";

/// What is asked.
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    /// Behind `/api`, each part as it is.
    pub(crate) path: &'a [&'a str],
    pub(crate) query: &'a [(&'a str, &'a str)],
    pub(crate) headers: &'a [(&'a str, String)],
    pub(crate) content_type: &'a str,
    pub(crate) body: Vec<u8>,
    /// Of the whole exchange.
    pub(crate) timeout: Duration,
}

impl Default for Request<'_> {
    fn default() -> Self {
        Self {
            method: Method::GET,
            path: &[],
            query: &[],
            headers: &[],
            content_type: "application/json",
            body: Vec::new(),
            timeout: TIMEOUT,
        }
    }
}

/// The answer, if it is a good one.
///
/// # Errors
/// Nothing answers, or what was asked for is refused.
pub(crate) fn ask(request: Request<'_>) -> Result<Value, Failure> {
    let text = text(request)?;
    Ok(serde_json::from_str(&text).unwrap_or_default())
}

/// The same, as it came.
///
/// # Errors
/// As of [`ask`].
pub(crate) fn text(request: Request<'_>) -> Result<String, Failure> {
    let (status, body) = exchange(request)?;
    if status.is_success() { Ok(body) } else { Err(refusal(status, &body)) }
}

/// The answer, or what it is refused with: its code, and what is told of it.
///
/// # Errors
/// Nothing answers.
pub(crate) fn judged(request: Request<'_>) -> Result<Result<Value, (String, Failure)>, Failure> {
    let (status, body) = exchange(request)?;
    let parsed = serde_json::from_str::<Value>(&body).unwrap_or_default();
    if status.is_success() {
        return Ok(Ok(parsed));
    }
    let code = parsed.get("code").and_then(Value::as_str).unwrap_or_default();
    Ok(Err((code.to_owned(), refusal(status, &body))))
}

/// A refusal, with all that is said of it.
fn refusal(status: StatusCode, body: &str) -> Failure {
    let parsed = serde_json::from_str::<Value>(body).unwrap_or_default();
    let of = |key: &str| parsed.get(key);
    let wrong = of("validation_errors").and_then(|wrong| wrong.get("yaml")?.as_array());
    if let Some(wrong) = wrong {
        let all: Vec<&str> = wrong.iter().filter_map(Value::as_str).collect();
        return Failure::Usage(all.join("\n"));
    }
    // Of a proxy on the way it is no JSON.
    let told = of("summary").and_then(Value::as_str).unwrap_or(body).trim();
    let told: String = told.chars().take(2_000).collect();
    match status.is_client_error() {
        true if status == StatusCode::UNAUTHORIZED => {
            Failure::Usage(format!("error: {told} ({TOKEN})"))
        }
        true => Failure::Usage(format!("error: {told}")),
        false => anyhow!("the engine answered {status}: {}", told.escape_debug()).into(),
    }
}

/// Status and body of the answer.
///
/// # Errors
/// Nothing answers, or a setting is wrong.
fn exchange(request: Request<'_>) -> Result<(StatusCode, String), Failure> {
    let whole = async |answer: reqwest::Response| {
        let status = answer.status();
        Ok((status, answer.bytes().await?))
    };
    let (status, body) = sent(request, whole)?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// The lines of an answer that goes on, as they come, until there are no more or `each` has enough.
///
/// # Errors
/// Nothing answers, or what was asked for is refused.
pub(crate) fn lines(
    request: Request<'_>,
    mut each: impl FnMut(&str) -> anyhow::Result<bool>,
) -> Result<(), Failure> {
    let parts = async |mut answer: reqwest::Response| {
        let status = answer.status();
        if !status.is_success() {
            return Ok(Err((status, answer.bytes().await?)));
        }
        let mut rest: Vec<u8> = Vec::new();
        while let Some(part) = answer.chunk().await? {
            rest.extend_from_slice(&part);
            while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=at).collect();
                match each(String::from_utf8_lossy(&line).trim_end()) {
                    Ok(true) => {}
                    enough => return Ok(Ok(enough.map(drop))),
                }
            }
        }
        Ok(Ok(Ok(())))
    };
    match sent(request, parts)? {
        Ok(done) => Ok(done?),
        Err((status, body)) => Err(refusal(status, &String::from_utf8_lossy(&body))),
    }
}

/// What is made of the answer.
///
/// # Errors
/// Nothing answers, or a setting is wrong.
fn sent<T>(
    request: Request<'_>,
    read: impl AsyncFnOnce(reqwest::Response) -> reqwest::Result<T>,
) -> Result<T, Failure> {
    let (url, whence, token) = url(&request)?;
    // An error means that one is installed already.
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = reqwest::Client::builder()
        .user_agent(concat!("sequin/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(request.timeout);
    // What is on this machine is asked directly.
    let client = if whence.is_none() { client.no_proxy() } else { client };
    let client = client.build().context("make an HTTP client")?;
    let told = url.origin().ascii_serialization();
    let mut asked = client
        .request(request.method, url)
        .header("content-type", request.content_type)
        .body(request.body);
    for (name, value) in request.headers {
        asked = asked.header(*name, value);
    }
    // For the record of what is changed.
    if let Ok(user) = HeaderValue::from_str(&user()) {
        asked = asked.header("sequin-by", user);
    }
    if let Some(token) = token {
        asked = asked.bearer_auth(token.trim());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("start the runtime")?;
    let answer = runtime.block_on(async { read(asked.send().await?).await });
    let settings = whence.unwrap_or("SERVER_PORT, SEQUIN_BIND");
    let answer = answer
        .map_err(reqwest::Error::without_url)
        .with_context(|| format!("ask the engine at {told} ({settings}): does it run?"))?;
    Ok(answer)
}

/// Where to ask, the setting that says so, and what is shown there.
fn url(request: &Request<'_>) -> Result<(Url, Option<&'static str>, Option<String>), Failure> {
    let (base, whence, token) = match settings::environment(URL) {
        Some(base) => (base, Some(URL), None),
        None => match contexts::meant()? {
            Some(Meant { url, token }) => (url, Some(CONTEXT), token),
            None => {
                let address = settings::api(&settings::environment).map_err(Failure::Usage)?;
                (format!("http://{}", reachable(address)), None, None)
            }
        },
    };
    let token = token.or_else(|| settings::environment(TOKEN));
    let wrong = |what: &str| {
        let whence = whence.unwrap_or(URL);
        Failure::Usage(format!("error: {whence} {what}: it is like https://sequin.example.com"))
    };
    let mut url = Url::parse(&base).map_err(|error| wrong(&format!("is no URL ({error})")))?;
    if !["http", "https"].contains(&url.scheme()) || url.query().is_some() {
        return Err(wrong("is no address of an engine"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(&format!("holds a login; the token is {TOKEN}")));
    }
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().push("api").extend(request.path);
    }
    if !request.query.is_empty() {
        url.query_pairs_mut().extend_pairs(request.query);
    }
    Ok((url, whence, token))
}
