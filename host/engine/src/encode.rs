//! From a change and what the plugins decided to the messages of one sink.

use std::sync::Arc;

use model::change::{Change, Operation};
use model::document::{self, Document, DocumentError};
use model::envelope;
use model::groups::{GroupKey, Groups};
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
        Outcome::Replace(json) => vec![json.clone()],
        Outcome::Many(documents) => documents.clone(),
        Outcome::Drop | Outcome::Evict => Vec::new(),
    };
    let effect = match change.operation {
        Operation::Delete | Operation::Truncate => Effect::Remove,
        Operation::Insert | Operation::Update | Operation::Read => Effect::Write,
    };
    // A truncate keeps its place among the rows also where rows have no order among themselves.
    let ordered = spec.grouped || change.operation == Operation::Truncate;
    let groups = if ordered { Groups::of(change) } else { Groups::None };
    let message = |(output, payload)| Message {
        position: change.position,
        output,
        groups,
        effect,
        key: None,
        payload,
        partial: false,
        idempotency_key: idempotency_key(change.position, output),
    };
    (0_u32..).zip(payloads).map(message).collect()
}

/// What is sent for one document.
enum Draft {
    Write { document: Document, partial: bool },
    Remove { id: Box<str> },
}

fn documents(spec: &SinkSpec, decided: &Decided) -> Result<Vec<Message>, DocumentError> {
    let change = &decided.change;
    let Some(row) = change.row() else { return Ok(Vec::new()) };
    let relation = &change.relation;
    let of = |row: &Row, patch| document::of_row(relation, row, patch);
    let removes = decided.evicted || change.operation == Operation::Delete;
    let (written, patch): (Vec<Document>, Option<&Patch>) = match &decided.outcome {
        Outcome::Keep | Outcome::Evict => (vec![of(row, None)?], None),
        Outcome::Set(patch) => (vec![of(row, Some(patch))?], Some(patch)),
        Outcome::Replace(json) => (vec![document::of_json(json)?], None),
        Outcome::Many(jsons) => {
            let documents = jsons.iter().map(|json| document::of_json(json));
            (documents.collect::<Result<_, _>>()?, None)
        }
        // What has to go goes, whatever a transform thinks of the row it last saw.
        Outcome::Drop if removes => (vec![of(row, None)?], None),
        Outcome::Drop => (Vec::new(), None),
    };
    let removes = removes || matches!(decided.outcome, Outcome::Evict);
    let of_columns = matches!(decided.outcome, Outcome::Keep | Outcome::Set(_));
    let partial = of_columns && envelope::is_partial(relation, row, patch);
    let mut drafts = Vec::with_capacity(written.len());
    // A key change is a removal of the old document and a write of the new one.
    if let (Operation::Update, Some(before)) = (change.operation, &change.before)
        && let Ok(old) = of(before, None)
        && let Ok(new) = of(row, None)
        && old.id != new.id
        && !written.iter().any(|document| document.id == old.id)
    {
        drafts.push(Draft::Remove { id: old.id });
    }
    drafts.extend(written.into_iter().map(|document| {
        if removes { Draft::Remove { id: document.id } } else { Draft::Write { document, partial } }
    }));
    let numbered = (0_u32..).zip(drafts);
    Ok(numbered.map(|(output, draft)| document_message(spec, change, output, draft)).collect())
}

/// What must stay in order at a state sink is the document, whatever rows it comes from.
fn document_message(spec: &SinkSpec, change: &Change, output: u32, draft: Draft) -> Message {
    let (effect, id, payload, partial) = match draft {
        Draft::Write { document, partial } => (Effect::Write, document.id, document.json, partial),
        Draft::Remove { id } => (Effect::Remove, id, Box::default(), false),
    };
    let groups = if spec.grouped { Groups::One(GroupKey::of_document(&id)) } else { Groups::None };
    Message {
        position: change.position,
        output,
        groups,
        effect,
        key: Some(id),
        payload,
        partial,
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
