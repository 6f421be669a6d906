//! The transforms of one sink: what is sent for a row. Each sees the row with the columns that those
//! before it set, replaced or took away, until one drops it, evicts it or gives documents in its
//! place: those pass the rest of the chain as they are.

use std::sync::Arc;

use model::change::{Change, Operation};
use model::page::Row;
use model::plugin::{Outcome, Patch, Plugin};
use model::sink::SinkKind;
use model::store::Letter;

use crate::budget::Charge;
use crate::encode::{Decided, Made};
use crate::intake::{Intake, Passed, has_row, missing};
use crate::rollout::{Judged, Rolled};

/// A row on its way through the chain.
struct Step {
    passed: Passed,
    /// What the chain has set so far.
    patch: Option<Patch>,
    /// How it ended, if it did.
    end: Option<End>,
}

enum End {
    Made(Made),
    Failed,
}

impl Intake {
    pub(crate) async fn transform(
        &mut self,
        passed: Vec<Passed>,
        letters: &mut Vec<Letter>,
    ) -> Vec<Decided> {
        let (spec, rolled) = (Arc::clone(&self.spec), Arc::clone(&self.rolled));
        let step = |passed| Step { passed, patch: None, end: None };
        let mut steps: Vec<Step> = passed.into_iter().map(step).collect();
        for plugin in &spec.transforms {
            let outcomes = self.ask(&rolled, plugin, &steps).await;
            let mut outcomes = outcomes.into_iter();
            for step in steps.iter_mut().filter(|step| step.is_open()) {
                let Some(Judged { by, outcome }) = outcomes.next() else { continue };
                step.passed.judges.push(Arc::clone(by));
                step.end = match outcome {
                    Ok(Outcome::Keep) => None,
                    Ok(Outcome::Set(patch)) => {
                        let below = step.patch.take().map(Arc::new);
                        step.patch = Some(Patch { below, ..patch });
                        None
                    }
                    Ok(Outcome::Drop) => Some(End::Made(Made::Nothing)),
                    Ok(Outcome::Evict) => Some(End::Made(Made::Evicted)),
                    Ok(Outcome::Replace(document)) => {
                        Some(End::Made(Made::Documents(vec![document])))
                    }
                    Ok(Outcome::Many(documents)) => Some(End::Made(Made::Documents(documents))),
                    Err(error) => {
                        self.failed(&step.passed.change, by.as_ref(), &error, letters);
                        Some(End::Failed)
                    }
                };
            }
        }
        let kind = spec.sink.kind();
        steps.into_iter().filter_map(|step| step.decide(kind)).collect()
    }

    /// Runs one plugin of the chain over the rows that are still open: one result for each.
    async fn ask<'a>(
        &mut self,
        rolled: &'a Rolled,
        plugin: &'a Arc<dyn Plugin>,
        steps: &[Step],
    ) -> Vec<Judged<'a>> {
        let open = || steps.iter().filter(|step| step.is_open());
        let keys = rolled.keys(plugin.as_ref(), open().map(|step| &step.passed.change));
        if open().all(|step| step.patch.is_none()) {
            let changes = open().map(|step| step.passed.change.clone()).collect();
            return self.persist(rolled, plugin, changes, &keys).await;
        }
        let rows = open().enumerate();
        let rows = rows.map(|(place, step)| (place, &step.passed.change, step.patch.as_ref()));
        let groups = self.shapes.derive(rows);
        let bytes = |change: &Change| change.row().map_or(0, Row::bytes);
        let mut results: Vec<Option<_>> = open().map(|_| None).collect();
        for group in groups {
            // Until the plugin has seen them.
            let copied = group.changes.iter().map(bytes).sum();
            let _charge: Charge = self.budget.charge(copied);
            let keys: Vec<u64> =
                group.places.iter().filter_map(|place| keys.get(*place)).copied().collect();
            let outcomes = self.persist(rolled, plugin, group.changes, &keys).await;
            for (place, outcome) in group.places.into_iter().zip(outcomes) {
                if let Some(result) = results.get_mut(place) {
                    *result = Some(outcome);
                }
            }
        }
        let lost = || Judged { by: plugin, outcome: Err(missing()) };
        results.into_iter().map(|result| result.unwrap_or_else(lost)).collect()
    }
}

impl Step {
    fn is_open(&self) -> bool {
        self.end.is_none() && has_row(&self.passed.change)
    }

    fn decide(self, kind: SinkKind) -> Option<Decided> {
        let Passed { change, evicted, route, judges } = self.passed;
        let removes = evicted || change.operation == Operation::Delete;
        let (made, failed) = match self.end {
            None => (Made::Row, false),
            Some(End::Made(made)) => (made, false),
            // A transform must not keep a document alive that has to go: it goes by the id that it
            // had so far, beside the letter.
            Some(End::Failed) if removes && kind == SinkKind::State => (Made::Row, true),
            Some(End::Failed) => return None,
        };
        Some(Decided { change, evicted, route, patch: self.patch, made, judges, failed })
    }
}
