//! Columns that were handed over, and columns of an answer.

use sequin_plugin::bindings::types::{Action, Batch, Column, Data, NewColumn, Presence};

/// What each row says.
pub(crate) fn says(batch: &Batch) -> Vec<Option<String>> {
    let rows = batch.actions.len();
    let Some(column) = batch.columns.iter().find(|column| column.name == "say") else {
        return vec![None; rows];
    };
    let text = |row: usize| match &column.data {
        _ if column.presence[row] != Presence::Value => None,
        Data::Texts(texts) => Some(texts[row].clone()),
        Data::PackedTexts(packed) => {
            let start = row.checked_sub(1).map_or(0, |before| packed.ends[before] as usize);
            let bytes = packed.bytes.get(start..packed.ends[row] as usize)?;
            String::from_utf8(bytes.to_vec()).ok()
        }
        _ => None,
    };
    (0..rows).map(|row| text(row).filter(|text| !text.is_empty())).collect()
}

/// Touches the rows that have a text.
pub(crate) fn new_texts(name: &str, texts: Vec<Option<String>>) -> NewColumn {
    let presence = texts.iter().map(|text| touched(text.is_some())).collect();
    let data = Data::Texts(texts.into_iter().map(Option::unwrap_or_default).collect());
    NewColumn { name: name.to_owned(), presence, data }
}

/// Touches the rows that have a number.
pub(crate) fn new_integers(name: &str, integers: Vec<Option<i64>>) -> NewColumn {
    let presence = integers.iter().map(|number| touched(number.is_some())).collect();
    let data = Data::Integers(integers.into_iter().map(Option::unwrap_or_default).collect());
    NewColumn { name: name.to_owned(), presence, data }
}

fn touched(is: bool) -> Presence {
    if is { Presence::Value } else { Presence::Unchanged }
}

/// Where each row stands and what happened to it.
pub(crate) fn facts(batch: &Batch, said: &[Option<String>]) -> NewColumn {
    let Batch { schema, table, .. } = batch;
    let rows = batch.actions.iter().zip(&batch.positions).zip(said);
    let fact = rows.map(|((action, position), said)| {
        let action = match action {
            Action::Insert => "insert",
            Action::Update => "update",
            Action::Delete => "delete",
            Action::Read => "read",
        };
        let (lsn, ordinal) = (position.commit_lsn, position.ordinal);
        is_echo(said).then(|| format!("{schema} {table} {action} {lsn} {ordinal}"))
    });
    new_texts("row", fact.collect())
}

/// What was seen of a column, and the column.
pub(crate) fn echo(prefix: &str, column: Column, said: &[Option<String>]) -> [NewColumn; 2] {
    let Column { name, type_name, key, presence, data } = column;
    let name = format!("{prefix}{name}");
    let case = match &data {
        Data::Booleans(_) => "booleans",
        Data::Integers(_) => "integers",
        Data::Floats(_) => "floats",
        Data::Texts(_) => "texts",
        Data::Json(_) => "json",
        Data::Bytes(_) => "bytes",
        Data::PackedTexts(_) => "packed-texts",
        Data::PackedJson(_) => "packed-json",
    };
    let key = if key { "key" } else { "no-key" };
    let seen = presence.iter().zip(said).map(|(presence, said)| {
        let presence = match presence {
            Presence::Value => "value",
            Presence::Null => "null",
            Presence::Unchanged => "unchanged",
            Presence::Absent => "absent",
        };
        is_echo(said).then(|| format!("{case} {type_name} {key} {presence}"))
    });
    let seen = new_texts(&format!("{name}.seen"), seen.collect());
    let back = |(presence, said): (Presence, _)| {
        if is_echo(said) { presence } else { Presence::Unchanged }
    };
    let presence = presence.into_iter().zip(said).map(back).collect();
    [seen, NewColumn { name, presence, data }]
}

fn is_echo(said: &Option<String>) -> bool {
    said.as_deref() == Some("echo")
}
