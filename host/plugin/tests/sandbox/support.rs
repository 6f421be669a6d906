//! Components, and rows to run them over.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use model::change::{Operation, Transaction};
use model::lsn::Lsn;
use model::page::{Builder, Extent, RowSpan};
use model::plugin::{Document, Fate, Outcome, Plugin, PluginError, Rows};
use model::position::Position;
use model::relation::{Column, Identity, Kind, Relation};
use plugin::{Host, Limits, Role};

/// What stands in one column of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cell<'a> {
    Null,
    Unchanged,
    Text(&'a str),
}

pub(crate) use Cell::{Null, Text, Unchanged};

/// One row's change: columns in the order of [`relation`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    pub(crate) operation: Operation,
    pub(crate) extent: Extent,
    pub(crate) cells: [Cell<'a>; 4],
    /// The row before an update.
    pub(crate) before: Option<[Cell<'a>; 4]>,
}

/// A host whose budgets of CPU time are short, and which all tests of a process share.
pub(crate) fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| {
        let limits = Limits {
            batch_cpu_max: Duration::from_millis(200),
            row_cpu_max: Duration::from_millis(50),
            ..Limits::default()
        };
        cached(limits)
    })
}

/// A host that finds compiled what another test had compiled before.
pub(crate) fn cached(limits: Limits) -> Host {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled");
    Host::new(limits).unwrap().with_cache(&dir).unwrap()
}

/// The most memory that this process has had, in bytes.
pub(crate) fn peak_bytes() -> u64 {
    status_bytes("VmHWM:")
}

/// The memory that this process has now, in bytes.
pub(crate) fn resident_bytes() -> u64 {
    status_bytes("VmRSS:")
}

fn status_bytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let kilobytes = line.trim().strip_suffix("kB").unwrap().trim();
    kilobytes.parse::<u64>().unwrap() << 10
}

/// A component by the name of its crate.
pub(crate) fn component(name: &str) -> Vec<u8> {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
    let file = format!("{name}.wasm");
    let found = std::fs::read(plugins.join(&file));
    let found = found.or_else(|_| std::fs::read(plugins.join("target/bad").join(&file)));
    found.unwrap_or_else(|error| panic!("no component {file} ({error}): run `cargo x plugins`"))
}

pub(crate) fn bind(name: &str, role: Role, config: &str) -> Arc<dyn Plugin> {
    let program = host().load(&component(name)).unwrap();
    host().bind(name, &program, role, "webhook", config).unwrap()
}

/// A hostile plugin that does its worst on rows of this name.
pub(crate) fn hostile(name: &str, when: &str) -> Arc<dyn Plugin> {
    let config = format!(r#"{{"column": "name", "when": "{when}"}}"#);
    bind(name, Role::Transform, &config)
}

/// A table with these columns: id (the key), name, is_public, features.
fn relation(schema: &str, table: &str) -> Arc<Relation> {
    let column = |name: &str, kind, type_name: &str| Column {
        name: name.into(),
        kind,
        type_name: type_name.into(),
        key: name == "id",
    };
    Arc::new(Relation {
        rendered: model::relation::Rendered::default(),
        oid: 16_384,
        schema: schema.into(),
        table: table.into(),
        ancestors: Vec::new(),
        identity: Identity::Default,
        columns: vec![
            column("id", Kind::Integer, "int8"),
            column("name", Kind::Text, "text"),
            column("is_public", Kind::Boolean, "bool"),
            column("features", Kind::Json, "jsonb"),
        ],
    })
}

/// Inserted hotels of these names.
pub(crate) fn named<'a>(names: &[&'a str]) -> Rows {
    let row = |name: &&'a str| insert([Text("1"), Text(name), Null, Null]);
    rows_of(&names.iter().map(row).collect::<Vec<_>>())
}

pub(crate) fn insert(cells: [Cell<'_>; 4]) -> Row<'_> {
    Row { operation: Operation::Insert, extent: Extent::Full, cells, before: None }
}

/// Changes of `public.hotels`.
pub(crate) fn rows_of(rows: &[Row<'_>]) -> Rows {
    rows_in("public", "hotels", rows)
}

pub(crate) fn rows_in(schema: &str, table: &str, rows: &[Row<'_>]) -> Rows {
    let relation = relation(schema, table);
    let commit_lsn = Lsn(0x16_B374_D848);
    let transaction = Arc::new(Transaction::new(commit_lsn, 700, 0));
    let mut builder = Builder::default();
    for (ordinal, row) in (0..).zip(rows) {
        let old = row.before.map(|cells| build(&mut builder, cells, Extent::Full));
        let span = build(&mut builder, row.cells, row.extent);
        let (before, after) = match row.operation {
            Operation::Delete => (Some(span), None),
            Operation::Truncate => (None, None),
            _ => (old, Some(span)),
        };
        let position = Position::new(commit_lsn, ordinal);
        let (relation, transaction) = (Arc::clone(&relation), Arc::clone(&transaction));
        builder.change(position, row.operation, relation, transaction, before, after);
    }
    Rows { relation, changes: builder.finish() }
}

fn build(builder: &mut Builder, cells: [Cell<'_>; 4], extent: Extent) -> RowSpan {
    let first = builder.begin_row();
    for cell in cells {
        match cell {
            Null => builder.null(),
            Unchanged => builder.unchanged(),
            Text(text) => {
                let write = |out: &mut String| {
                    out.push_str(text);
                    Ok::<_, ()>(())
                };
                builder.value(write).unwrap();
            }
        }
    }
    builder.end_row(first, extent)
}

/// An outcome as text: a patch by what it sets.
pub(crate) fn told(outcome: &Result<Outcome, PluginError>) -> String {
    match outcome {
        Ok(Outcome::Set(patch)) => {
            let mut text = String::from("set");
            for column in patch.columns.iter().filter(|column| {
                matches!(patch.fate(&column.name), Fate::Absent) && column.touches(patch.row)
            }) {
                text.push_str(&format!(" -{}", column.name));
            }
            if let Some(only) = &patch.only {
                text.push_str(&format!(" only={}", only.join("+")));
            }
            for column in patch.set() {
                text.push_str(&format!(" {}=", column.name));
                column.write_json(&mut text, patch.row);
            }
            text
        }
        Ok(Outcome::Replace(document)) => format!("{:?} {}", document.effect, document.json),
        Ok(Outcome::Many(documents)) => {
            let one = |document: &Document| format!("{:?} {}", document.effect, document.json);
            documents.iter().map(one).collect::<Vec<_>>().join(", ")
        }
        Ok(other) => format!("{other:?}"),
        // The message of a trap tells a stack; what row it was is told by the rest.
        Err(error) => {
            format!("{}: {}", error.fault.as_str(), error.message.lines().next().unwrap())
        }
    }
}

pub(crate) fn all_told(outcomes: &[Result<Outcome, PluginError>]) -> Vec<String> {
    outcomes.iter().map(told).collect()
}
