//! Literal rows to batches and back, as the host would do it.

use crate::bindings::types::{self, Batch, Column, Data, NewColumn, Packed, Presence};
use crate::reads::Part;
use crate::testing::{Cell, Literal};
use crate::{Action, Position, Reads};

/// The batch that the host would make of the rows, which are of one table.
pub(super) fn batch(rows: &[Literal], reads: &Reads, packed: bool) -> Batch {
    let Literal { schema, table, .. } = &rows[0];
    let columns = |part: Part, of: fn(&Literal) -> &Vec<(String, Cell)>| {
        let mut names: Vec<&String> = Vec::new();
        for (name, _) in rows.iter().flat_map(of) {
            if !names.contains(&name) && reads.wants(schema, table, part, name) {
                names.push(name);
            }
        }
        names.into_iter().map(|name| column(name, rows, of, packed)).collect()
    };
    Batch {
        schema: schema.clone(),
        table: table.clone(),
        actions: rows.iter().map(|row| action(row.action)).collect(),
        positions: rows
            .iter()
            .map(|Literal { position: Position { commit_lsn, ordinal }, .. }| types::Position {
                commit_lsn: *commit_lsn,
                ordinal: *ordinal,
            })
            .collect(),
        columns: columns(Part::New, |row| &row.columns),
        old: columns(Part::Old, |row| &row.old),
        metadata: columns(Part::Metadata, |row| &row.metadata),
    }
}

fn action(action: Action) -> types::Action {
    match action {
        Action::Insert => types::Action::Insert,
        Action::Update => types::Action::Update,
        Action::Delete => types::Action::Delete,
        Action::Read => types::Action::Read,
    }
}

/// The column of this name, of the type that the first value has.
fn column(
    name: &str,
    rows: &[Literal],
    of: fn(&Literal) -> &Vec<(String, Cell)>,
    packed: bool,
) -> Column {
    let cell = |row| of(row).iter().find(|(of, _)| of == name).map(|(_, cell)| cell);
    let cells: Vec<&Cell> = rows.iter().map(|row| cell(row).unwrap_or(&Cell::Unchanged)).collect();
    let valued = |cell: &&&Cell| !matches!(cell, Cell::Null | Cell::Unchanged);
    macro_rules! values {
        ($cell:ident) => {{
            let values = cells.iter().map(|cell| match cell {
                Cell::$cell(value) => value.clone(),
                Cell::Null | Cell::Unchanged => Default::default(),
                other => panic!("column {name} holds {other:?} among values of another type"),
            });
            values.collect()
        }};
    }
    let (data, type_name) = match cells.iter().find(valued) {
        Some(Cell::Bool(_)) => (Data::Booleans(values!(Bool)), "bool"),
        Some(Cell::Int(_)) => (Data::Integers(values!(Int)), "int8"),
        Some(Cell::Float(_)) => (Data::Floats(values!(Float)), "float8"),
        Some(Cell::Json(_)) if packed => (Data::PackedJson(pack(values!(Json))), "jsonb"),
        Some(Cell::Json(_)) => (Data::Json(values!(Json)), "jsonb"),
        Some(Cell::Bytes(_)) => (Data::Bytes(values!(Bytes)), "bytea"),
        Some(Cell::Absent) => panic!("column {name} is absent in a literal row; leave it out"),
        Some(Cell::Text(_) | Cell::Null | Cell::Unchanged) | None if packed => {
            (Data::PackedTexts(pack(values!(Text))), "text")
        }
        Some(Cell::Text(_) | Cell::Null | Cell::Unchanged) | None => {
            (Data::Texts(values!(Text)), "text")
        }
    };
    let presence = cells.iter().map(|cell| match cell {
        Cell::Null => Presence::Null,
        Cell::Unchanged => Presence::Unchanged,
        _ => Presence::Value,
    });
    let mut types = rows.iter().flat_map(|row| &row.types);
    let known = types.find(|(column, _)| column == name);
    let type_name = known.map_or(type_name, |(_, type_name)| type_name);
    Column {
        name: name.to_owned(),
        type_name: type_name.to_owned(),
        key: rows.iter().any(|row| row.key.iter().any(|column| column == name)),
        presence: presence.collect(),
        data,
    }
}

fn pack(texts: Vec<String>) -> Packed {
    let mut packed = Packed { bytes: Vec::new(), ends: Vec::new() };
    for text in texts {
        packed.bytes.extend_from_slice(text.as_bytes());
        packed.ends.push(packed.bytes.len() as u32);
    }
    packed
}

fn unpack(packed: &Packed, row: usize) -> String {
    let start = if row == 0 { 0 } else { packed.ends[row - 1] as usize };
    let bytes = &packed.bytes[start..packed.ends[row] as usize];
    String::from_utf8(bytes.to_vec()).expect("an output is made of texts")
}

/// What a column of a reply has for a row.
pub(super) fn cell(column: &NewColumn, row: usize) -> Option<(String, Cell)> {
    let cell = match column.presence[row] {
        Presence::Unchanged => return None,
        Presence::Absent => Cell::Absent,
        Presence::Null => Cell::Null,
        Presence::Value => match &column.data {
            Data::Booleans(values) => Cell::Bool(values[row]),
            Data::Integers(values) => Cell::Int(values[row]),
            Data::Floats(values) => Cell::Float(values[row]),
            Data::Texts(values) => Cell::Text(values[row].clone()),
            Data::PackedTexts(packed) => Cell::Text(unpack(packed, row)),
            Data::Json(values) => Cell::Json(values[row].clone()),
            Data::PackedJson(packed) => Cell::Json(unpack(packed, row)),
            Data::Bytes(values) => Cell::Bytes(values[row].clone()),
        },
    };
    Some((column.name.clone(), cell))
}
