//! Recorded messages: what a plugin makes of what a real database sent.
//!
//! `sequin tail --types` records them, and `sequin plugin run` prints what the component makes of
//! them. A test that holds the plugin to the same runs natively, in milliseconds:
//!
//! ```ignore
//! recorded::transform::<MyPlugin>(
//!     include_str!("../fixtures/config.json"),
//!     include_str!("../fixtures/messages.jsonl"),
//!     include_str!("../fixtures/outcomes.jsonl"),
//! );
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json, json};

use crate::testing::transform as change;
use crate::testing::{Cell, Literal, Outcome, Routed, filter as judge, route as send};
use crate::{
    Action, COMMIT_TIMESTAMP, Datum, ENRICHMENT, Effect, Error, Filter, IDEMPOTENCY_KEY, Position,
    Route, TRANSACTION_ANNOTATIONS, Transform, Verdict,
};

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    record: BTreeMap<String, &'a RawValue>,
    #[serde(borrow)]
    changes: Option<BTreeMap<String, &'a RawValue>>,
    action: String,
    #[serde(borrow)]
    metadata: Metadata<'a>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    table_schema: String,
    table_name: String,
    commit_timestamp: Option<String>,
    commit_lsn: u64,
    commit_idx: u64,
    idempotency_key: Option<String>,
    #[serde(borrow)]
    transaction_annotations: Option<&'a RawValue>,
    #[serde(borrow)]
    enrichment: Option<&'a RawValue>,
    columns: Vec<Column>,
}

#[derive(Deserialize)]
struct Column {
    name: String,
    #[serde(rename = "type")]
    type_name: String,
    kind: String,
    key: bool,
}

/// The rows of messages, one a line, with the types of their columns (`sequin tail --types`).
/// Truncates, which have no row, are left out.
///
/// # Panics
/// If a line is no such message.
#[must_use]
pub fn rows(messages: &str) -> Vec<Literal> {
    parsed(messages).filter_map(|(_, message)| row(&message)).collect()
}

/// Holds a filter to the outcomes that `sequin plugin run` printed for the messages.
///
/// # Panics
/// With the line of the first outcome that differs; and if the plugin refuses the configuration.
pub fn filter<T: Filter>(config: &str, messages: &str, outcomes: &str) {
    let verdict = |verdict: Result<Verdict, Error>| match verdict {
        Ok(Verdict::Keep) => json!({"outcome": "keep"}),
        Ok(Verdict::Drop) => json!({"outcome": "drop"}),
        Ok(Verdict::Evict) => json!({"outcome": "evict"}),
        Err(error) => failed(&error),
    };
    let found = configured(judge::<T>(config, &rows(messages)));
    compare(
        messages,
        outcomes,
        found,
        |_, outcome| verdict(outcome),
        |_| json!({"outcome": "keep"}),
    );
}

/// Holds a router to the routes that `sequin plugin run` printed for the messages.
///
/// # Panics
/// As [`filter`].
pub fn route<T: Route>(config: &str, sink: &str, messages: &str, outcomes: &str) {
    let found = configured(send::<T>(config, sink, &rows(messages)));
    let routed = |_: &Message<'_>, routed: Routed| match routed {
        Err(error) => failed(&error),
        Ok(keys) if keys.is_empty() => json!({"outcome": "keep"}),
        Ok(keys) => json!({"outcome": "keep", "route": keys
            .iter()
            .map(|(key, cell)| (key.clone(), value(cell)))
            .collect::<Map<_, _>>()}),
    };
    compare(messages, outcomes, found, routed, |_| json!({"outcome": "keep"}));
}

/// Holds a transform to the outcomes that `sequin plugin run` printed for the messages.
///
/// # Panics
/// As [`filter`].
pub fn transform<T: Transform>(config: &str, messages: &str, outcomes: &str) {
    let found = configured(change::<T>(config, &rows(messages)));
    compare(messages, outcomes, found, changed, |_| json!({"outcome": "keep"}));
}

fn configured<T>(found: Result<T, Vec<crate::ConfigError>>) -> T {
    found.unwrap_or_else(|wrong| panic!("the configuration is refused: {wrong:?}"))
}

fn compare<O>(
    messages: &str,
    outcomes: &str,
    found: Vec<O>,
    told: impl Fn(&Message<'_>, O) -> Json,
    truncated: impl Fn(&Message<'_>) -> Json,
) {
    let mut expected = outcomes.lines();
    let mut found = found.into_iter();
    for (number, message) in parsed(messages) {
        let mut line = match action(&message) {
            Some(_) => told(&message, found.next().expect("an outcome for each row")),
            None => truncated(&message),
        };
        let Metadata { table_schema, table_name, commit_lsn, commit_idx, .. } = &message.metadata;
        line["table"] = format!("{table_schema}.{table_name}").into();
        line["action"] = message.action.as_str().into();
        line["commit_lsn"] = (*commit_lsn).into();
        line["commit_idx"] = (*commit_idx).into();
        let expected = expected.next().unwrap_or_else(|| panic!("no outcome for message {number}"));
        let expected: Json = serde_json::from_str(expected)
            .unwrap_or_else(|error| panic!("outcome {number} is no JSON: {error}"));
        assert_eq!(line, expected, "the outcome of message {number}");
    }
    assert_eq!(expected.count(), 0, "there are more outcomes than messages");
}

fn failed(error: &Error) -> Json {
    json!({"outcome": "error", "reason": "plugin_error", "error": error.to_string()})
}

fn changed(message: &Message<'_>, outcome: Result<Outcome, Error>) -> Json {
    let document = |effect: Effect, text: &str| {
        let effect = match effect {
            Effect::Usual => "usual",
            Effect::Write => "write",
            Effect::Complete => "complete",
            Effect::Remove => "remove",
        };
        json!({"effect": effect, "json": parse(text)})
    };
    let documents = |documents: &[(Effect, String)]| {
        let mut all: Vec<Json> =
            documents.iter().map(|(effect, text)| document(*effect, text)).collect();
        match all.len() {
            1 => json!({"outcome": "replace", "document": all.remove(0)}),
            _ => json!({"outcome": "many", "documents": all}),
        }
    };
    let record = |set: Vec<(String, Cell)>| {
        let fields = message.record.iter();
        let mut record: Map<String, Json> =
            fields.map(|(name, raw)| (name.clone(), parse(raw.get()))).collect();
        for (name, cell) in set {
            match cell {
                Cell::Absent => record.remove(&name),
                cell => record.insert(name, value(&cell)),
            };
        }
        json!({"outcome": "keep", "record": record})
    };
    match outcome {
        Ok(Outcome::Keep) => record(Vec::new()),
        Ok(Outcome::Set(set)) => record(set),
        Ok(Outcome::Drop) => json!({"outcome": "drop"}),
        Ok(Outcome::Evict) => json!({"outcome": "evict"}),
        Ok(Outcome::Replace(text)) => documents(&[(Effect::Usual, text)]),
        Ok(Outcome::Many(texts)) => {
            documents(&texts.into_iter().map(|text| (Effect::Usual, text)).collect::<Vec<_>>())
        }
        Ok(Outcome::Sent(sent)) => documents(&sent),
        Err(error) => failed(&error),
    }
}

/// As the engine writes it.
fn value(cell: &Cell) -> Json {
    let datum = match cell {
        Cell::Null | Cell::Unchanged | Cell::Absent => return Json::Null,
        Cell::Bool(value) => Datum::Bool(*value),
        Cell::Int(value) => Datum::Int(*value),
        Cell::Float(value) => Datum::Float(*value),
        Cell::Text(value) => Datum::Text(value),
        Cell::Json(value) => Datum::Json(value),
        Cell::Bytes(value) => Datum::Bytes(value),
    };
    let mut text = String::new();
    datum.push_json(&mut text);
    parse(&text)
}

fn parsed(messages: &str) -> impl Iterator<Item = (usize, Message<'_>)> {
    let lines = (1..).zip(messages.lines()).filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(number, line)| {
        let message = serde_json::from_str(line).unwrap_or_else(|error| {
            panic!("message {number} is none of `sequin tail --types`: {error}")
        });
        (number, message)
    })
}

fn parse(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text} is no JSON: {error}"))
}

/// None for a truncate.
fn action(message: &Message<'_>) -> Option<Action> {
    match message.action.as_str() {
        "insert" => Some(Action::Insert),
        "update" => Some(Action::Update),
        "delete" => Some(Action::Delete),
        "read" => Some(Action::Read),
        "truncate" => None,
        other => panic!("an action {other}"),
    }
}

fn row(message: &Message<'_>) -> Option<Literal> {
    let action = action(message)?;
    let Message { record, changes, metadata, .. } = message;
    let null = |name: &str| record.get(name).is_none_or(|raw| raw.get() == "null");
    // The message of a row that was deleted under the default identity has null in all but its key.
    let columns = &metadata.columns;
    let any_key = columns.iter().any(|column| column.key);
    let only_key = action == Action::Delete
        && any_key
        && columns.iter().all(|column| column.key || null(&column.name));
    let cells = |fields: &BTreeMap<String, &RawValue>, only_key: bool| {
        let cell = |column: &Column| {
            let known = fields.get(&column.name).filter(|_| column.key || !only_key);
            let cell = known.map_or(Cell::Unchanged, |raw| cell(&column.kind, raw));
            (column.name.clone(), cell)
        };
        columns.iter().map(cell).collect::<Vec<_>>()
    };
    let none = BTreeMap::new();
    let old = if action == Action::Update { changes.as_ref() } else { None };
    let text = |raw: Option<&RawValue>| raw.map_or(Cell::Null, |raw| Cell::Json(raw.get().into()));
    let key = metadata.idempotency_key.clone().map_or(Cell::Null, Cell::Text);
    let time = metadata.commit_timestamp.as_deref().map_or(Cell::Null, microseconds);
    Some(Literal {
        schema: metadata.table_schema.clone(),
        table: metadata.table_name.clone(),
        action,
        position: Position { commit_lsn: metadata.commit_lsn, ordinal: metadata.commit_idx },
        columns: cells(record, only_key),
        old: cells(old.unwrap_or(&none), false),
        metadata: vec![
            (COMMIT_TIMESTAMP.to_owned(), time),
            (IDEMPOTENCY_KEY.to_owned(), key),
            (TRANSACTION_ANNOTATIONS.to_owned(), text(metadata.transaction_annotations)),
            (ENRICHMENT.to_owned(), text(metadata.enrichment)),
        ],
        types: columns.iter().map(|it| (it.name.clone(), it.type_name.clone())).collect(),
        key: columns.iter().filter(|it| it.key).map(|it| it.name.clone()).collect(),
    })
}

fn cell(kind: &str, raw: &RawValue) -> Cell {
    let text = raw.get();
    if text == "null" && kind != "json" {
        return Cell::Null;
    }
    let unquoted = || match parse(text) {
        Json::String(text) => text,
        _ => text.to_owned(),
    };
    let wrong = || -> ! { panic!("{text} is no {kind}") };
    match kind {
        "boolean" => Cell::Bool(text == "true"),
        "integer" => text.parse().map_or_else(|_| wrong(), Cell::Int),
        "float" => unquoted().parse().map_or_else(|_| wrong(), Cell::Float),
        "text" => Cell::Text(unquoted()),
        // JSON's null cannot be told from SQL's in a message.
        "json" if text == "null" => Cell::Null,
        "json" => Cell::Json(text.to_owned()),
        "bytes" => {
            let digits = unquoted();
            let digits = digits.strip_prefix("\\x").unwrap_or_else(|| wrong());
            let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
            let bytes = (0..digits.len()).step_by(2).map(byte).collect::<Option<_>>();
            Cell::Bytes(bytes.unwrap_or_else(|| wrong()))
        }
        other => panic!("a column of kind {other}"),
    }
}

/// Microseconds since 1970 of `2026-01-02T03:04:05.678901Z`, as messages have it.
fn microseconds(text: &str) -> Cell {
    let number =
        |at: std::ops::Range<usize>| text.get(at).and_then(|part| part.parse::<i64>().ok());
    let parts = [0..4, 5..7, 8..10, 11..13, 14..16, 17..19, 20..26].map(number);
    let [Some(year), Some(month), Some(day), Some(hour), Some(minute), Some(second), Some(micro)] =
        parts
    else {
        panic!("{text} is no time of a message");
    };
    // Days of the civil calendar, with years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month + 2) / 5
        + day
        - 719_469;
    Cell::Int((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + micro)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_count_from_1970() {
        for (text, expected) in [
            ("1970-01-01T00:00:00.000000Z", 0),
            ("2026-01-02T03:04:05.678901Z", 1_767_323_045_678_901),
            ("2000-02-29T00:00:00.000001Z", 951_782_400_000_001),
        ] {
            assert_eq!(microseconds(text), Cell::Int(expected), "{text}");
        }
    }
}
