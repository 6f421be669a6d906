//! Messages through the decoder.

use std::collections::HashSet;
use std::fmt::Write as _;

use model::change::{Change, Operation};
use model::json;
use model::lsn::Lsn;
use model::page::{Extent, Row, Value};
use model::position::Position;
use model::relation::{Kind, Relation};
use model::source::Changes;

use super::facts;
use super::json::is_valid;
use crate::decode::{Decoder, Fault, Step};
use crate::pgoutput::Message;
use crate::relation::{Facts, Question};
use crate::wire::cursor::Cursor;

/// What a batch takes for each byte of a message: a change stands for four bytes of a truncate, a
/// cell for the one byte of a null.
const BYTES_PER_BYTE_MAX: usize = 64;

/// What a change takes however short its message is.
const BYTES_PER_MESSAGE_MAX: usize = 512;

/// What came of a sequence of messages.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) changes: usize,
    /// The fault that ended it.
    pub(super) fault: Option<Fault>,
    /// Everything handed over, as text.
    transcript: String,
}

pub(super) fn run(input: &[u8]) -> Outcome {
    let mut cursor = Cursor::new(input, "input");
    let facts = facts::read(&mut cursor);
    let every = usize::from(cursor.u8().unwrap_or_default()) % 8 + 1;
    let messages = messages(cursor);
    let outcome = decode(&messages, &facts, every);
    assert_eq!(outcome, decode(&messages, &facts, usize::MAX), "batches change nothing");
    outcome
}

/// Each behind its length; the last one may be shorter than it says.
fn messages(mut cursor: Cursor<'_>) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let Ok(len) = cursor.u16() {
        let len = usize::from(len).min(cursor.rest().len());
        let Ok(message) = cursor.take(len) else { break };
        messages.push(message);
    }
    messages
}

fn decode(messages: &[&[u8]], facts: &Facts, seal_every: usize) -> Outcome {
    let mut decoder = Decoder::default();
    let mut witness = Witness::default();
    let mut fault = None;
    for (index, message) in messages.iter().enumerate() {
        check_cut(message, index);
        let bytes = decoder.bytes();
        match feed(&mut decoder, message, facts) {
            Ok(()) => {}
            Err(refused) => {
                fault = Some(refused);
                break;
            }
        }
        let grown = decoder.bytes().saturating_sub(bytes);
        let most = message.len() * BYTES_PER_BYTE_MAX + BYTES_PER_MESSAGE_MAX;
        assert!(grown <= most, "{grown} bytes for a message of {}", message.len());
        if (index + 1).is_multiple_of(seal_every) {
            witness.take(&decoder.seal());
        }
    }
    witness.take(&decoder.seal());
    Outcome { changes: witness.changes, fault, transcript: witness.transcript }
}

/// As the reader does it: the message that needs the catalog is due again behind the answer, and
/// then needs it no more.
fn feed(decoder: &mut Decoder, message: &[u8], facts: &Facts) -> Result<(), Fault> {
    let state = |decoder: &Decoder| (decoder.waiting(), decoder.bytes(), decoder.in_transaction());
    let before = state(decoder);
    let Step::NeedCatalog(question) = decoder.feed(message)? else { return Ok(()) };
    assert_eq!(state(decoder), before, "a question leaves no trace");
    check_question(&question, message);
    decoder.answer(&question, facts);
    let step = decoder.feed(message)?;
    assert_eq!(step, Step::Taken, "answered and asked again");
    Ok(())
}

fn check_question(question: &Question, message: &[u8]) {
    let Question { waiting, tables, types } = question;
    assert!(!waiting.is_empty(), "{question:?}");
    let unique: HashSet<&u32> = waiting.iter().collect();
    assert_eq!(unique.len(), waiting.len(), "asked once for each table of {message:?}");
    assert!(tables.iter().all(|table| unique.contains(table)), "{question:?}");
    assert!(tables.len() <= waiting.len(), "{question:?}");
    let columns = waiting.len().saturating_mul(usize::from(u16::MAX));
    assert!(types.len() <= columns, "{} types", types.len());
}

/// What begins like a message and ends before it is none. One place for each message, and another
/// one each time.
fn check_cut(message: &[u8], salt: usize) {
    if message.is_empty() || Message::parse(message).is_err() {
        return;
    }
    let at = (message.len() * 31 + salt) % message.len();
    if let Some((head, _)) = message.split_at_checked(at) {
        assert!(Message::parse(head).is_err(), "{message:?} cut at {at}");
    }
}

/// Looks at all that is handed over.
#[derive(Default)]
struct Witness {
    last: Option<Position>,
    last_commit: Lsn,
    changes: usize,
    transcript: String,
}

impl Witness {
    fn take(&mut self, batch: &Changes) {
        for change in &batch.changes {
            self.change(change);
        }
        for commit in &batch.commits {
            assert!(commit.commit_lsn > self.last_commit, "commits rise: {commit:?}");
            assert!(commit.end_lsn > commit.commit_lsn, "{commit:?}");
            self.last_commit = commit.commit_lsn;
        }
    }

    fn change(&mut self, change: &Change) {
        let Change { position, operation, relation, before, after, .. } = change;
        assert!(self.last < Some(*position), "positions rise: {position:?}");
        assert_eq!(position.commit_lsn, change.transaction.commit_lsn);
        assert!(position.commit_lsn > self.last_commit, "behind the last commit: {position:?}");
        self.last = Some(*position);
        self.changes += 1;
        let rows = (before.is_some(), after.is_some());
        match operation {
            Operation::Insert => assert_eq!(rows, (false, true)),
            Operation::Update => assert!(after.is_some()),
            Operation::Delete => assert_eq!(rows, (true, false)),
            Operation::Truncate => assert_eq!(rows, (false, false)),
            Operation::Read => assert!(rows == (false, true), "no backfill comes this way"),
        }
        self.write(format_args!("{position:?} {} {}\n", operation.as_str(), relation.oid));
        for row in [before, after].into_iter().flatten() {
            self.row(relation, row);
        }
        if let (Some(before), Some(after)) = (before, after)
            && before.extent() == Extent::Full
        {
            let unsent = |row: &Row, index| row.value(index) == Value::Unchanged;
            let columns = 0..relation.columns.len();
            let filled = |index| !unsent(after, index) || unsent(before, index);
            assert!(columns.into_iter().all(filled), "an old value is lost");
        }
        if let Some(annotations) = &change.annotations {
            assert!(is_valid(annotations), "{annotations}");
            self.write(format_args!("{annotations}\n"));
        }
    }

    fn row(&mut self, relation: &Relation, row: &Row) {
        for (index, column) in relation.columns.iter().enumerate() {
            let value = row.value(index);
            // The JSON of a server is taken at its word, here; `value` looks closer.
            if column.kind != Kind::Json {
                let mut document = String::new();
                json::value(&mut document, column.kind, value);
                assert!(is_valid(&document), "{column:?}: {document}");
            }
            self.write(format_args!("{} {value:?}\n", column.name));
        }
        let beyond = row.value(relation.columns.len());
        assert_eq!(beyond, Value::Unchanged, "as many columns as the table has");
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        let written = self.transcript.write_fmt(text);
        assert!(written.is_ok(), "formatting into a String");
    }
}
