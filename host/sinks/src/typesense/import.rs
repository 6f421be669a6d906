//! Documents, many to a request, each with a verdict of its own.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::message::{Effect, Message};
use model::sink::{Retry, SinkError, Verdict};
use options::typesense::Action;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{Part, Placed, Results, Typesense, never, same};
use crate::http;

/// Room in the import's answer for a line without its document.
const LINE_BYTES_MAX: usize = 4096;

/// How the server says that a field of a new document is null: the rest names the type that it has in
/// the collection.
const IS_NULL: &str = "but is null";

/// What became of a request.
enum Answer {
    /// As many verdicts as messages.
    Judged(Vec<Verdict>),
    /// Something in front of the server takes no body of this size (Typesense itself has no bound).
    TooLarge(SinkError),
}

impl Typesense {
    /// Imports the messages, in halves as often as a body is too large.
    pub(super) async fn import(
        &self,
        collection: &str,
        part: Part,
        messages: &[Placed<'_>],
        deadline: Instant,
    ) -> Results {
        let mut results = Vec::with_capacity(messages.len());
        // Still to be sent, the first of them last.
        let mut slices = vec![messages];
        while let Some(slice) = slices.pop() {
            match (self.import_once(collection, part, slice, deadline).await, slice) {
                (Ok(Answer::Judged(mut verdicts)), _) => {
                    if part == Part::Whole && self.action == Action::Emplace {
                        self.make_new(collection, slice, &mut verdicts, deadline).await;
                    }
                    let places = slice.iter().map(|(place, _)| *place);
                    results.extend(places.zip(verdicts.into_iter().map(Ok)));
                }
                (Ok(Answer::TooLarge(error)), [(place, message)]) => {
                    let bytes = message.payload.len();
                    let error = format!("the document is too large, {bytes} bytes: {error}");
                    results.push((*place, Ok(never(error))));
                }
                (Ok(Answer::TooLarge(_)), several) => {
                    let (first, second) = several.split_at(several.len() / 2);
                    slices.extend([second, first]);
                }
                (Err(error), _) => results.extend(same(&error, slice)),
            }
        }
        results
    }

    /// Makes the documents anew that were refused because they are not there and have nulls: the
    /// server (0.24) cannot make such ones with `emplace`, although it takes them away with it from
    /// those that are there. A field of a new document that is null is one that it does not have.
    async fn make_new(
        &self,
        collection: &str,
        messages: &[Placed<'_>],
        verdicts: &mut [Verdict],
        deadline: Instant,
    ) {
        let refused = |verdict: &Verdict| match verdict {
            Verdict::Rejected { error, .. } => error.contains(IS_NULL),
            _ => false,
        };
        let new: Vec<(usize, Message)> = messages
            .iter()
            .zip(&*verdicts)
            .enumerate()
            .filter(|(_, (_, verdict))| refused(verdict))
            .filter_map(|(at, ((_, message), _))| {
                let payload = without_nulls(&message.payload)?;
                Some((at, Message { payload, ..(*message).clone() }))
            })
            .collect();
        if new.is_empty() {
            return;
        }
        let placed: Vec<Placed<'_>> = new.iter().map(|(at, message)| (*at, message)).collect();
        // What fails here stays as it was judged, and is tried again as a whole.
        let made = self.import_once(collection, Part::New, &placed, deadline).await;
        let Ok(Answer::Judged(made)) = made else { return };
        for ((at, _), made) in placed.into_iter().zip(made) {
            if let Some(verdict) = verdicts.get_mut(at) {
                *verdict = made;
            }
        }
    }

    async fn import_once(
        &self,
        collection: &str,
        part: Part,
        messages: &[Placed<'_>],
        deadline: Instant,
    ) -> Result<Answer, SinkError> {
        let lines = lines(messages);
        // A refused document comes back within a JSON string: every byte of it may be escaped.
        let answer_bytes_max = lines.len() * 2 + messages.len() * LINE_BYTES_MAX;
        let url = self.named(collection, |collection| match part {
            Part::Partial => collection.partial.clone(),
            Part::New => collection.new.clone(),
            Part::Whole | Part::Removal => collection.whole.clone(),
        })?;
        let mut response = self.send(Method::POST, url, Some(lines), deadline).await?;
        if !response.status().is_success() {
            let error = self.refused(&mut response, collection).await;
            return match response.status() {
                StatusCode::PAYLOAD_TOO_LARGE => Ok(Answer::TooLarge(error)),
                _ => Err(error),
            };
        }
        let (body, whole) = http::body(&mut response, answer_bytes_max)
            .await
            .map_err(|error| http::no_answer(&error, &self.address, self.timeout))?;
        let verdicts = whole.then(|| judge(&body, self.action, part, messages)).flatten();
        match verdicts {
            Some(verdicts) if verdicts.len() == messages.len() => Ok(Answer::Judged(verdicts)),
            _ => Err(SinkError::unreachable(format!(
                "{} did not answer the import of {} documents with as many results",
                self.address,
                messages.len()
            ))),
        }
    }
}

/// A document without the fields that are null; None if it is no object.
fn without_nulls(document: &str) -> Option<Box<str>> {
    let mut fields: BTreeMap<String, &RawValue> = serde_json::from_str(document).ok()?;
    fields.retain(|_, value| value.get() != "null");
    serde_json::to_string(&fields).ok().map(Into::into)
}

/// One document per line. A line break within a document can only stand between its tokens, where
/// a space means the same.
fn lines(messages: &[Placed<'_>]) -> Bytes {
    let bytes = messages.iter().map(|(_, message)| message.payload.len() + 1).sum();
    let mut lines = Vec::with_capacity(bytes);
    for (_, message) in messages {
        let spaced = |byte| {
            if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }
        };
        lines.extend(message.payload.bytes().map(spaced));
        lines.push(b'\n');
    }
    lines.into()
}

/// What the server says of one document. The line's `document` is row data and is not looked at.
#[derive(Deserialize)]
struct Line {
    success: bool,
    code: Option<u16>,
    #[serde(default)]
    error: String,
}

/// A verdict per line, or none if a line is no verdict.
fn judge(body: &[u8], action: Action, part: Part, messages: &[Placed<'_>]) -> Option<Vec<Verdict>> {
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    // A line too many is judged too: then the numbers differ, and nothing is believed.
    let messages =
        messages.iter().map(|(_, message)| Some(*message)).chain(std::iter::repeat(None));
    let verdict = |(line, message)| {
        Some(line_verdict(serde_json::from_slice(line).ok()?, action, part, message))
    };
    lines.zip(messages).map(verdict).collect()
}

fn line_verdict(line: Line, action: Action, part: Part, message: Option<&Message>) -> Verdict {
    if line.success {
        return Verdict::Delivered;
    }
    let completes = message.is_some_and(|message| message.effect == Effect::Complete);
    match line.code {
        // Another row's document, or one that `update` leaves to others to make.
        Some(404) if completes || action == Action::Update => Verdict::Skipped,
        Some(404) if part == Part::Partial => never(
            "the document is not there, and values that did not change were not sent: set REPLICA \
             IDENTITY FULL on the table",
        ),
        // `create` leaves existing documents alone: also when they exist because the answer to the
        // first attempt was lost.
        Some(409) if action == Action::Create && part == Part::Whole => Verdict::Delivered,
        // The predecessor retries them: a schema can be mended, and then they fit.
        _ => {
            let retry = Retry::Later { after: None };
            Verdict::Rejected { retry, error: http::quote(&line.error) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_are_null_go_and_the_others_stay_as_they_are() {
        let document = r#"{"id":"1","a":null,"n":1e400,"o":{"b":null},"q\"":"null"}"#;
        let expected = r#"{"id":"1","n":1e400,"o":{"b":null},"q\"":"null"}"#;
        assert_eq!(without_nulls(document).as_deref(), Some(expected));
        assert_eq!(without_nulls("[null]"), None);
    }
}
