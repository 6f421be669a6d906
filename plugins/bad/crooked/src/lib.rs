//! Gives replies that do not hold together, when the batch has a row that says how.
//!
//! Configured with `{"column": "name", "when": ""}`. The last text of the column of these decides:
//! `short-data`, `short-presence`, `utf8`, `ends-past`, `ends-back`, `ends-split` are wrong columns,
//! `row-of-error`, `row-of-document` name a row that there is not, `no-error` gives the verdict and
//! no reason, `no-document` likewise, `drop-with-document` and `twice` contradict themselves,
//! `refuse` fails the whole batch, `verdicts` and `texts` answer with ten million of nothing. Others
//! are kept with `seen`.
//!
//! As a filter it answers in the same ways, which makes all but `filter-drop` and `filter-keep` no
//! answer of a filter: neither yes nor no.
#![cfg(target_arch = "wasm32")]

use std::sync::OnceLock;

use sequin_plugin::bindings::types::{
    Batch, Data, Document, Effect, NewColumn, Packed, Presence, Reply, RowError, Verdict,
};
use sequin_plugin::bindings::{filter, lifecycle, transform};
use sequin_plugin::serde_json;
use trigger::Trigger;

struct Crooked;

static TRIGGER: OnceLock<Trigger> = OnceLock::new();

const WAYS: [&str; 17] = [
    "short-data",
    "short-presence",
    "utf8",
    "ends-past",
    "ends-back",
    "ends-split",
    "row-of-error",
    "row-of-document",
    "no-error",
    "no-document",
    "drop-with-document",
    "twice",
    "refuse",
    "verdicts",
    "texts",
    "filter-drop",
    "filter-keep",
];

/// More than the host could take without noticing, and little enough for the guest.
const MILLIONS: usize = 10_000_000;

impl lifecycle::Guest for Crooked {
    fn describe() -> lifecycle::Description {
        lifecycle::Description {
            config_schema: String::new(),
            capabilities: Vec::new(),
            warm: false,
            extra: Vec::new(),
        }
    }

    fn configure(config: String) -> Result<lifecycle::Requirements, Vec<lifecycle::ConfigError>> {
        let trigger = TRIGGER.get_or_init(|| serde_json::from_str(&config).expect("a trigger"));
        let reads = lifecycle::Reads {
            table: "*".to_owned(),
            columns: vec![trigger.column.clone()],
            old_columns: Vec::new(),
            metadata: Vec::new(),
        };
        Ok(lifecycle::Requirements { reads: vec![reads], packed: false, extra: Vec::new() })
    }
}

impl transform::Guest for Crooked {
    fn run(batch: Batch) -> Result<Reply, String> {
        answer(&batch)
    }
}

impl filter::Guest for Crooked {
    fn run(batch: Batch) -> Result<Reply, String> {
        answer(&batch)
    }
}

fn answer(batch: &Batch) -> Result<Reply, String> {
    let texts = batch.columns.iter().filter_map(|column| match &column.data {
        Data::Texts(values) => Some(values),
        _ => None,
    });
    let way = texts.flatten().rev().find_map(|text| WAYS.iter().find(|way| *way == text));
    crooked(way.copied().unwrap_or_default(), batch.actions.len())
}

fn crooked(way: &str, rows: usize) -> Result<Reply, String> {
    let column = |data: Data| NewColumn {
        name: "seen".to_owned(),
        presence: vec![Presence::Value; rows],
        data,
    };
    let seen = || column(Data::Booleans(vec![true; rows]));
    let packed = |text: &[u8], last: u32| {
        let mut ends = vec![0; rows];
        if let Some(end) = ends.last_mut() {
            *end = last;
        }
        column(Data::PackedTexts(Packed { bytes: text.to_vec(), ends }))
    };
    let nowhere = u32::MAX;
    let document = |row| Document { row, effect: Effect::Usual, json: r#"{"id": 1}"#.to_owned() };
    let mut reply = Reply {
        verdicts: vec![Verdict::Keep; rows],
        columns: Vec::new(),
        only: None,
        documents: Vec::new(),
        errors: Vec::new(),
    };
    match way {
        "short-data" => reply.columns.push(column(Data::Booleans(vec![true; rows - 1]))),
        "short-presence" => {
            let presence = vec![Presence::Value; rows - 1];
            reply.columns.push(NewColumn { presence, ..seen() });
        }
        "utf8" => reply.columns.push(packed(b"a\xff", 2)),
        "ends-past" => reply.columns.push(packed(b"a", 2)),
        "ends-split" => reply.columns.push(packed("ž".as_bytes(), 1)),
        "ends-back" => {
            // Backwards, and one too many, so that a batch of one row is wrong too.
            let mut ends: Vec<u32> = (0..rows).map(|row| (rows - row) as u32).collect();
            ends.push(0);
            reply.columns.push(column(Data::PackedJson(Packed { bytes: vec![b'1'; 1], ends })));
        }
        "row-of-error" => reply.errors.push(RowError {
            row: nowhere,
            column: "seen".to_owned(),
            message: "of no row".to_owned(),
            retry: true,
        }),
        "row-of-document" => reply.documents.push(document(nowhere)),
        "no-error" => reply.verdicts[rows - 1] = Verdict::Error,
        "no-document" => reply.verdicts[rows - 1] = Verdict::Many,
        "drop-with-document" => {
            reply.verdicts[rows - 1] = Verdict::Drop;
            reply.documents.push(document(rows as u32 - 1));
        }
        "twice" => reply.columns.extend([seen(), seen()]),
        "refuse" => return Err("the batch says so".to_owned()),
        "verdicts" => reply.verdicts = vec![Verdict::Keep; 2 * MILLIONS],
        // Twelve bytes each here, and more over there.
        "texts" => {
            let texts = std::iter::repeat_n(String::new(), MILLIONS / 5).collect();
            reply.columns.push(column(Data::Texts(texts)));
        }
        "filter-drop" => reply.verdicts[rows - 1] = Verdict::Drop,
        "filter-keep" => {}
        _ => reply.columns.push(seen()),
    }
    Ok(reply)
}

sequin_plugin::bindings::lifecycle::export_lifecycle!(Crooked);
sequin_plugin::bindings::filter::export_filter!(Crooked);
sequin_plugin::bindings::transform::export_transform!(Crooked);
