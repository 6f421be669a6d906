//! The rows that plugins are measured with: 20 columns and 2.1 kB as JSON, a point of interest.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use model::change::{Change, Operation, Transaction};
use model::json;
use model::lsn::Lsn;
use model::page::{Builder, Extent, Value};
use model::plugin::Rows;
use model::position::Position;
use model::relation::{Column, Identity, Kind, Relation, Rendered};

/// What the lists of features are made of. The first twenty are flags; each row has twenty of all.
pub(super) const FEATURES: [&str; 24] = [
    "wifi",
    "shower",
    "parking",
    "breakfast",
    "swimming-pool",
    "sauna",
    "playground",
    "dogs-allowed",
    "wheelchair-access",
    "electricity",
    "laundry",
    "restaurant",
    "bar",
    "supermarket",
    "bicycle-rental",
    "tennis",
    "beach",
    "campfire",
    "water-supply",
    "waste-disposal",
    "charging-point",
    "helipad",
    "mini-golf",
    "cinema",
];

/// Flags among [`FEATURES`].
pub(super) const FLAGS: usize = 20;

pub(super) const LANGUAGES: [&str; 4] = ["en", "de", "fr", "it"];

pub(super) const FIELDS: [&str; 2] = ["name", "description"];

/// Name, kind and type of the columns.
const COLUMNS: [(&str, Kind, &str); 20] = [
    ("id", Kind::Integer, "int8"),
    ("uid", Kind::Text, "uuid"),
    ("name", Kind::Text, "text"),
    ("description", Kind::Text, "text"),
    ("category", Kind::Text, "text"),
    ("status", Kind::Text, "text"),
    ("is_public", Kind::Boolean, "bool"),
    ("rating", Kind::Float, "float8"),
    ("reviews", Kind::Integer, "int4"),
    ("latitude", Kind::Float, "float8"),
    ("longitude", Kind::Float, "float8"),
    ("price", Kind::Text, "numeric"),
    ("street", Kind::Text, "text"),
    ("city", Kind::Text, "text"),
    ("postcode", Kind::Text, "text"),
    ("features", Kind::Json, "jsonb"),
    ("translations", Kind::Json, "jsonb"),
    ("details", Kind::Json, "jsonb"),
    ("created_at", Kind::Text, "timestamptz"),
    ("updated_at", Kind::Text, "timestamptz"),
];

const PROSE: &str = "A quiet place under old trees, ten minutes on foot from the lake – with a view \
    over the valley, fresh bread in the morning and room for \"larger\" vehicles. ";

/// The index of a column.
pub(super) fn column(name: &str) -> usize {
    COLUMNS.iter().position(|column| column.0 == name).unwrap_or(COLUMNS.len())
}

/// So many inserted rows, no two of them the same.
pub(super) fn rows(count: usize) -> Result<Rows> {
    let columns = COLUMNS.map(|(name, kind, type_name)| Column {
        name: name.into(),
        kind,
        type_name: type_name.into(),
        key: name == "id",
    });
    let relation = Arc::new(Relation {
        rendered: Rendered::default(),
        oid: 16_384,
        schema: "public".into(),
        table: "poi".into(),
        ancestors: Vec::new(),
        identity: Identity::Default,
        columns: columns.into(),
    });
    let commit_lsn = Lsn(0x16_B374_D848);
    let transaction = Arc::new(Transaction::new(commit_lsn, 700, 0));
    let mut builder = Builder::default();
    for number in 0..count {
        let first = builder.begin_row();
        for (name, _, _) in COLUMNS {
            builder.value(|out| {
                write(out, name, number);
                anyhow::Ok(())
            })?;
        }
        let row = builder.end_row(first, Extent::Full);
        let position = Position::new(commit_lsn, number as u64);
        let (relation, transaction) = (Arc::clone(&relation), Arc::clone(&transaction));
        builder.change(position, Operation::Insert, relation, transaction, None, Some(row));
    }
    Ok(Rows { relation, changes: builder.finish() })
}

/// The canonical text of a column of row `number`.
fn write(out: &mut String, name: &str, number: usize) {
    let text = match name {
        "id" => (1_000_000 + number).to_string(),
        "uid" => format!("0b7c4e52-93d1-4c0e-8f6e-{number:012x}"),
        "name" => format!("Campsite No. {number} at the lake"),
        "description" => PROSE.repeat(3),
        "category" => "campsite".to_owned(),
        "status" => "published".to_owned(),
        "is_public" => (!number.is_multiple_of(3)).to_string(),
        "rating" => format!("{}.5", number % 5),
        "reviews" => (number % 700).to_string(),
        "latitude" => format!("47.{:06}", number * 7 % 1_000_000),
        "longitude" => format!("8.{:06}", number * 13 % 1_000_000),
        "price" => format!("{}.90", 20 + number % 40),
        "street" => format!("Seestraße {}", number % 90),
        "city" => "Zürich".to_owned(),
        "postcode" => format!("80{:02}", number % 100),
        "features" => return features(out, number),
        "translations" => return translations(out, number),
        "details" => format!(
            r#"{{"pitches": {}, "season": {{"from": "04-01", "to": "10-31"}}, "contact": {{"phone": "+41 44 000 00 00", "mail": "info@example.org"}}}}"#,
            number % 300
        ),
        _ => "2024-05-06T07:08:09.123456Z".to_owned(),
    };
    out.push_str(&text);
}

fn features(out: &mut String, number: usize) {
    for at in 0..FLAGS {
        out.push_str(if at == 0 { "[\"" } else { ", \"" });
        out.push_str(FEATURES[(number + at) % FEATURES.len()]);
        out.push('"');
    }
    out.push(']');
}

/// One entry per language, the texts without an escape but in the first.
fn translations(out: &mut String, number: usize) {
    for (at, language) in LANGUAGES.into_iter().enumerate() {
        let prose = if at == 0 {
            PROSE
        } else {
            "Ein ruhiger Platz unter alten Bäumen, zehn \
            Minuten zu Fuß vom See: mit Blick über das Tal, am Morgen frisches Brot. "
        };
        out.push_str(if at == 0 { "[" } else { ", " });
        out.push_str(&format!(
            r#"{{"lang": "{language}", "name": "Camping {number} ({language})", "#
        ));
        out.push_str(r#""description": "#);
        json::string(out, prose);
        out.push('}');
    }
    out.push(']');
}

/// Bytes of a row as a JSON object, on average.
pub(super) fn json_bytes(rows: &Rows) -> usize {
    let length = |change: &Change| {
        let row = change.row()?;
        let cells = COLUMNS.iter().enumerate().map(|(index, (name, kind, _))| {
            let Value::Text(text) = row.value(index) else { return 0 };
            let mut quoted = String::new();
            if matches!(kind, Kind::Text | Kind::Bytes) {
                json::string(&mut quoted, text);
            }
            name.len() + 4 + if quoted.is_empty() { text.len() } else { quoted.len() }
        });
        Some(cells.sum::<usize>())
    };
    rows.changes.iter().filter_map(length).sum::<usize>() / rows.changes.len().max(1)
}

/// The rows in calls of so many.
pub(super) fn calls(rows: &Rows, size: usize) -> Vec<Rows> {
    let call = |changes: &[Change]| Rows {
        relation: Arc::clone(&rows.relation),
        changes: changes.to_vec(),
    };
    rows.changes.chunks(size).map(call).collect()
}

/// The rows, of which one has another name.
pub(super) fn with_name(count: usize, at: usize, name: &str) -> Result<Rows> {
    let mut rows = rows(count)?;
    let Rows { relation, changes } = &mut rows;
    let change = changes.get_mut(at).context("no such row")?;
    let mut builder = Builder::default();
    let first = builder.begin_row();
    for (index, (of, _, _)) in COLUMNS.into_iter().enumerate() {
        let Some(Value::Text(text)) = change.row().map(|row| row.value(index)) else { continue };
        builder.value(|out| {
            out.push_str(if of == "name" { name } else { text });
            anyhow::Ok(())
        })?;
    }
    let row = builder.end_row(first, Extent::Full);
    let (position, transaction) = (change.position, Arc::clone(&change.transaction));
    let relation = Arc::clone(relation);
    builder.change(position, Operation::Insert, relation, transaction, None, Some(row));
    *change = builder.finish().pop().context("one row was built")?;
    Ok(rows)
}
