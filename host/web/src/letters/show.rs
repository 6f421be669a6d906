//! Letters, messages and traces as JSON.

use std::collections::BTreeMap;

use engine::desk::Waiting;
use engine::replay::{DryRun, Judge, Progress};
use engine::trace::{Event, Happened};
use model::position::Position;
use model::sent::{Request, Text};
use model::store::{Counts, StoredLetter};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

/// JSON as it is: numbers and the order of fields too, which a parsed value would change.
pub(super) type Raw = Box<RawValue>;

/// A text that is no JSON becomes a JSON string.
fn raw(text: &str) -> Raw {
    RawValue::from_string(text.to_owned()).unwrap_or_else(|_| told(&text))
}

pub(super) fn told(value: &impl serde::Serialize) -> Raw {
    to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// The fields of a value, and others that stay as they are.
pub(super) fn object<const N: usize>(value: Value, more: [(&str, Raw); N]) -> Raw {
    let mut fields: BTreeMap<String, Raw> = BTreeMap::new();
    if let Value::Object(given) = value {
        fields.extend(given.into_iter().map(|(name, value)| (name, told(&value))));
    }
    fields.extend(more.map(|(name, raw)| (name.to_owned(), raw)));
    told(&fields)
}

pub(super) fn listed(stored: &StoredLetter) -> Value {
    let letter = &stored.letter;
    json!({
        "id": stored.id,
        "state": stored.state.as_str(),
        "sink": letter.sink,
        "table": letter.table,
        "stage": letter.stage.as_str(),
        "reason": letter.reason,
        "error": letter.error,
        "attempts": letter.attempts,
        "plugin": letter.plugin,
        "config": letter.config,
        "first_at": stored.first_at,
        "last_at": stored.last_at,
        "closed_at": stored.closed.as_ref().map(|(at, _)| at),
        "closed_why": stored.closed.as_ref().map(|(_, why)| why),
        "edited_at": stored.edited_at,
        "bytes": stored.bytes,
        "commit_lsn": letter.position.commit_lsn.0,
        "commit_idx": letter.position.ordinal,
        "output": letter.output,
        "idempotency_key": model::message::idempotency_key(letter.position, letter.output),
        "origin": letter.origin,
    })
}

pub(super) fn whole(stored: &StoredLetter) -> Raw {
    let text = |text: Option<&String>| text.map_or_else(|| told(&()), |text| raw(text));
    let letter = &stored.letter;
    object(
        listed(stored),
        [
            ("input", raw(&letter.input)),
            ("relation", text(letter.relation.as_ref())),
            ("message", text(letter.message.as_ref())),
            ("original_input", text(stored.original_input.as_ref())),
            ("original_message", text(stored.original_message.as_ref())),
        ],
    )
}

pub(super) fn count(count: &Counts) -> Value {
    json!({
        "sink": count.sink,
        "state": count.state.as_str(),
        "reason": count.reason,
        "letters": count.letters,
        "bytes": count.bytes,
    })
}

pub(super) fn progress(progress: &Progress) -> Value {
    json!({
        "done": progress.is_done(),
        "selected": progress.selected.get(),
        "delivered": progress.delivered.get(),
        "superseded": progress.superseded.get(),
        "filtered": progress.filtered.get(),
        "failed": progress.failed.get(),
        "left": progress.left.get(),
        "problem": progress.problem(),
    })
}

/// Whether it says the same each time.
pub(super) fn judge(judge: &Judge) -> Value {
    let Judge { function, digest, is_deterministic } = judge;
    json!({"function": function, "digest": digest, "deterministic": is_deterministic})
}

pub(super) fn dry_run(run: &DryRun) -> Raw {
    let messages: Vec<Raw> = run.messages.iter().map(|message| raw(message)).collect();
    let value = json!({"letter": run.letter, "verdict": run.verdict, "error": run.error});
    object(value, [("messages", told(&messages))])
}

fn id(position: Position, output: u32) -> String {
    format!("{}-{}-{output}", position.commit_lsn.0, position.ordinal)
}

/// One, with what is to be sent as an edit takes it.
pub(super) fn waiting_whole(one: &Waiting) -> Raw {
    let message = raw(&model::outgoing::write(&one.message));
    object(waiting_value(one), [("payload", raw(&one.message.payload)), ("message", message)])
}

pub(super) fn waiting(waiting: &Waiting) -> Raw {
    object(waiting_value(waiting), [("payload", raw(&waiting.message.payload))])
}

fn waiting_value(waiting: &Waiting) -> Value {
    let seconds = waiting.next_retry.map(|wait| wait.as_secs_f64());
    json!({
        "id": id(waiting.id.position, waiting.id.output),
        "idempotency_key": waiting.message.idempotency_key,
        "key": waiting.message.key,
        "attempts": waiting.attempts,
        "last_error": waiting.last_error,
        "next_retry_in_seconds": seconds,
        "in_flight": waiting.in_flight,
        "replay": waiting.replay,
    })
}

/// What an event is called, and what it tells, on one line.
pub(crate) fn event_of(of: &Event) -> (&'static str, String) {
    (parts(of).0, event(of).get().replace(['\n', '\r'], " "))
}

pub(super) fn event(event: &Event) -> Raw {
    let (what, told) = parts(event);
    let value = json!({
        "number": event.number,
        "commit_lsn": event.position.commit_lsn.0,
        "commit_idx": event.position.ordinal,
        "what": what,
    });
    object(value, [("told", told)])
}

fn parts(event: &Event) -> (&'static str, Raw) {
    match &event.what {
        Happened::Input(text) => ("input", raw(text)),
        Happened::Output(output, text) => {
            ("output", object(json!({"output": output}), [("message", raw(text))]))
        }
        Happened::Request(request) => ("request", told(&sent(request))),
        Happened::Nothing(text) => ("nothing", told(text)),
        Happened::Sent { output, messages, took, verdict } => {
            let took_ms = took.as_secs_f64() * 1000.0;
            let sent = json!({
                "output": output, "messages": messages, "took_ms": took_ms, "verdict": verdict,
            });
            ("sent", told(&sent))
        }
    }
}

fn sent(request: &Request) -> Value {
    let text = |text: &Text| json!({"text": text.text, "bytes": text.bytes});
    let headers: serde_json::Map<String, Value> = request
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), Value::String(value.clone())))
        .collect();
    let answer = request
        .answer
        .as_ref()
        .map(|answer| json!({"status": answer.status, "body": text(&answer.body)}));
    json!({
        "method": request.method,
        "url": request.url,
        "headers": headers,
        "body": text(&request.body),
        "answer": answer,
    })
}
