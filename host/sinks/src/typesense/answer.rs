//! What an answer that is no success means, and what someone should do about it.

use model::sink::{Failure, SinkError};
use reqwest::Response;
use serde::Deserialize;

use super::Typesense;
use crate::http;

impl Typesense {
    pub(super) async fn refused(&self, response: &mut Response, collection: &str) -> SinkError {
        let said = said(response).await;
        self.explain(response, &said, collection)
    }

    /// What the status means, and what someone should do.
    pub(super) fn explain(&self, response: &Response, said: &str, collection: &str) -> SinkError {
        let said = http::quote(said);
        let hint = match response.status().as_u16() {
            401 | 403 => "check `api_key`: it must permit documents:import, documents:delete and \
                          collections:get"
                .to_owned(),
            404 => format!("create the collection `{collection}`, or correct its name"),
            422 => {
                "the server takes no writes: check its disk, its memory and `skip-writes`".into()
            }
            503 => "the server starts, lags behind or has no quorum".to_owned(),
            _ => String::new(),
        };
        let separator = if said.is_empty() || hint.is_empty() { "" } else { "; " };
        let detail = format!("{said}{separator}{hint}");
        let error = http::refused(response.status(), response.headers(), &self.address, &detail);
        match response.status().as_u16() {
            // Of a whole request; documents are judged line by line.
            422 => SinkError { failure: Failure::Unreachable, ..error },
            _ => error,
        }
    }
}

/// The `message` of an error, or the text if there is none.
pub(super) async fn said(response: &mut Response) -> String {
    #[derive(Deserialize)]
    struct Answer {
        message: String,
    }
    let body = http::short_body(response).await;
    serde_json::from_str::<Answer>(&body).map_or(body, |answer| answer.message)
}
