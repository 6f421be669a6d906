//! `sequin plugin run`: one outcome a line.

use std::sync::Arc;

use anyhow::Context as _;
use model::change::{Change, Operation};
use model::envelope;
use model::json;
use model::plugin::{Document, DocumentEffect, Outcome, Patch, PluginError, Rows};
use plugin::{Limits, Metering, Role, Totals, Usage};

use super::Ready;
use super::lines::Lines;
use crate::cli::RunArguments;
use crate::{Failure, tell};

#[derive(Default)]
struct Counts {
    kept: u64,
    dropped: u64,
    evicted: u64,
    failed: u64,
}

pub(super) fn run(arguments: &RunArguments) -> Result<(), Failure> {
    let usage = arguments.stats.then(Arc::<Usage>::default);
    let metering =
        if arguments.stats { Metering::EpochsAndFuel } else { Limits::default().metering };
    let limits = Limits { usage: usage.clone(), metering, ..Limits::default() };
    let ready = Ready::new(&arguments.plugin, limits)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.context("start the runtime")?;
    let mut lines = Lines::start(arguments.messages.as_deref())?;
    let mut counts = Counts::default();
    loop {
        let batch = lines.batch()?;
        if batch.is_empty() {
            break;
        }
        let outcomes = runtime.block_on(judge(&ready, &batch));
        let mut text = String::new();
        for (change, outcome) in batch.iter().zip(&outcomes) {
            counts.count(outcome);
            write(&mut text, ready.role, change, outcome);
            text.push('\n');
        }
        if !super::print(&text)? {
            return Ok(());
        }
    }
    let Counts { kept, dropped, evicted, failed } = counts;
    tell(&format!("{kept} kept, {dropped} dropped, {evicted} evicted, {failed} failed"));
    if let Some(usage) = usage {
        tell(&stats(usage.totals()));
    }
    if failed > 0 { Err(Failure::Rows) } else { Ok(()) }
}

/// A row that was run again after its batch failed counts twice. Of the fuel, instances that were
/// made for a batch are part.
fn stats(totals: Totals) -> String {
    let Totals { calls, rows, cpu, fuel, memory_bytes_max } = totals;
    let row = |all: u128| all.checked_div(u128::from(rows)).unwrap_or_default();
    let (nanos, fuel) = (row(cpu.as_nanos()), row(u128::from(fuel)));
    let (micros, rest) = (nanos / 1_000, nanos % 1_000);
    format!(
        "{rows} rows in {calls} calls; a row: {micros}.{rest:03} \u{b5}s of CPU time (a part of it \
         to count the fuel), {fuel} fuel; memory of an instance: {} KiB",
        memory_bytes_max >> 10
    )
}

/// As the engine does: truncates pass everything, deletes pass a filter.
async fn judge(ready: &Ready, batch: &[Change]) -> Vec<Result<Outcome, PluginError>> {
    let asked = |change: &&Change| match change.operation {
        Operation::Truncate => false,
        Operation::Delete => ready.role != Role::Filter,
        Operation::Insert | Operation::Update | Operation::Read => true,
    };
    let changes: Vec<Change> = batch.iter().filter(asked).cloned().collect();
    let mut found = match changes.first() {
        None => Vec::new(),
        Some(first) => {
            let relation = Arc::clone(&first.relation);
            ready.plugin.run(Rows { relation, changes }).await
        }
    }
    .into_iter();
    let outcome =
        |change: &Change| if asked(&change) { found.next() } else { Some(Ok(Outcome::Keep)) };
    batch.iter().map_while(outcome).collect()
}

impl Counts {
    fn count(&mut self, outcome: &Result<Outcome, PluginError>) {
        *match outcome {
            Ok(Outcome::Drop) => &mut self.dropped,
            Ok(Outcome::Evict) => &mut self.evicted,
            Ok(Outcome::Keep | Outcome::Set(_) | Outcome::Replace(_) | Outcome::Many(_)) => {
                &mut self.kept
            }
            Err(_) => &mut self.failed,
        } += 1;
    }
}

/// `{"outcome": …, "table": …, "record_pks": …}` and what goes on.
fn write(out: &mut String, role: Role, change: &Change, outcome: &Result<Outcome, PluginError>) {
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
