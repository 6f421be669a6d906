//! Changes of a small table, for the tests of this crate.

use std::sync::Arc;

use crate::change::{Change, Operation, Transaction};
use crate::lsn::Lsn;
use crate::page::{Builder, Extent, RowSpan};
use crate::position::Position;
use crate::relation::{Column, Identity, Kind, Relation, Rendered};

/// What stands in a cell.
pub(crate) enum Cell {
    Text(&'static str),
    Null,
    Unchanged,
}

/// `camp.poi (id bigint, lang text, name text, tags jsonb)`; `keys` names the key columns.
pub(crate) fn relation(keys: &[&str]) -> Arc<Relation> {
    let column = |name: &str, kind| Column {
        name: name.into(),
        kind,
        type_name: "t".into(),
        key: keys.contains(&name),
    };
    Arc::new(Relation {
        rendered: Rendered::default(),
        oid: 7,
        schema: "camp".into(),
        table: "poi".into(),
        ancestors: Vec::new(),
        identity: Identity::Default,
        columns: vec![
            column("id", Kind::Integer),
            column("lang", Kind::Text),
            column("name", Kind::Text),
            column("tags", Kind::Json),
        ],
    })
}

/// A change at 16/B, ordinal 3, committed at 2024-02-29 12:00:00.000001.
pub(crate) fn change(
    relation: &Arc<Relation>,
    operation: Operation,
    before: Option<(Extent, [Cell; 4])>,
    after: Option<[Cell; 4]>,
) -> Change {
    let commit_lsn = Lsn(0x16_0000_000B);
    let mut builder = Builder::default();
    let before = before.map(|(extent, cells)| row(&mut builder, extent, cells));
    let after = after.map(|cells| row(&mut builder, Extent::Full, cells));
    let committed_at_us = 1_709_208_000_000_001;
    let transaction = Arc::new(Transaction::new(commit_lsn, 1, committed_at_us));
    let position = Position::new(commit_lsn, 3);
    builder.change(position, operation, Arc::clone(relation), transaction, before, after);
    builder.finish().remove(0)
}

fn row(builder: &mut Builder, extent: Extent, cells: [Cell; 4]) -> RowSpan {
    let first = builder.begin_row();
    for cell in cells {
        match cell {
            Cell::Null => builder.null(),
            Cell::Unchanged => builder.unchanged(),
            Cell::Text(text) => {
                let written: Result<(), ()> = builder.value(|out| {
                    out.push_str(text);
                    Ok(())
                });
                written.unwrap();
            }
        }
    }
    builder.end_row(first, extent)
}
