//! What two versions of a function make of the same row, compared.

use std::collections::VecDeque;

use model::change::Change;
use model::page::Value;
use model::plugin::{Document, DocumentEffect, Outcome, PluginError};
use model::position::Position;
use model::rollout::diff::{Difference, diff, is_same};
use model::sink::SinkKind;

use super::arms::is_trap;

type Judged = Result<Outcome, PluginError>;

/// Samples that are kept of each class.
const SAMPLES_MAX: usize = 10;

/// Differences that are shown of one sample.
const DIFFERENCES_MAX: usize = 10;

/// How the outputs of a row compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// They say the same.
    Same,
    /// Both go on, or both go, and they do not say the same.
    Changed,
    /// The new version drops or evicts the row, and the one in use does not.
    NewlyDropped,
    /// The other way round.
    NewlyKept,
    /// The new version fails on it by what it says or gives.
    NewlyFailing,
    /// The new version traps, or uses too much.
    Trapped,
    /// The version in use fails on it, and the new one does not.
    NoLongerFailing,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Same,
        Self::Changed,
        Self::NewlyDropped,
        Self::NewlyKept,
        Self::NewlyFailing,
        Self::Trapped,
        Self::NoLongerFailing,
    ];

    /// The word of the API and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Changed => "changed",
            Self::NewlyDropped => "newly_dropped",
            Self::NewlyKept => "newly_kept",
            Self::NewlyFailing => "newly_failing",
            Self::Trapped => "trapped",
            Self::NoLongerFailing => "no_longer_failing",
        }
    }
}

/// A row on which they differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Where it stands.
    pub position: Position,
    /// Its table.
    pub table: String,
    /// Its key: a JSON object of texts.
    pub key: String,
    /// How.
    pub class: Class,
    /// Where the outputs differ.
    pub differences: Vec<Difference>,
    /// Why the version in use failed.
    pub old_error: Option<String>,
    /// Why the new one did.
    pub new_error: Option<String>,
}

/// All comparisons of one rollout.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    counts: [u64; Class::ALL.len()],
    /// The newest of each class.
    samples: [VecDeque<Sample>; Class::ALL.len()],
}

impl Comparison {
    /// How many rows are of this class.
    #[must_use]
    pub fn count(&self, class: Class) -> u64 {
        self.counts.get(class as usize).copied().unwrap_or_default()
    }

    /// The newest rows that differ, class by class.
    pub fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter().flatten()
    }

    /// Compares one row.
    pub(super) fn add(&mut self, kind: SinkKind, change: &Change, old: &Judged, new: &Judged) {
        let class = classify(kind, old, new);
        if let Some(count) = self.counts.get_mut(class as usize) {
            *count += 1;
        }
        if class == Class::Same {
            return;
        }
        if let Some(samples) = self.samples.get_mut(class as usize) {
            if samples.len() >= SAMPLES_MAX {
                samples.pop_front();
            }
            samples.push_back(sample(class, change, old, new));
        }
    }
}

fn sample(class: Class, change: &Change, old: &Judged, new: &Judged) -> Sample {
    let relation = &change.relation;
    let text = |judged: &Judged| judged.as_ref().map_or_else(|_| String::new(), written);
    let error = |judged: &Judged| judged.as_ref().err().map(|it| cut(&it.message));
    Sample {
        position: change.position,
        table: format!("{}.{}", relation.schema, relation.table),
        key: key(change),
        class,
        differences: match (old, new) {
            (Ok(_), Ok(_)) => diff(&text(old), &text(new), DIFFERENCES_MAX),
            _ => Vec::new(),
        },
        old_error: error(old),
        new_error: error(new),
    }
}

/// The first kilobyte of an error: a stack says where in it.
fn cut(text: &str) -> String {
    text.get(..text.floor_char_boundary(1_024)).unwrap_or_default().to_owned()
}

/// What a state sink would not take is a failure of the version that gave it.
fn fails(kind: SinkKind, judged: &Judged) -> bool {
    let is_bad = |document: &Document| model::document::of_json(&document.json).is_err();
    match judged {
        Err(_) => true,
        Ok(Outcome::Replace(document)) => kind == SinkKind::State && is_bad(document),
        Ok(Outcome::Many(documents)) => kind == SinkKind::State && documents.iter().any(is_bad),
        Ok(Outcome::Keep | Outcome::Drop | Outcome::Evict | Outcome::Set(_)) => false,
    }
}

fn classify(kind: SinkKind, old: &Judged, new: &Judged) -> Class {
    let (old_fails, new_fails) = (fails(kind, old), fails(kind, new));
    match (old_fails, new_fails) {
        (false, true) => match new {
            Err(error) if is_trap(error.fault) => Class::Trapped,
            _ => Class::NewlyFailing,
        },
        (true, false) => Class::NoLongerFailing,
        (true, true) => {
            let fault = |judged: &Judged| judged.as_ref().err().map(|error| error.fault);
            if fault(old) == fault(new) { Class::Same } else { Class::Changed }
        }
        (false, false) => match (old, new) {
            (Ok(old), Ok(new)) => match (goes(old), goes(new)) {
                (false, true) => Class::NewlyDropped,
                (true, false) => Class::NewlyKept,
                _ if is_same(&written(old), &written(new)) => Class::Same,
                _ => Class::Changed,
            },
            _ => Class::Same,
        },
    }
}

const fn goes(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Drop | Outcome::Evict)
}

/// An outcome as JSON: `{"columns": {…}}`, `{"documents": […]}` or `{"verdict": …}`. A row that goes
/// on as it is has no columns set.
fn written(outcome: &Outcome) -> String {
    let mut text = String::new();
    match outcome {
        Outcome::Drop => text.push_str("{\"verdict\":\"drop\"}"),
        Outcome::Evict => text.push_str("{\"verdict\":\"evict\"}"),
        Outcome::Keep => text.push_str("{\"columns\":{}}"),
        Outcome::Set(patch) => {
            text.push_str("{\"columns\":{");
            for (index, column) in patch.set().enumerate() {
                text.push_str(if index > 0 { "," } else { "" });
                model::json::string(&mut text, &column.name);
                text.push(':');
                column.write_json(&mut text, patch.row);
            }
            text.push('}');
            if let Some(only) = &patch.only {
                text.push_str(",\"only\":[");
                for (index, name) in only.iter().enumerate() {
                    text.push_str(if index > 0 { "," } else { "" });
                    model::json::string(&mut text, name);
                }
                text.push(']');
            }
            text.push('}');
        }
        Outcome::Replace(document) => documents(&mut text, std::slice::from_ref(document)),
        Outcome::Many(many) => documents(&mut text, many),
    }
    text
}

fn documents(text: &mut String, documents: &[Document]) {
    text.push_str("{\"documents\":[");
    for (index, document) in documents.iter().enumerate() {
        text.push_str(if index > 0 { "," } else { "" });
        let effect = match document.effect {
            DocumentEffect::Usual => "usual",
            DocumentEffect::Write => "write",
            DocumentEffect::Complete => "complete",
            DocumentEffect::Remove => "remove",
        };
        text.push_str("{\"effect\":\"");
        text.push_str(effect);
        text.push_str("\",\"json\":");
        text.push_str(&document.json);
        text.push('}');
    }
    text.push_str("]}");
}

fn key(change: &Change) -> String {
    let mut text = String::from("{");
    let columns = change.relation.key();
    for (count, index) in columns.enumerate() {
        let Some(column) = change.relation.columns.get(index) else { continue };
        text.push_str(if count > 0 { "," } else { "" });
        model::json::string(&mut text, &column.name);
        text.push(':');
        match change.row().map(|row| row.value(index)) {
            Some(Value::Text(value)) => model::json::string(&mut text, &cut(value)),
            _ => text.push_str("null"),
        }
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use model::plugin::Fault;

    use super::*;
    use crate::fake::plugin::{document, set, text};

    fn failed(fault: Fault) -> Judged {
        Err(PluginError { fault, message: "no".to_owned() })
    }

    #[test]
    fn b270_outputs_of_a_row_are_compared_by_what_they_say() {
        let one = || Ok(set([("a", text("1"))]));
        let other = || Ok(set([("a", text("2"))]));
        let json = |json: &str| Ok(Outcome::Replace(document(json)));
        for (old, new, class) in [
            (one(), one(), Class::Same),
            (one(), other(), Class::Changed),
            (Ok(Outcome::Keep), Ok(set([])), Class::Same),
            (json("{\"id\":1,\"b\":2}"), json("{\"b\": 2, \"id\": 1}"), Class::Same),
            (json("{\"id\":1}"), json("{\"id\":2}"), Class::Changed),
            (Ok(Outcome::Drop), Ok(Outcome::Evict), Class::Changed),
            (one(), Ok(Outcome::Drop), Class::NewlyDropped),
            (Ok(Outcome::Evict), one(), Class::NewlyKept),
            (one(), failed(Fault::Guest), Class::NewlyFailing),
            (one(), failed(Fault::Output), Class::NewlyFailing),
            (Ok(Outcome::Drop), failed(Fault::Deadline), Class::Trapped),
            (failed(Fault::Guest), failed(Fault::Guest), Class::Same),
            (failed(Fault::Guest), failed(Fault::Trap), Class::Changed),
            (failed(Fault::Trap), one(), Class::NoLongerFailing),
        ] {
            assert_eq!(classify(SinkKind::Log, &old, &new), class, "{old:?} {new:?}");
        }
        let (good, bad) = (json("{\"id\":1}"), json("[]"));
        assert_eq!(classify(SinkKind::Log, &good, &bad), Class::Changed);
        assert_eq!(classify(SinkKind::State, &good, &bad), Class::NewlyFailing, "no document");
    }

    #[test]
    fn samples_are_the_newest_and_name_row_and_field() {
        let mut all = Comparison::default();
        let changes = crate::fake::log::changes(30, 5);
        for change in &changes {
            let (old, new) = (Ok(set([("a", text("1"))])), Ok(set([("a", text("2"))])));
            all.add(SinkKind::Log, change, &old, &new);
        }
        assert_eq!(all.count(Class::Changed), 30);
        let samples: Vec<&Sample> = all.samples().collect();
        assert_eq!(samples.len(), SAMPLES_MAX);
        let last = samples.last().unwrap();
        assert_eq!((last.key.as_str(), &*last.table), ("{\"id\":\"34\"}", "public.t"));
        assert_eq!(last.position, changes[29].position);
        let [found] = &last.differences[..] else { panic!("{last:?}") };
        assert_eq!(found.pointer, "/columns/a");
        assert_eq!((found.old.as_deref(), found.new.as_deref()), (Some("\"1\""), Some("\"2\"")));
    }
}
