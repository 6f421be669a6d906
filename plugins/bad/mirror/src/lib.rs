//! Answers with what it was handed, so that a test sees what crosses the boundary.
//!
//! Configured with `{"reads": [{"table": "*", "columns": [], "old": [], "metadata": []}], "packed":
//! true, "only": ["id"]}`; only `reads` must be there. Each row gets `seen`, a JSON object of all that
//! came for it: of each column its shape, its type and its value. A row whose first text is `usual`,
//! `write`, `complete` or `remove` is replaced by a document of that effect; one of `nan` gets `nan`,
//! the bits of a division of zero by zero.
#![cfg(target_arch = "wasm32")]

use std::sync::OnceLock;

use sequin_plugin::bindings::types::{
    Action, Batch, Column, Data, Document, Effect, NewColumn, Packed, Presence, Reply, Verdict,
};
use sequin_plugin::bindings::{lifecycle, transform};
use sequin_plugin::serde_json::{self, Map, Value, json};

struct Mirror;

static CONFIG: OnceLock<Value> = OnceLock::new();

fn names(value: &Value) -> Vec<String> {
    let names = value.as_array().into_iter().flatten();
    names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

impl lifecycle::Guest for Mirror {
    fn describe() -> lifecycle::Description {
        lifecycle::Description {
            config_schema: String::new(),
            capabilities: Vec::new(),
            warm: false,
            extra: Vec::new(),
        }
    }

    fn configure(config: String) -> Result<lifecycle::Requirements, Vec<lifecycle::ConfigError>> {
        let config = CONFIG.get_or_init(|| serde_json::from_str(&config).expect("JSON"));
        let reads = config["reads"].as_array().into_iter().flatten();
        let reads = reads.map(|reads| lifecycle::Reads {
            table: reads["table"].as_str().unwrap_or_default().to_owned(),
            columns: names(&reads["columns"]),
            old_columns: names(&reads["old"]),
            metadata: names(&reads["metadata"]),
        });
        let packed = config["packed"] == true;
        Ok(lifecycle::Requirements { reads: reads.collect(), packed, extra: Vec::new() })
    }
}

impl transform::Guest for Mirror {
    fn run(batch: Batch) -> Result<Reply, String> {
        let rows = batch.actions.len();
        let mut reply = Reply {
            verdicts: vec![Verdict::Keep; rows],
            columns: Vec::new(),
            only: CONFIG.get().filter(|it| it["only"].is_array()).map(|it| names(&it["only"])),
            documents: Vec::new(),
            errors: Vec::new(),
        };
        let mut seen = vec![String::new(); rows];
        let mut nan = vec![0; rows];
        let mut presence = [vec![Presence::Unchanged; rows], vec![Presence::Unchanged; rows]];
        for row in 0..rows {
            let effect = match first_text(&batch, row) {
                Some("usual") => Some(Effect::Usual),
                Some("write") => Some(Effect::Write),
                Some("complete") => Some(Effect::Complete),
                Some("remove") => Some(Effect::Remove),
                _ => None,
            };
            if let Some(effect) = effect {
                reply.verdicts[row] = Verdict::Replace;
                let json = format!(r#"{{"row":{row}}}"#);
                reply.documents.push(Document { row: row as u32, effect, json });
                continue;
            }
            if first_text(&batch, row) == Some("nan") {
                let zero = || std::hint::black_box(0.0_f64);
                nan[row] = (zero() / zero()).to_bits() as i64;
                presence[1][row] = Presence::Value;
            }
            seen[row] = told(&batch, row).to_string();
            presence[0][row] = Presence::Value;
        }
        let [of_seen, of_nan] = presence;
        let column =
            |name: &str, presence, data| NewColumn { name: name.to_owned(), presence, data };
        reply.columns.push(column("seen", of_seen, Data::Json(seen)));
        reply.columns.push(column("nan", of_nan, Data::Integers(nan)));
        Ok(reply)
    }
}

fn first_text(batch: &Batch, row: usize) -> Option<&str> {
    batch.columns.iter().find_map(|column| match &column.data {
        Data::Texts(texts) => Some(texts[row].as_str()),
        Data::PackedTexts(texts) => Some(packed(texts, row)),
        _ => None,
    })
}

fn packed(texts: &Packed, row: usize) -> &str {
    let start = if row == 0 { 0 } else { texts.ends[row - 1] as usize };
    std::str::from_utf8(&texts.bytes[start..texts.ends[row] as usize]).expect("UTF-8")
}

fn told(batch: &Batch, row: usize) -> Value {
    let action = match batch.actions[row] {
        Action::Insert => "insert",
        Action::Update => "update",
        Action::Delete => "delete",
        Action::Read => "read",
    };
    json!({
        "table": format!("{}.{}", batch.schema, batch.table),
        "action": action,
        "columns": columns(&batch.columns, row),
        "old": columns(&batch.old, row),
        "metadata": columns(&batch.metadata, row),
    })
}

fn columns(columns: &[Column], row: usize) -> Map<String, Value> {
    columns.iter().map(|column| (column.name.clone(), cell(column, row))).collect()
}

/// `["text packed", value]`, with `key` where it is one.
fn cell(column: &Column, row: usize) -> Value {
    let (shape, value) = match &column.data {
        Data::Booleans(values) => ("booleans", json!(values[row])),
        Data::Integers(values) => ("integers", json!(values[row])),
        Data::Floats(values) => ("floats", json!(values[row])),
        Data::Texts(values) => ("texts", json!(values[row])),
        Data::Json(values) => ("json", json!(values[row])),
        Data::Bytes(values) => ("bytes", json!(values[row])),
        Data::PackedTexts(values) => ("packed-texts", json!(packed(values, row))),
        Data::PackedJson(values) => ("packed-json", json!(packed(values, row))),
    };
    let value = match column.presence[row] {
        Presence::Value => value,
        Presence::Null => Value::Null,
        Presence::Unchanged => json!({"presence": "unchanged"}),
        Presence::Absent => json!({"presence": "absent"}),
    };
    let key = if column.key { " key" } else { "" };
    json!([format!("{} {shape}{key}", column.type_name), value])
}

sequin_plugin::bindings::lifecycle::export_lifecycle!(Mirror);
sequin_plugin::bindings::transform::export_transform!(Mirror);
