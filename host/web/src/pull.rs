//! `…/sequin_streams/ID_OR_NAME/{receive,ack,nack}`: consumers fetch the messages of a stream. Paths,
//! parameters and answers are the predecessor's.

mod body;
mod parameters;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use model::pull::{LeaseId, Pull, PullError};

use crate::reply::{self, Refused};
use crate::streams::Streams;
use parameters::Parameters;

/// What a request needs.
#[derive(Clone)]
struct Context {
    streams: Arc<Streams>,
}

pub(crate) fn routes(streams: Arc<Streams>) -> Router {
    let mut router = Router::new();
    // The second is what the predecessor's streams were called before.
    for prefix in ["/api/sequin_streams", "/api/http_pull_consumers"] {
        let path = |what| format!("{prefix}/{{id_or_name}}/{what}");
        router = router
            .route(&path("receive"), post(receive).get(receive))
            .route(&path("ack"), post(ack))
            .route(&path("nack"), post(nack));
    }
    router.route("/api/{*rest}", any(nothing)).with_state(Context { streams })
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

async fn nothing() -> Response {
    reply::error(StatusCode::NOT_FOUND, "Not found: the API has no such path").into_response()
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
