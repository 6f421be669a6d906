//! The conformance plugin in Rust: what it does is written in `plugins/conformance/README.md`.
//!
//! Written on the bindings of the SDK rather than on its rows, to show what crosses the boundary.
#![cfg(target_arch = "wasm32")]

mod column;

use std::sync::OnceLock;

use sequin_plugin::bindings::lifecycle::{
    self, ConfigError, Description, Reads, Requirements, export_lifecycle,
};
use sequin_plugin::bindings::log::{Level, log};
use sequin_plugin::bindings::types::{Batch, Document, Effect, Presence, Reply, RowError, Verdict};
use sequin_plugin::bindings::{filter, route, transform};
use sequin_plugin::serde_json::{self, Value};

use crate::column::{echo, facts, new_integers, new_texts, says};

struct Conformance;

#[derive(Default)]
struct Config {
    packed: bool,
    table: Option<String>,
    only: Option<String>,
}

static CONFIG: OnceLock<Config> = OnceLock::new();

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn extra() -> Vec<(String, String)> {
    vec![("conformance".to_owned(), "1".to_owned())]
}

fn parse(json: &str) -> Result<Config, Vec<ConfigError>> {
    let error = |field: &str, message: &str| ConfigError {
        field: field.to_owned(),
        message: message.to_owned(),
    };
    let Ok(Value::Object(fields)) = serde_json::from_str(json) else {
        return Err(vec![error("", "no flat object")]);
    };
    let mut config = Config::default();
    let mut errors = Vec::new();
    let mut refused = false;
    for (name, value) in &fields {
        match (name.as_str(), value) {
            ("packed", Value::Bool(packed)) => config.packed = *packed,
            ("table", Value::String(table)) => config.table = Some(table.clone()),
            ("only", Value::String(only)) => config.only = Some(only.clone()),
            ("refuse", Value::String(message)) => {
                refused = true;
                errors.push(error(name, message));
            }
            ("packed" | "table" | "only" | "refuse", _) => errors.push(error(name, "wrong type")),
            _ => errors.push(error(name, "unknown")),
        }
    }
    if refused {
        errors.push(error("", "as a whole"));
    }
    if errors.is_empty() { Ok(config) } else { Err(errors) }
}

impl lifecycle::Guest for Conformance {
    fn describe() -> Description {
        Description {
            config_schema: r#"{"type":"object"}"#.to_owned(),
            capabilities: Vec::new(),
            warm: true,
            extra: extra(),
        }
    }

    fn configure(config: String) -> Result<Requirements, Vec<ConfigError>> {
        let parsed = parse(&config)?;
        let config = CONFIG.get_or_init(|| parsed);
        let metadata =
            ["commit_timestamp", "transaction_annotations", "idempotency_key", "of_the_future"];
        let every = Reads {
            table: config.table.clone().unwrap_or_else(|| "*".to_owned()),
            columns: owned(&["*"]),
            old_columns: owned(&["*"]),
            metadata: owned(&metadata),
        };
        let narrow = Reads {
            table: "conformance.narrow".to_owned(),
            columns: owned(&["wide", "no_such", "say"]),
            old_columns: Vec::new(),
            metadata: Vec::new(),
        };
        let packed = config.packed;
        Ok(Requirements { reads: vec![every, narrow], packed, extra: extra() })
    }
}

/// What is the same in every role: an answer that keeps all rows but those that fail.
fn begin(said: &[Option<String>]) -> Result<Reply, String> {
    if said.iter().any(|said| said.as_deref() == Some("refuse")) {
        return Err("refused as asked".to_owned());
    }
    let mut reply = Reply {
        verdicts: vec![Verdict::Keep; said.len()],
        columns: Vec::new(),
        only: None,
        documents: Vec::new(),
        errors: Vec::new(),
    };
    for (row, said) in said.iter().enumerate() {
        let (column, message, retry) = match said.as_deref() {
            Some("error") => ("say", "as asked", false),
            Some("error-later") => ("", "not yet", true),
            Some("log") => {
                log(Level::Debug, "debug");
                log(Level::Info, "info");
                log(Level::Warn, "warn");
                log(Level::Error, "error");
                continue;
            }
            Some("trap") => {
                log(Level::Error, "trap as asked");
                core::arch::wasm32::unreachable();
            }
            _ => continue,
        };
        let (column, message) = (column.to_owned(), message.to_owned());
        reply.verdicts[row] = Verdict::Error;
        reply.errors.push(RowError { row: row as u32, column, message, retry });
    }
    Ok(reply)
}

fn out(reply: &mut Reply, said: &[Option<String>]) {
    for (verdict, said) in reply.verdicts.iter_mut().zip(said) {
        match said.as_deref() {
            Some("drop") => *verdict = Verdict::Drop,
            Some("evict") => *verdict = Verdict::Evict,
            _ => {}
        }
    }
}

impl filter::Guest for Conformance {
    fn run(batch: Batch) -> Result<Reply, String> {
        let said = says(&batch);
        let mut reply = begin(&said)?;
        out(&mut reply, &said);
        Ok(reply)
    }
}

impl route::Guest for Conformance {
    fn run(sink: String, batch: Batch) -> Result<Reply, String> {
        let said = says(&batch);
        let mut reply = begin(&said)?;
        let verdicts = reply.verdicts.iter();
        let path = said.iter().zip(verdicts).map(|(said, verdict)| match said.as_deref() {
            Some(said) if *verdict == Verdict::Keep => Some(format!("/{sink}/{said}")),
            _ => None,
        });
        reply.columns.push(new_texts("endpoint_path", path.collect()));
        Ok(reply)
    }
}

impl transform::Guest for Conformance {
    fn run(batch: Batch) -> Result<Reply, String> {
        let said = says(&batch);
        let mut reply = begin(&said)?;
        out(&mut reply, &said);
        documents(&mut reply, &said);
        reply.columns.push(facts(&batch, &said));
        for (prefix, columns) in
            [("new.", batch.columns), ("old.", batch.old), ("meta.", batch.metadata)]
        {
            for column in columns {
                reply.columns.extend(echo(prefix, column, &said));
            }
        }
        let asked = |text: &'static str| said.iter().map(move |said| said.as_deref() == Some(text));
        let mut say = new_texts("say", vec![None; said.len()]);
        for ((null, absent), presence) in asked("null").zip(asked("absent")).zip(&mut say.presence)
        {
            match (null, absent) {
                (true, _) => *presence = Presence::Null,
                (_, true) => *presence = Presence::Absent,
                _ => {}
            }
        }
        reply.columns.push(say);
        let integers = asked("twin-integer").map(|asked| asked.then_some(-1));
        reply.columns.push(new_integers("twin", integers.collect()));
        let texts = asked("twin-text").map(|asked| asked.then(|| "one".to_owned()));
        reply.columns.push(new_texts("twin", texts.collect()));
        reply.only = CONFIG.get().and_then(|config| config.only.clone()).map(|only| vec![only]);
        Ok(reply)
    }
}

const EFFECTS: [(&str, Effect); 4] = [
    ("usual", Effect::Usual),
    ("write", Effect::Write),
    ("complete", Effect::Complete),
    ("remove", Effect::Remove),
];

fn documents(reply: &mut Reply, said: &[Option<String>]) {
    for (row, said) in said.iter().enumerate() {
        let many = said.as_deref() == Some("many");
        let wanted = |name: &str| many || said.as_deref() == Some(name);
        for (name, effect) in EFFECTS.into_iter().filter(|(name, _)| wanted(name)) {
            reply.verdicts[row] = if many { Verdict::Many } else { Verdict::Replace };
            let json = format!(r#"{{"id":"{name}"}}"#);
            reply.documents.push(Document { row: row as u32, effect, json });
        }
    }
}

export_lifecycle!(Conformance);
filter::export_filter!(Conformance);
route::export_route!(Conformance);
transform::export_transform!(Conformance);
