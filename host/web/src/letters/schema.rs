//! What is told of letters, messages and traces, for the OpenAPI document.

use serde_json::{Value, json};

use crate::shape::{array, fields_of, object, with};

pub(super) fn letter() -> Value {
    object(&[
        ("id", "integer"),
        ("state", "string"),
        ("sink", "string"),
        ("table", "string"),
        ("stage", "string"),
        ("reason", "string"),
        ("error", "string"),
        ("attempts", "integer"),
        ("plugin", "string|null"),
        ("config", "any"),
        ("first_at", "string"),
        ("last_at", "string"),
        ("closed_at", "string|null"),
        ("closed_why", "string|null"),
        ("edited_at", "string|null"),
        ("bytes", "integer"),
        ("commit_lsn", "integer"),
        ("commit_idx", "integer"),
        ("output", "integer|null"),
        ("idempotency_key", "string"),
        ("origin", "string"),
    ])
}

pub(super) fn whole() -> Value {
    let more = object(&[
        ("input", "any"),
        ("relation", "any"),
        ("message", "any"),
        ("original_input", "any"),
        ("original_message", "any"),
    ]);
    with(letter(), more)
}

pub(super) fn count() -> Value {
    object(&[
        ("sink", "string"),
        ("state", "string"),
        ("reason", "string"),
        ("letters", "integer"),
        ("bytes", "integer"),
    ])
}

pub(super) fn progress() -> Value {
    object(&[
        ("done", "boolean"),
        ("selected", "integer"),
        ("delivered", "integer"),
        ("superseded", "integer"),
        ("filtered", "integer"),
        ("failed", "integer"),
        ("left", "integer"),
        ("problem", "string|null"),
        ("functions?", "array"),
    ])
}

pub(super) fn dry_run() -> Value {
    object(&[
        ("letter", "integer"),
        ("verdict", "string"),
        ("error", "string|null"),
        ("messages", "array"),
    ])
}

pub(super) fn waiting() -> Value {
    object(&[
        ("id", "string"),
        ("idempotency_key", "string"),
        ("key", "string|null"),
        ("attempts", "integer"),
        ("last_error", "string|null"),
        ("next_retry_in_seconds", "number|null"),
        ("in_flight", "boolean"),
        ("replay", "boolean"),
        ("payload", "any"),
    ])
}

pub(super) fn event() -> Value {
    object(&[
        ("number", "integer"),
        ("commit_lsn", "integer"),
        ("commit_idx", "integer"),
        ("what", "string"),
        ("told", "any"),
    ])
}

pub(super) fn traced() -> Value {
    fields_of([("data", array(event())), ("on", json!({"type": "boolean"}))])
}
