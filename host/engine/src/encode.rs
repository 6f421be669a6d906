//! From a change and what the plugins decided to the messages of one sink.

use std::sync::Arc;

use model::change::{Change, Operation};
use model::document::{self, Document, DocumentError};
use model::groups::Groups;
use model::message::{Effect, Message, idempotency_key};
use model::page::Row;
use model::plugin::{Outcome, Patch};
use model::sink::SinkKind;

use crate::spec::SinkSpec;

/// A change that goes on, and how.
#[derive(Debug)]
pub(crate) struct Decided {
    pub(crate) change: Change,
    /// The row is outside the set.
    pub(crate) evicted: bool,
    /// What the transform made of it.
    pub(crate) outcome: Outcome,
}

/// The messages of a change for this sink, in order; none if there is nothing to say.
///
/// # Errors
/// A state sink needs a document, and this is none.
pub(crate) fn messages(spec: &SinkSpec, decided: &Decided) -> Result<Vec<Message>, DocumentError> {
    match spec.sink.kind() {
        SinkKind::Log => Ok(events(spec, decided)),
        SinkKind::State => documents(spec, decided),
    }
}

fn events(spec: &SinkSpec, decided: &Decided) -> Vec<Message> {
    let change = &decided.change;
    if decided.evicted {
        return Vec::new();
    }
    let envelope = |patch: Option<&Patch>| {
        let mut text = String::new();
        spec.envelope.write(&mut text, change, patch);
        text.into_boxed_str()
    };
    let payloads = match &decided.outcome {
        Outcome::Keep => vec![envelope(None)],
        Outcome::Set(patch) => vec![envelope(Some(patch))],
        Outcome::Replace(json) => vec![json.clone()],
        Outcome::Many(documents) => documents.clone(),
        Outcome::Drop | Outcome::Evict => Vec::new(),
    };
    let effect = match change.operation {
        Operation::Delete | Operation::Truncate => Effect::Remove,
        Operation::Insert | Operation::Update | Operation::Read => Effect::Write,
    };
    let drafts = payloads.into_iter().map(|payload| (effect, None, payload));
    number(spec, change, drafts.collect())
}

fn documents(spec: &SinkSpec, decided: &Decided) -> Result<Vec<Message>, DocumentError> {
    let change = &decided.change;
    let Some(row) = change.row() else { return Ok(Vec::new()) };
    let relation = &change.relation;
    let of = |row: &Row, patch| document::of_row(relation, row, patch);
    let written: Vec<Document> = match &decided.outcome {
        Outcome::Keep => vec![of(row, None)?],
        Outcome::Set(patch) => vec![of(row, Some(patch))?],
        Outcome::Replace(json) => vec![document::of_json(json)?],
        Outcome::Many(jsons) => {
            jsons.iter().map(|json| document::of_json(json)).collect::<Result<_, _>>()?
        }
        // A transform that finds the row outside the set: its document is the row's own.
        Outcome::Evict => vec![of(row, None)?],
        Outcome::Drop => Vec::new(),
    };
    let removes = decided.evicted
        || change.operation == Operation::Delete
        || matches!(decided.outcome, Outcome::Evict);
    let mut drafts: Vec<(Effect, Option<Box<str>>, Box<str>)> = Vec::new();
    // A key change is a removal of the old document and a write of the new one.
    if let (Operation::Update, Some(before)) = (change.operation, &change.before)
        && let Ok(old) = of(before, None)
        && let Ok(new) = of(row, None)
        && old.id != new.id
        && !written.iter().any(|document| document.id == old.id)
    {
        drafts.push((Effect::Remove, Some(old.id), "".into()));
    }
    for document in written {
        drafts.push(if removes {
            (Effect::Remove, Some(document.id), "".into())
        } else {
            (Effect::Write, Some(document.id), document.json)
        });
    }
    Ok(number(spec, change, drafts))
}

fn number(
    spec: &SinkSpec,
    change: &Change,
    drafts: Vec<(Effect, Option<Box<str>>, Box<str>)>,
) -> Vec<Message> {
    let groups = if spec.grouped { Groups::of(change) } else { Groups::None };
    let numbered = (0_u32..).zip(drafts);
    numbered
        .map(|(output, (effect, key, payload))| Message {
            position: change.position,
            output,
            groups,
            effect,
            key,
            payload,
            idempotency_key: idempotency_key(change.position, output),
        })
        .collect()
}

/// The message of a change as its sink would have got it without plugins, for a dead letter.
pub(crate) fn input(spec: &SinkSpec, change: &Change) -> String {
    let mut text = String::new();
    spec.envelope.write(&mut text, change, None);
    text
}

/// A message as the tasks share it.
pub(crate) fn shared(messages: Vec<Message>) -> Vec<Arc<Message>> {
    messages.into_iter().map(Arc::new).collect()
}
