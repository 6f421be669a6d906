//! From a change and what the plugins decided to the messages of one sink.

use std::sync::Arc;

use model::change::{Change, Operation};
use model::document::{self, Document, DocumentError};
use model::envelope;
use model::message::{Effect, Message, idempotency_key};
use model::plugin::{self, DocumentEffect, Outcome, Patch};
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
    /// The transform failed on a row that has to go: there is a letter beside the removal.
    pub(crate) failed: bool,
}

impl Decided {
    pub(crate) fn new(change: Change, evicted: bool, outcome: Outcome) -> Self {
        Self { change, evicted, outcome, failed: false }
    }
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
        Outcome::Replace(document) => vec![document.json.clone()],
        Outcome::Many(documents) => {
            documents.iter().map(|document| document.json.clone()).collect()
        }
        Outcome::Drop | Outcome::Evict => Vec::new(),
    };
    let effect = match change.operation {
        Operation::Delete | Operation::Truncate => Effect::Remove,
        Operation::Insert | Operation::Update | Operation::Read => Effect::Write,
    };
    let groups = spec.grouping.of_event(change);
    let message = |(output, payload)| Message {
        position: change.position,
        output,
        groups,
        effect,
        key: None,
        payload,
        partial: false,
        route: None,
        idempotency_key: idempotency_key(change.position, output),
    };
    (0_u32..).zip(payloads).map(message).collect()
}

/// What is sent for one document.
struct Draft {
    effect: Effect,
    document: Document,
    partial: bool,
}

fn documents(spec: &SinkSpec, decided: &Decided) -> Result<Vec<Message>, DocumentError> {
    let change = &decided.change;
    let Some(row) = change.row() else { return Ok(Vec::new()) };
    let relation = &change.relation;
    // What has to go goes, whatever a transform thinks of the row it last saw.
    let removes = decided.evicted
        || change.operation == Operation::Delete
        || matches!(decided.outcome, Outcome::Evict);
    let usual = if removes { Effect::Remove } else { Effect::Write };
    let own = |patch: Option<&Patch>| {
        let partial = !removes && envelope::is_partial(relation, row, patch);
        Ok(vec![Draft {
            effect: usual,
            document: document::of_row(relation, row, patch)?,
            partial,
        }])
    };
    let given = match &decided.outcome {
        Outcome::Keep | Outcome::Evict => own(None)?,
        Outcome::Set(patch) => own(Some(patch))?,
        Outcome::Replace(document) => {
            given(decided.evicted, usual, std::slice::from_ref(document))?
        }
        Outcome::Many(documents) => given(decided.evicted, usual, documents)?,
        Outcome::Drop if removes => own(None)?,
        Outcome::Drop => Vec::new(),
    };
    let mut drafts = Vec::with_capacity(given.len());
    // A key change is a removal of the old document and a write of the new one.
    if let (Operation::Update, Some(before)) = (change.operation, &change.before)
        && let Ok(old) = document::of_row(relation, before, None)
        && let Ok(new) = document::of_row(relation, row, None)
        && old.id != new.id
        && !given.iter().any(|draft| draft.document.id == old.id)
    {
        drafts.push(Draft { effect: Effect::Remove, document: old, partial: false });
    }
    drafts.extend(given);
    let numbered = (0_u32..).zip(drafts);
    Ok(numbered.map(|(output, draft)| document_message(spec, change, output, draft)).collect())
}

/// The documents that a transform gave. Nothing of a row that a filter evicted is written: it may be
/// what nobody is to see any more.
fn given(
    evicted: bool,
    usual: Effect,
    documents: &[plugin::Document],
) -> Result<Vec<Draft>, DocumentError> {
    let mut drafts = Vec::with_capacity(documents.len());
    for given in documents {
        let effect = match given.effect {
            DocumentEffect::Usual => usual,
            DocumentEffect::Remove => Effect::Remove,
            DocumentEffect::Write | DocumentEffect::Complete if evicted => continue,
            DocumentEffect::Write => Effect::Write,
            DocumentEffect::Complete => Effect::Complete,
        };
        drafts.push(Draft { effect, document: document::of_json(&given.json)?, partial: false });
    }
    Ok(drafts)
}

/// What must stay in order at a state sink is the document, whatever rows it comes from, and what its
/// owner wants in order.
fn document_message(spec: &SinkSpec, change: &Change, output: u32, draft: Draft) -> Message {
    let Draft { effect, document: Document { id, json }, partial } = draft;
    let payload = if effect == Effect::Remove { Box::default() } else { json };
    let groups = spec.grouping.of_document(change, &id);
    Message {
        position: change.position,
        output,
        groups,
        effect,
        key: Some(id),
        payload,
        partial,
        route: None,
        idempotency_key: idempotency_key(change.position, output),
    }
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
