//! `sequin plugin run`: one outcome a line.

use std::sync::Arc;

use anyhow::Context as _;
use model::plugin::{Outcome, PluginError};
use plugin::{Limits, Metering, Totals, Usage, trial};

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
        let outcomes = runtime.block_on(trial::judge(ready.plugin.as_ref(), ready.role, &batch));
        let mut text = String::new();
        for (change, outcome) in batch.iter().zip(&outcomes) {
            counts.count(outcome);
            trial::line(&mut text, ready.role, change, outcome);
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
    let Totals { calls, rows, cpu, fuel, memory_bytes_max, .. } = totals;
    let row = |all: u128| all.checked_div(u128::from(rows)).unwrap_or_default();
    let (nanos, fuel) = (row(cpu.as_nanos()), row(u128::from(fuel)));
    let (micros, rest) = (nanos / 1_000, nanos % 1_000);
    format!(
        "{rows} rows in {calls} calls; a row: {micros}.{rest:03} \u{b5}s of CPU time (a part of it \
         to count the fuel), {fuel} fuel; memory of an instance: {} KiB",
        memory_bytes_max >> 10
    )
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
