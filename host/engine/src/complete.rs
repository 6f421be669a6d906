//! Values that Postgres did not send, read from the source before anybody looks at the row.
//!
//! An update does not carry a large value that it did not touch. A sink may ask to have it fetched:
//! then what stands in the row now is taken, which may be newer than the change (the change that
//! made it so follows). A row that is gone, or whose column is, stays as it is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::backoff::Backoff;
use model::change::Change;
use model::lookup::Lookup;
use model::page::Row;
use model::source::SourceError;
use tracing::{info, warn};

use crate::budget::{Budget, Charge};
use crate::spec::SinkSpec;
use crate::status::SinkStatus;

/// Rows of one question. Values that are not sent are kilobytes at least and a megabyte at times:
/// few rows keep an answer small.
const ROWS_MAX: usize = 64;

/// Between attempts: the source is there or comes back, or somebody grants us what we lack.
const RETRY: Backoff = Backoff { first: Duration::from_millis(250), cap: Duration::from_secs(15) };

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
        let found = patiently(spec, status, || lookup.fetch(&relation, &rows, &columns)).await;
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

/// Asks until there is an answer, and says so while there is none.
async fn patiently<F>(spec: &SinkSpec, status: &SinkStatus, ask: impl Fn() -> F) -> Vec<Option<Row>>
where
    F: Future<Output = Result<Vec<Option<Row>>, SourceError>>,
{
    let mut dice = fastrand::Rng::new();
    let mut attempts = 0;
    loop {
        let error = match ask().await {
            Ok(found) => {
                if attempts > 0 {
                    info!(sink.name = %spec.name, "values are fetched from the source again");
                    status.waiting.set(None);
                }
                return found;
            }
            Err(error) => error.to_string(),
        };
        attempts += 1;
        if status.waiting.get().as_deref() != Some(&*error) {
            warn!(
                sink.name = %spec.name,
                error,
                "values that were not sent cannot be fetched from the source; the sink waits"
            );
            status.waiting.set(error);
        }
        let deadline = tokio::time::Instant::now() + RETRY.delay(attempts, dice.f64());
        tokio::time::sleep_until(deadline).await;
    }
}
