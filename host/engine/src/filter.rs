//! The filters of one sink: which rows go on. Each is asked about the rows that those before it
//! kept; the first that does not keep a row decides.

use std::sync::Arc;

use model::change::{Change, Operation};
use model::plugin::{OnError, Outcome};
use model::sink::SinkKind;
use model::store::Letter;

use crate::intake::{Intake, Passed, contract, has_row};
use crate::rollout;

/// What became of a row so far.
enum Judged {
    Passed(Passed),
    /// Settled, or in a letter.
    Gone,
}

impl Intake {
    /// What passes the filters, and whether it was found outside the set.
    pub(crate) async fn filter(
        &self,
        changes: Vec<Change>,
        letters: &mut Vec<Letter>,
    ) -> Vec<Passed> {
        let mut rows: Vec<Judged> =
            changes.into_iter().map(|change| Judged::Passed(Passed::new(change))).collect();
        for plugin in &self.spec.filters {
            let deletes = plugin.judges_deletes();
            let open = |row: &Judged| row.open(deletes).is_some();
            let asked = || rows.iter().filter_map(|row| row.open(deletes)).map(|row| &row.change);
            let keys = self.rolled.keys(plugin.as_ref(), asked());
            let asked = asked().cloned().collect();
            let outcomes = self.persist(&self.rolled, plugin, asked, &keys).await;
            let mut outcomes = outcomes.into_iter();
            for row in rows.iter_mut().filter(|row| open(row)) {
                let Judged::Passed(passed) = row else { continue };
                let Some(rollout::Judged { by, outcome }) = outcomes.next() else { continue };
                passed.judges.push(Arc::clone(by));
                let (change, kind) = (&passed.change, self.spec.sink.kind());
                match outcome {
                    Ok(Outcome::Keep) => continue,
                    Ok(Outcome::Evict) if kind == SinkKind::State => {
                        passed.evicted = true;
                        continue;
                    }
                    // A log has no state that the row could leave.
                    Ok(Outcome::Evict | Outcome::Drop) => self.skip(change),
                    Ok(Outcome::Set(_) | Outcome::Replace(_) | Outcome::Many(_)) => {
                        let error = contract("a filter may only keep, drop or evict");
                        self.failed(change, by.as_ref(), &error, letters);
                    }
                    Err(_) if plugin.on_error() == OnError::Pass => {
                        self.status.plugin_failures.add(1);
                        continue;
                    }
                    Err(error) => self.failed(change, by.as_ref(), &error, letters),
                }
                *row = Judged::Gone;
            }
        }
        let passed = |row| match row {
            Judged::Passed(passed) => Some(passed),
            Judged::Gone => None,
        };
        rows.into_iter().filter_map(passed).collect()
    }
}

impl Judged {
    /// A row that the next filter is asked about. Deletes mostly are not: a row that is gone is gone.
    fn open(&self, deletes: bool) -> Option<&Passed> {
        match self {
            Self::Passed(passed) if !passed.evicted => {
                let is_delete = passed.change.operation == Operation::Delete;
                (has_row(&passed.change) && (deletes || !is_delete)).then_some(passed)
            }
            Self::Passed(_) | Self::Gone => None,
        }
    }
}
