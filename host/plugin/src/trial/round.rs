//! A plugin over a fixture: as the engine would, and then in other batches.
//!
//! Invariant 10: the same row gets the same answer in any batch. What is carried from row to row
//! shows when the rows come one by one, in pieces of other sizes, or in another order.

use std::sync::Arc;

use model::change::Change;
use model::plugin::Plugin;

use super::diff::{Difference, differences};
use super::outcome::{judge, line};
use crate::program::Role;

/// Rows of a batch, as the engine hands them over.
const ROWS_MAX: usize = 256;

/// Sizes of batches that are tried beside the engine's own: alone, and what divides nothing evenly.
const SIZES: [usize; 3] = [1, 3, 17];

/// Orders that are tried.
const ORDERS: u64 = 2;

/// What came of a fixture.
#[derive(Debug, Default)]
pub struct Report {
    /// What the plugin made of each message.
    pub outcomes: Vec<String>,
    /// Messages whose outcome is another one than expected, or is not expected at all.
    pub wrong: Vec<Wrong>,
    /// Messages whose outcome depends on the others; each once.
    pub carried: Vec<Carried>,
    /// Lines that are expected behind those of the last message.
    pub left_over: usize,
    /// Whether there was nothing to compare with.
    pub unexpected: bool,
}

/// An outcome that is another one than expected.
#[derive(Debug)]
pub struct Wrong {
    /// Number of the message, from 1.
    pub message: usize,
    /// Where.
    pub differences: Vec<Difference>,
}

/// An outcome that depends on the batch.
#[derive(Debug)]
pub struct Carried {
    /// Number of the message, from 1.
    pub message: usize,
    /// The batches in which it is another one: `one by one`, …
    pub way: String,
    /// From the outcome in the engine's own batches to the one in these.
    pub differences: Vec<Difference>,
}

impl Report {
    /// Whether all is as it should be.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.wrong.is_empty() && self.carried.is_empty() && self.left_over == 0 && !self.unexpected
    }
}

/// What a plugin makes of changes in batches of at most this size, a line for each.
pub async fn outcomes(
    plugin: &dyn Plugin,
    role: Role,
    changes: &[Change],
    rows_max: usize,
) -> Vec<String> {
    let mut lines = Vec::with_capacity(changes.len());
    let same = |a: &Change, b: &Change| a.relation == b.relation;
    for batch in changes.chunk_by(same).flat_map(|run| run.chunks(rows_max.max(1))) {
        let found = judge(plugin, role, batch).await;
        lines.extend(batch.iter().zip(&found).map(|(change, outcome)| {
            let mut text = String::new();
            line(&mut text, role, change, outcome);
            text
        }));
    }
    lines
}

/// Runs a plugin over changes in the engine's batches and in others, and compares what it says with
/// what is expected, and with itself.
pub async fn check(
    plugin: &dyn Plugin,
    role: Role,
    changes: &[Change],
    expected: Option<&[String]>,
) -> Report {
    let found = outcomes(plugin, role, changes, ROWS_MAX).await;
    let mut report = Report { unexpected: expected.is_none(), ..Report::default() };
    for (index, found) in found.iter().enumerate() {
        let Some(expected) = expected else { break };
        let differences = match expected.get(index) {
            Some(expected) => differences(expected, found),
            None => {
                vec![Difference { path: String::new(), expected: None, found: Some(found.clone()) }]
            }
        };
        if !differences.is_empty() {
            report.wrong.push(Wrong { message: index + 1, differences });
        }
    }
    report.left_over = expected.map_or(0, |lines| lines.len().saturating_sub(found.len()));
    for size in SIZES {
        let others = outcomes(plugin, role, changes, size).await;
        let way = if size == 1 { "one by one".to_owned() } else { format!("{size} at a time") };
        let others = others.iter().enumerate();
        note(&mut report, &found, others.map(|(index, text)| (index, text.as_str())), &way);
    }
    for seed in 0..ORDERS {
        let order = shuffled(changes, seed);
        let mixed: Vec<Change> =
            order.iter().filter_map(|index| changes.get(*index)).cloned().collect();
        let others = outcomes(plugin, role, &mixed, ROWS_MAX).await;
        let others = order.iter().zip(&others).map(|(index, text)| (*index, text.as_str()));
        note(&mut report, &found, others, "in another order");
    }
    report.outcomes = found;
    report
}

fn note<'a>(
    report: &mut Report,
    found: &[String],
    others: impl Iterator<Item = (usize, &'a str)>,
    way: &str,
) {
    for (index, other) in others {
        let known = report.carried.iter().any(|carried| carried.message == index + 1);
        let first = found.get(index).map_or("", String::as_str);
        if first != other && !known {
            let differences = differences(first, other);
            let way = way.to_owned();
            report.carried.push(Carried { message: index + 1, way, differences });
        }
    }
}

/// Indices of the changes with those of one table together, in an order that the seed decides.
fn shuffled(changes: &[Change], seed: u64) -> Vec<usize> {
    let mut tables: Vec<(&Change, Vec<usize>)> = Vec::new();
    for (index, change) in changes.iter().enumerate() {
        let same = |known: &&mut (&Change, Vec<usize>)| {
            Arc::ptr_eq(&known.0.relation, &change.relation) || known.0.relation == change.relation
        };
        match tables.iter_mut().find(same) {
            Some((_, indices)) => indices.push(index),
            None => tables.push((change, vec![index])),
        }
    }
    let mut state = seed;
    for (_, indices) in &mut tables {
        // Fisher and Yates'.
        for last in (1..indices.len()).rev() {
            let other = usize::try_from(next(&mut state) % (last as u64 + 1)).unwrap_or(0);
            indices.swap(last, other);
        }
    }
    tables.into_iter().flat_map(|(_, indices)| indices).collect()
}

/// `SplitMix64`: the same order on every machine.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
