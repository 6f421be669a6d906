//! What a plugin makes of a message, as a line of JSON.

use std::sync::Arc;

use model::change::{Change, Operation};
use model::envelope;
use model::json;
use model::plugin::{Document, DocumentEffect, Outcome, Patch, Plugin, PluginError, Rows};

use crate::program::Role;

/// What a plugin makes of changes of one table, as the engine asks it: truncates pass everything,
/// deletes pass a filter.
pub async fn judge(
    plugin: &dyn Plugin,
    role: Role,
    batch: &[Change],
) -> Vec<Result<Outcome, PluginError>> {
    let asked = |change: &&Change| match change.operation {
        Operation::Truncate => false,
        Operation::Delete => role != Role::Filter,
        Operation::Insert | Operation::Update | Operation::Read => true,
    };
    let changes: Vec<Change> = batch.iter().filter(asked).cloned().collect();
    let mut found = match changes.first() {
        None => Vec::new(),
        Some(first) => {
            let relation = Arc::clone(&first.relation);
            plugin.run(Rows { relation, changes }).await
        }
    }
    .into_iter();
    let outcome =
        |change: &Change| if asked(&change) { found.next() } else { Some(Ok(Outcome::Keep)) };
    batch.iter().map_while(outcome).collect()
}

/// Appends `{"outcome": …, "table": …, …}` and what goes on.
pub fn line(out: &mut String, role: Role, change: &Change, outcome: &Result<Outcome, PluginError>) {
    let name = match outcome {
        Ok(Outcome::Keep | Outcome::Set(_)) => "keep",
        Ok(Outcome::Drop) => "drop",
        Ok(Outcome::Evict) => "evict",
        Ok(Outcome::Replace(_)) => "replace",
        Ok(Outcome::Many(_)) => "many",
        Err(_) => "error",
    };
    let relation = &change.relation;
    json::push_fmt(out, format_args!("{{\"outcome\":\"{name}\",\"table\":"));
    json::string(out, &format!("{}.{}", relation.schema, relation.table));
    json::push_fmt(
        out,
        format_args!(
            ",\"action\":\"{}\",\"commit_lsn\":{},\"commit_idx\":{}",
            change.operation.as_str(),
            change.position.commit_lsn.0,
            change.position.ordinal
        ),
    );
    match outcome {
        Ok(Outcome::Set(patch)) if role == Role::Route => route(out, patch),
        Ok(Outcome::Keep | Outcome::Set(_)) if role == Role::Transform => {
            let patch = match outcome {
                Ok(Outcome::Set(patch)) => Some(patch),
                _ => None,
            };
            if let Some(row) = change.row() {
                out.push_str(",\"record\":");
                envelope::record(out, relation, row, patch);
            }
        }
        Ok(Outcome::Replace(document)) => {
            out.push_str(",\"document\":");
            write_document(out, document);
        }
        Ok(Outcome::Many(documents)) => {
            out.push_str(",\"documents\":[");
            for (index, document) in documents.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_document(out, document);
            }
            out.push(']');
        }
        Err(error) => {
            json::push_fmt(
                out,
                format_args!(",\"reason\":\"{}\",\"error\":", error.fault.as_str()),
            );
            json::string(out, &error.message);
        }
        Ok(Outcome::Keep | Outcome::Set(_) | Outcome::Drop | Outcome::Evict) => {}
    }
    out.push('}');
}

/// `{"effect": …, "json": …}`.
fn write_document(out: &mut String, document: &Document) {
    let effect = match document.effect {
        DocumentEffect::Usual => "usual",
        DocumentEffect::Write => "write",
        DocumentEffect::Complete => "complete",
        DocumentEffect::Remove => "remove",
    };
    json::push_fmt(out, format_args!("{{\"effect\":\"{effect}\",\"json\":{}}}", document.json));
}

fn route(out: &mut String, patch: &Patch) {
    out.push_str(",\"route\":{");
    for (index, column) in patch.set().enumerate() {
        if index > 0 {
            out.push(',');
        }
        json::string(out, &column.name);
        out.push(':');
        column.write_json(out, patch.row);
    }
    out.push('}');
}
