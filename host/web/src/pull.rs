//! `…/sequin_streams/ID_OR_NAME/{receive,ack,nack}`: consumers fetch the messages of a stream. Paths,
//! parameters and answers are the predecessor's.

mod body;
mod parameters;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::pull::{LeaseId, Pull, PullError};
use model::tokens::Scope;
use schemars::JsonSchema;

use crate::extract::Path;
use crate::operation::{Operation, Routes, get, post};
use crate::reply::{self, Refused};
use crate::shape;
use crate::streams::Streams;
use parameters::Parameters;

/// What a request needs.
#[derive(Clone)]
struct Context {
    streams: Arc<Streams>,
}

pub(crate) fn routes(streams: Arc<Streams>) -> Routes {
    use StatusCode as Is;
    let mut routes = Routes::new();
    // The second is what the predecessor's streams were called before.
    for (prefix, of) in
        [("/api/sequin_streams", "streams"), ("/api/http_pull_consumers", "consumers")]
    {
        let path = |what| format!("{prefix}/{{id_or_name}}/{what}");
        let id = |what| format!("{of}_{what}");
        let messages = shape::list(shape::object(&[("ack_id", "string"), ("data", "any")]));
        let fetches = |operation: Operation| {
            operation
                .scope(Scope::Messages)
                .asks()
                .of("sink")
                .query::<Fetch>()
                .answers(Is::OK, messages.clone())
                .refuses(&[429])
        };
        let judges = |what, told| {
            post(&path(what), &id(what), told)
                .scope(Scope::Messages)
                .asks()
                .of("sink")
                .takes::<Judged>()
                .answers(Is::OK, shape::object(&[("success", "boolean")]))
                .refuses(&[429])
        };
        let told = "The next messages of a stream";
        routes = routes
            .with(fetches(get(&path("receive"), &id("receive"), told)), receive)
            .with(
                fetches(post(&path("receive"), &id("receive_post"), told))
                    .takes::<Fetch>()
                    .or_nothing(),
                receive,
            )
            .with(judges("ack", "They are done"), ack)
            .with(judges("nack", "They are to come again"), nack);
    }
    routes.with_state(Context { streams })
}

/// What is fetched, for the document: numbers may be texts in a query.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "read by `parameters`")]
struct Fetch {
    /// 1 unless said, 1,000 at most.
    #[schemars(range(min = 1, max = 1000))]
    max_batch_size: Option<u32>,
    /// Milliseconds, or `60s`, `5m`, `1000ms`: from half a second to five minutes.
    wait_for: Option<String>,
}

/// What is acknowledged, for the document.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "read by `parameters`")]
struct Judged {
    /// As they were received.
    #[schemars(length(min = 1))]
    ack_ids: Vec<String>,
}

/// What an extractor made of a request's query and body.
type Given = (Result<Query<Vec<(String, String)>>, QueryRejection>, Result<Bytes, BytesRejection>);

async fn receive(
    State(context): State<Context>,
    Path(name): Path<String>,
    headers: HeaderMap,
    given: Given,
) -> Response {
    let answer = async {
        let (stream, parameters) = context.open(&name, &headers, given)?;
        let (max, wait) = (parameters.messages_max()?, parameters.wait()?);
        let leased = stream.receive(max, wait).await.map_err(refused)?;
        Ok(body::answer(stream, leased))
    };
    answer.await.unwrap_or_else(Refused::into_response)
}

async fn ack(
    State(context): State<Context>,
    Path(name): Path<String>,
    headers: HeaderMap,
    given: Given,
) -> Response {
    let ack = |stream: Arc<dyn Pull>, leases: &[LeaseId]| stream.ack(leases);
    context.judge(&name, &headers, given, ack).unwrap_or_else(Refused::into_response)
}

async fn nack(
    State(context): State<Context>,
    Path(name): Path<String>,
    headers: HeaderMap,
    given: Given,
) -> Response {
    let nack = |stream: Arc<dyn Pull>, leases: &[LeaseId]| {
        stream.nack(leases);
        Ok(())
    };
    context.judge(&name, &headers, given, nack).unwrap_or_else(Refused::into_response)
}

impl Context {
    fn open(
        &self,
        name: &str,
        headers: &HeaderMap,
        (query, body): Given,
    ) -> Result<(Arc<dyn Pull>, Parameters), Refused> {
        let stream = self.streams.find(name).ok_or_else(|| {
            let told = format!("Not found: there is no running sequin_stream `{name:.200}`");
            reply::error(StatusCode::NOT_FOUND, told)
        })?;
        let Query(query) =
            query.map_err(|error| reply::error(error.status(), error.body_text()))?;
        let body = body.map_err(|error| reply::error(error.status(), error.body_text()))?;
        Ok((stream, Parameters::read(query, headers, &body)?))
    }

    fn judge(
        &self,
        name: &str,
        headers: &HeaderMap,
        given: Given,
        judge: impl FnOnce(Arc<dyn Pull>, &[LeaseId]) -> Result<(), PullError>,
    ) -> Result<Response, Refused> {
        let (stream, parameters) = self.open(name, headers, given)?;
        judge(stream, &parameters.leases()?).map_err(refused)?;
        let json = [(header::CONTENT_TYPE, "application/json")];
        Ok((json, r#"{"success":true}"#).into_response())
    }
}

fn refused(error: PullError) -> Refused {
    let status = match error {
        PullError::Waiting { .. } => StatusCode::TOO_MANY_REQUESTS,
        PullError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
    };
    reply::error(status, error.to_string()).with(header::RETRY_AFTER, "1")
}

#[cfg(test)]
mod tests;
