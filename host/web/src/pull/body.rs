//! The answer to `receive`. Messages that do not reach the connection are given back at once.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use model::pull::{LeaseId, Leased, Pull};

/// What the connection is given at once: it asks for more when it has sent most of that.
const PART: usize = 64 << 10;

/// `{"data":[{"ack_id":…,"data":MESSAGE}]}`, part by part.
pub(super) fn answer(stream: Arc<dyn Pull>, leased: Vec<Leased>) -> Response {
    let text = Bytes::from(text(&leased));
    let leases = leased.iter().map(|leased| leased.id).collect();
    let held = Held { stream, leases };
    let parts = stream::unfold((text, held), |(mut rest, mut held)| async {
        if rest.is_empty() {
            // All of it was taken, which is as much as can be known here.
            held.leases.clear();
            return None;
        }
        let part = rest.split_to(rest.len().min(PART));
        Some((Ok::<_, Infallible>(part), (rest, held)))
    });
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(parts)).into_response()
}

/// Messages on their way. Dropped with the connection, they are there for the next consumer.
struct Held {
    stream: Arc<dyn Pull>,
    leases: Vec<LeaseId>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.leases.is_empty() {
            self.stream.nack(&self.leases);
        }
    }
}

/// The payloads are JSON already.
fn text(leased: &[Leased]) -> String {
    let bytes: usize = leased.iter().map(|leased| leased.message.payload.len() + 64).sum();
    let mut text = String::with_capacity(bytes + 16);
    text.push_str(r#"{"data":["#);
    for (index, leased) in leased.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(r#"{"ack_id":""#);
        text.push_str(&leased.id.to_string());
        text.push_str(r#"","data":"#);
        text.push_str(&leased.message.payload);
        text.push('}');
    }
    text.push_str("]}");
    text
}
