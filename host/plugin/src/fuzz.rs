//! What the fuzz targets call, and their replay in the tests: a panic is a finding.

use std::collections::HashSet;
use std::sync::OnceLock;
use std::time::Duration;

use model::plugin::Outcome;
use model::relation::{Column, Identity, Kind, Relation, Rendered};

use crate::bindings::{
    self, ColumnOut, DataOut, Document, Effect, Packed, Presence, Reads, Reply, Requirements,
    RowError, Verdict,
};
use crate::reads::Wanted;
use crate::{Description, Error, Host, Limits, Role, inspect, reply};

#[cfg(test)]
mod tests;

/// Longer texts of an error help nobody.
const TEXT_BYTES_MAX: usize = 8 << 10;

/// Bytes that may be a component: looked into, compiled, started and bound.
///
/// # Panics
/// If that finds something wrong with the host.
pub fn component(bytes: &[u8]) {
    static HOST: OnceLock<Option<Host>> = OnceLock::new();
    let limits = Limits {
        batch_cpu_max: Duration::from_millis(50),
        memory_bytes_max: 8 << 20,
        output_bytes_max: 1 << 20,
        ..Limits::default()
    };
    let host = HOST.get_or_init(|| Host::new(limits.clone()).ok());
    let Some(host) = host else { return };
    let found = inspect(bytes, &limits);
    if let Err(error) = &found {
        check(error);
    }
    let program = match host.load(bytes) {
        Ok(program) => program,
        Err(error) => return check(&error),
    };
    let roles: Vec<Role> = program.roles().collect();
    let found = found.map(|found| (found.roles, found.refused)).ok();
    assert_eq!(found, Some((roles.clone(), Vec::new())), "what runs can be inspected");
    if let Err(error) = host.describe("fuzz", &program) {
        check(&error);
    }
    for role in roles {
        if let Err(error) = host.bind("fuzz", &program, role, "webhook", "{}") {
            check(&error);
        }
    }
}

/// Bytes as what a guest may answer: a description, requirements, and a reply to a batch.
///
/// # Panics
/// If that finds something wrong with the host.
pub fn describe(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let told = bindings::Description {
        config_schema: bytes.text(),
        capabilities: bytes.list(Bytes::text),
        warm: bytes.boolean(),
        _extra: Vec::new(),
    };
    let schema = told.config_schema.clone();
    match Description::new("fuzz", told) {
        Ok(described) => assert_eq!(described.config_schema.unwrap_or_default(), schema),
        Err(error) => check(&error),
    }
    let requirements = Requirements {
        reads: bytes.list(|bytes| Reads {
            table: bytes.text(),
            columns: bytes.list(Bytes::text),
            old_columns: bytes.list(Bytes::text),
            metadata: bytes.list(Bytes::text),
        }),
        packed: bytes.boolean(),
        _extra: Vec::new(),
    };
    let relation = relation();
    if let Ok(wanted) = Wanted::new(requirements)
        && let Some(reads) = wanted.of(&relation)
    {
        for list in [&reads.columns, &reads.old] {
            let once: HashSet<&usize> = list.iter().collect();
            assert_eq!(once.len(), list.len(), "a column twice");
            assert!(list.iter().all(|index| *index < relation.columns.len()), "no such column");
        }
    }
    let role = bytes.role();
    let rows = usize::from(bytes.byte() % 5) + 1;
    let reply = bytes.reply();
    if let Ok(outcomes) = reply::outcomes(role, rows, reply) {
        assert_eq!(outcomes.len(), rows, "an outcome for each row");
        outcomes.iter().flatten().for_each(|outcome| fits(role, rows, outcome));
    }
}

/// What leaves is well-formed.
fn fits(role: Role, rows: usize, outcome: &Outcome) {
    let is_json = |text: &str| serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok();
    match outcome {
        Outcome::Keep | Outcome::Drop | Outcome::Evict => {}
        Outcome::Set(patch) => {
            assert_ne!(role, Role::Filter);
            assert!(patch.row < rows && patch.columns.is_sorted_by(|a, b| a.name <= b.name));
            let mut text = String::new();
            let mut names = HashSet::new();
            for column in patch.set() {
                assert!(names.insert(&column.name), "{} twice", column.name);
                text.clear();
                column.write_json(&mut text, patch.row);
                assert!(is_json(&text), "{text}");
            }
        }
        Outcome::Replace(document) => assert!(role == Role::Transform && is_json(&document.json)),
        Outcome::Many(documents) => {
            assert!(role == Role::Transform && !documents.is_empty());
            assert!(documents.iter().all(|document| is_json(&document.json)));
        }
    }
}

/// Whatever it says, it says something, and not too much.
fn check(error: &Error) {
    let text = error.to_string();
    assert!(text.len() > 20 && text.len() < TEXT_BYTES_MAX, "{} bytes: {text:.200}", text.len());
}

fn relation() -> Relation {
    let column = |name: &str| Column {
        name: name.into(),
        kind: Kind::Text,
        type_name: "text".into(),
        key: name == "a",
    };
    Relation {
        rendered: Rendered::default(),
        ancestors: Vec::new(),
        oid: 1,
        schema: "s".into(),
        table: "t".into(),
        identity: Identity::Default,
        columns: ["a", "b", "c"].map(column).into(),
    }
}

/// Reads what it is asked for, and nothing where there is no more.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn role(&mut self) -> Role {
        match self.byte() % 3 {
            0 => Role::Filter,
            1 => Role::Route,
            _ => Role::Transform,
        }
    }

    fn boolean(&mut self) -> bool {
        self.byte().is_multiple_of(2)
    }

    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((byte, rest)) => {
                self.0 = rest;
                *byte
            }
            None => 0,
        }
    }

    /// As long as the first byte says, or as there are.
    fn bytes(&mut self) -> Vec<u8> {
        let length = usize::from(self.byte()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes.to_vec()
    }

    fn text(&mut self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.byte() % 6).map(|_| item(self)).collect()
    }

    fn packed(&mut self) -> Packed {
        Packed { bytes: self.bytes(), ends: self.list(|bytes| u32::from(bytes.byte())) }
    }

    fn data(&mut self) -> DataOut {
        match self.byte() % 8 {
            0 => DataOut::Booleans(self.list(Self::boolean)),
            1 => DataOut::Integers(self.list(|bytes| i64::from(bytes.byte()) - 100)),
            2 => DataOut::Floats(self.list(|bytes| match bytes.byte() {
                0 => f64::NAN,
                1 => f64::INFINITY,
                other => f64::from(other) / 7.0,
            })),
            3 => DataOut::Texts(self.list(Self::text)),
            4 => DataOut::Json(self.list(Self::text)),
            5 => DataOut::Bytes(self.list(Self::bytes)),
            6 => DataOut::PackedTexts(self.packed()),
            _ => DataOut::PackedJson(self.packed()),
        }
    }

    fn reply(&mut self) -> Reply {
        let presence = |bytes: &mut Self| match bytes.byte() % 4 {
            0 => Presence::Value,
            1 => Presence::Null,
            2 => Presence::Unchanged,
            _ => Presence::Absent,
        };
        let verdict = |bytes: &mut Self| match bytes.byte() % 6 {
            0 => Verdict::Keep,
            1 => Verdict::Drop,
            2 => Verdict::Evict,
            3 => Verdict::Replace,
            4 => Verdict::Many,
            _ => Verdict::Error,
        };
        let effect = |bytes: &mut Self| match bytes.byte() % 4 {
            0 => Effect::Usual,
            1 => Effect::Write,
            2 => Effect::Complete,
            _ => Effect::Remove,
        };
        Reply {
            verdicts: self.list(verdict),
            columns: self.list(|bytes| ColumnOut {
                name: bytes.text(),
                presence: bytes.list(presence),
                data: bytes.data(),
            }),
            only: self.boolean().then(|| self.list(Self::text)),
            documents: self.list(|bytes| Document {
                row: u32::from(bytes.byte() % 8),
                effect: effect(bytes),
                json: bytes.text(),
            }),
            errors: self.list(|bytes| RowError {
                row: u32::from(bytes.byte() % 8),
                column: bytes.text(),
                message: bytes.text(),
                _retry: false,
            }),
        }
    }
}
