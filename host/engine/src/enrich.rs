//! What the source knows of rows beside the rows themselves, asked before the filter looks at them.
//!
//! The answer is the present state, which may be newer than the change. A row that the source knows
//! nothing of goes on without it, as most deleted rows do. A row that the source refuses becomes a
//! letter by itself; where the source does not answer, or does not take the question, the sink waits.

use std::sync::Arc;

use model::change::Change;
use model::enrich::RowRefused;
use model::page::Row;

use crate::budget::{Budget, Charge};
use crate::patience::patiently;
use crate::spec::SinkSpec;
use crate::status::SinkStatus;

/// Changes with what was found about them.
pub(crate) struct Asked {
    /// In order, without those that were refused.
    pub(crate) changes: Vec<Change>,
    /// In order, and why.
    pub(crate) refused: Vec<(Change, String)>,
    /// For what was found: held until the messages are charged for themselves.
    pub(crate) charge: Option<Charge>,
}

/// Whether the source takes the questions. Waits until it does: a mistake shows at the start.
pub(crate) async fn check(spec: &SinkSpec, status: &SinkStatus) {
    for (_, enrich) in &spec.enrichments {
        patiently(spec, status, enrich.name(), || enrich.check()).await;
    }
}

/// Enriches changes of one relation version, in one question.
pub(crate) async fn enrich(
    changes: Vec<Change>,
    spec: &SinkSpec,
    status: &SinkStatus,
    budget: &Arc<Budget>,
) -> Asked {
    let relation = changes.first().map(|change| Arc::clone(&change.relation));
    let ask = relation.and_then(|relation| {
        let (_, enrich) = spec.enrichments.iter().find(|(table, _)| table.is_of(&relation))?;
        Some((relation, enrich))
    });
    let rows: Vec<Row> = changes.iter().filter_map(Change::row).cloned().collect();
    let Some((relation, enrich)) = ask.filter(|_| !rows.is_empty()) else {
        return Asked { changes, refused: Vec::new(), charge: None };
    };
    let found = patiently(spec, status, enrich.name(), || enrich.enrich(&relation, &rows)).await;
    let bytes = found.iter().flatten().flatten().map(|json| json.len()).sum();
    let mut found = found.into_iter();
    let mut asked = Asked {
        changes: Vec::with_capacity(changes.len()),
        refused: Vec::new(),
        charge: Some(budget.charge(bytes)),
    };
    for change in changes {
        // A truncate.
        if change.row().is_none() {
            asked.changes.push(change);
            continue;
        }
        match found.next().unwrap_or_else(|| Err(missing())) {
            Ok(enrichment) => asked.changes.push(Change { enrichment, ..change }),
            Err(RowRefused(error)) => asked.refused.push((change, error)),
        }
    }
    asked
}

fn missing() -> RowRefused {
    RowRefused("the source gave fewer answers than it was asked for".to_owned())
}
