//! From a change and what the plugins decided to the messages of one sink.

use std::sync::Arc;

use model::change::{Change, Operation};
use model::document::{self, Document, DocumentError};
use model::envelope;
use model::groups::Groups;
use model::json::Timestamps;
use model::message::{Effect, Message, idempotency_key};
use model::page::Row;
use model::path::{Path, PathError};
use model::plugin::{self, DocumentEffect, Patch, Plugin};
use model::route::Route;
use model::sink::SinkKind;

use crate::spec::SinkSpec;

/// What a message has beside its record, about: 600 bytes with short names.
const METADATA_BYTES: usize = 1_024;

/// A change that goes on, and how.
pub(crate) struct Decided {
    pub(crate) change: Change,
    /// The row is outside the set.
    pub(crate) evicted: bool,
    /// Where it is sent.
    pub(crate) route: Option<Arc<Route>>,
    /// The columns that transforms set.
    pub(crate) patch: Option<Patch>,
    /// What they made of the row otherwise.
    pub(crate) made: Made,
    /// The plugins that were asked about it, in their order.
    pub(crate) judges: Vec<Arc<dyn Plugin>>,
    /// The transform failed on a row that has to go: there is a letter beside the removal.
    pub(crate) failed: bool,
}

/// What transforms made of a row.
#[derive(Debug)]
pub(crate) enum Made {
    /// The row, with the columns they set.
    Row,
    /// Nothing is to be said of it.
    Nothing,
    /// It is outside the set.
    Evicted,
    /// These stand in its place.
    Documents(Vec<plugin::Document>),
}

/// Why there is no message of a change.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EncodeError {
    /// A state sink needs a document, and this is none.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The path has nothing to give.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl EncodeError {
    /// The stable name of the reason in dead letters.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Document(_) | Self::Path(PathError::NoObject { .. }) => "no_document",
            Self::Path(PathError::Unsent { .. }) => "value_not_sent",
            Self::Path(PathError::NoMessage { .. }) => "no_message",
        }
    }
}

/// The messages of a change for this sink, in order; none if there is nothing to say.
///
/// # Errors
/// A state sink needs a document, and this is none; or the path leads nowhere.
pub(crate) fn messages(spec: &SinkSpec, decided: &Decided) -> Result<Vec<Message>, EncodeError> {
    match spec.sink.kind() {
        SinkKind::Log => events(spec, decided),
        SinkKind::State => documents(spec, decided),
    }
}

/// The message of a row.
fn envelope(spec: &SinkSpec, decided: &Decided) -> String {
    // Names, quotes and metadata beside the values: enough for nearly all, so that it does not grow
    // step by step.
    let values = decided.change.row().map_or(0, Row::bytes);
    let mut text = String::with_capacity(values + values / 2 + METADATA_BYTES);
    let Decided { change, patch, judges, .. } = decided;
    spec.envelope.write(&mut text, change, patch.as_ref(), judges);
    text
}

fn events(spec: &SinkSpec, decided: &Decided) -> Result<Vec<Message>, EncodeError> {
    let change = &decided.change;
    if decided.evicted {
        return Ok(Vec::new());
    }
    let payloads: Vec<Box<str>> = match (&decided.made, &spec.path) {
        (Made::Row, None) => vec![envelope(spec, decided).into()],
        (Made::Row, Some(path)) => vec![path.value(change, &envelope(spec, decided))?.into()],
        (Made::Documents(documents), _) => {
            documents.iter().map(|document| document.json.clone()).collect()
        }
        (Made::Nothing | Made::Evicted, _) => Vec::new(),
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
        rows: Groups::of(change),
        relation: Some(Arc::clone(&change.relation)),
        operation: Some(change.operation),
        partial: false,
        route: decided.route.clone(),
        idempotency_key: idempotency_key(change.position, output),
        scope: Arc::clone(spec.envelope.scope()),
    };
    Ok((0_u32..).zip(payloads).map(message).collect())
}

/// What is sent for one document.
struct Draft {
    effect: Effect,
    document: Document,
    partial: bool,
}

fn documents(spec: &SinkSpec, decided: &Decided) -> Result<Vec<Message>, EncodeError> {
    let change = &decided.change;
    let Some(row) = change.row() else { return Ok(Vec::new()) };
    let relation = &change.relation;
    let times = spec.envelope.timestamps();
    // What has to go goes, whatever a transform thinks of the row it last saw.
    let removes = decided.evicted
        || change.operation == Operation::Delete
        || matches!(decided.made, Made::Evicted);
    let usual = if removes { Effect::Remove } else { Effect::Write };
    let own = || -> Result<_, EncodeError> {
        let patch = decided.patch.as_ref();
        let whole = spec.path.as_ref().is_none_or(Path::is_record);
        let document = match &spec.path {
            Some(path) if !removes => {
                let message = envelope(spec, decided);
                document::of_object(relation, row, patch, path.object(change, &message)?)?
            }
            // Of a removal only the id is wanted.
            _ => document::of_row(relation, row, patch, times)?,
        };
        let partial = !removes && whole && envelope::is_partial(relation, row, patch);
        Ok(vec![Draft { effect: usual, document, partial }])
    };
    let given = match &decided.made {
        Made::Row | Made::Evicted => own()?,
        Made::Documents(documents) => given(decided.evicted, usual, documents)?,
        Made::Nothing if removes => own()?,
        Made::Nothing => Vec::new(),
    };
    let mut drafts = Vec::with_capacity(given.len());
    // A key change is a removal of the old document and a write of the new one.
    if let (Operation::Update, Some(before)) = (change.operation, &change.before)
        && let Ok(old) = document::of_row(relation, before, None, times)
        && let Ok(new) = document::of_row(relation, row, None, times)
        && old.id != new.id
        && !given.iter().any(|draft| draft.document.id == old.id)
    {
        drafts.push(Draft { effect: Effect::Remove, document: old, partial: false });
    }
    drafts.extend(given);
    let numbered = (0_u32..).zip(drafts);
    Ok(numbered.map(|(output, draft)| document_message(spec, decided, output, draft)).collect())
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
/// owner wants in order. Documents of one id at several places share a group, which is slower and never
/// wrong.
fn document_message(spec: &SinkSpec, decided: &Decided, output: u32, draft: Draft) -> Message {
    let position = decided.change.position;
    let Draft { effect, document: Document { id, json }, partial } = draft;
    let payload = if effect == Effect::Remove { Box::default() } else { json };
    let groups = spec.grouping.of_document(&decided.change, &id);
    Message {
        position,
        output,
        groups,
        effect,
        key: Some(id),
        payload,
        rows: Groups::of(&decided.change),
        relation: Some(Arc::clone(&decided.change.relation)),
        operation: Some(decided.change.operation),
        partial,
        route: decided.route.clone(),
        idempotency_key: idempotency_key(position, output),
        scope: Arc::clone(spec.envelope.scope()),
    }
}

/// The message of a change as it came, for a dead letter: with the types of its columns, so that it
/// becomes the same change again.
pub(crate) fn input(spec: &SinkSpec, change: &Change) -> String {
    let mut text = String::new();
    let envelope = spec.envelope.clone().with_types().with_timestamps(Timestamps::Iso8601);
    envelope.write(&mut text, change, None, &[]);
    text
}

/// A message as the tasks share it.
pub(crate) fn shared(messages: Vec<Message>) -> Vec<Arc<Message>> {
    messages.into_iter().map(Arc::new).collect()
}
