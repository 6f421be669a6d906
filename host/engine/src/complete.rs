//! Values that Postgres did not send, read from the source before anybody looks at the row.
//!
//! An update does not carry a large value that it did not touch. A sink may ask to have it fetched:
//! then what stands in the row now is taken, which may be newer than the change (the change that
//! made it so follows). A row that is gone, or whose column is, stays as it is.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::change::Change;
use model::lookup::Lookup;
use model::page::Row;

use crate::budget::{Budget, Charge};
use crate::patience::patiently;
use crate::spec::SinkSpec;
use crate::status::SinkStatus;

/// Rows of one question. Values that are not sent are kilobytes at least and a megabyte at times:
/// few rows keep an answer small.
const ROWS_MAX: usize = 64;

/// What a sink lacks that waits for this.
const WHAT: &str = "values that were not sent";

/// Completes changes of one relation version, all at their places. Waits for the source for as long
/// as it takes: the sink has asked for whole rows.
pub(crate) async fn complete(
    lookup: &dyn Lookup,
    changes: Vec<Change>,
    spec: &SinkSpec,
    status: &SinkStatus,
    budget: &Arc<Budget>,
) -> (Vec<Change>, Vec<Charge>) {
    let lacking = changes.iter().enumerate().filter(|(_, change)| change.unsent().next().is_some());
    let lacking: Vec<usize> = lacking.map(|(place, _)| place).collect();
    let mut changes: Vec<Option<Change>> = changes.into_iter().map(Some).collect();
    let mut charges = Vec::new();
    for places in lacking.chunks(ROWS_MAX) {
        let asked: Vec<&Change> =
            places.iter().filter_map(|place| changes.get(*place)?.as_ref()).collect();
        let Some(any) = asked.first() else { continue };
        let relation = Arc::clone(&any.relation);
        let columns: BTreeSet<usize> = asked.iter().flat_map(|change| change.unsent()).collect();
        let columns: Vec<usize> = columns.into_iter().collect();
        let rows: Vec<Row> = asked.iter().filter_map(|change| change.after.clone()).collect();
        let found =
            patiently(spec, status, WHAT, || lookup.fetch(&relation, &rows, &columns)).await;
        let bytes = found.iter().flatten().map(Row::bytes).sum();
        charges.push(budget.charge(bytes));
        for (place, found) in places.iter().zip(found) {
            if let (Some(slot), Some(found)) = (changes.get_mut(*place), found)
                && let Some(change) = slot.take()
            {
                let change = change.filled(&columns, &found);
                status.fetched.add(u64::from(change.fetched.is_some()));
                *slot = Some(change);
            }
        }
    }
    (changes.into_iter().flatten().collect(), charges)
}
