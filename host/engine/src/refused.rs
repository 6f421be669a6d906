//! Rows that the source refused to say anything about: a letter for each, and what has to go goes.

use model::change::{Change, Operation};
use model::plugin::Outcome;
use model::sink::SinkKind;
use model::store::Letter;

use crate::encode::{self, Decided, Made};
use crate::intake::{Intake, Passed, has_row};

impl Intake {
    /// Letters for these rows. Of a state sink their documents go all the same where they have to,
    /// beside the letter: those of deleted rows, and of those that a filter finds outside the set
    /// without what the source would have said.
    pub(crate) async fn refused(
        &mut self,
        refused: Vec<(Change, String)>,
        letters: &mut Vec<Letter>,
    ) -> Vec<Decided> {
        let mut rows = Vec::new();
        for (change, error) in refused {
            let input = encode::input(&self.spec, &change);
            letters.push(self.burial.letter(&change, input, "enrichment", error));
            rows.push(change);
        }
        if rows.is_empty() || self.spec.sink.kind() == SinkKind::Log {
            return Vec::new();
        }
        let mut removals: Vec<Passed> = Vec::new();
        let (mut judged, gone): (Vec<_>, Vec<_>) = rows
            .into_iter()
            .partition(|change| has_row(change) && change.operation != Operation::Delete);
        removals.extend(gone.into_iter().map(Passed::new));
        for plugin in &self.spec.filters {
            let keys = self.rolled.keys(plugin.as_ref(), judged.iter());
            let outcomes = self.rolled.call(plugin, judged.clone(), &keys).await;
            let outcomes = outcomes.into_iter().map(|judged| judged.outcome);
            let mut kept = Vec::new();
            for (change, outcome) in judged.into_iter().zip(outcomes) {
                match outcome {
                    Ok(Outcome::Keep) => kept.push(change),
                    Ok(Outcome::Evict) => {
                        removals.push(Passed { evicted: true, ..Passed::new(change) });
                    }
                    // The letter that it has is enough.
                    Ok(_) | Err(_) => {}
                }
            }
            judged = kept;
        }
        let mut unrouted = Vec::new();
        let routed = self.route(removals, &mut unrouted).await;
        // A row has one letter: the store would keep the last one alone.
        for more in unrouted {
            match letters.iter_mut().find(|letter| letter.position == more.position) {
                Some(letter) => {
                    letter.error.push_str("; and its removal: ");
                    letter.error.push_str(&more.error);
                    letter.plugin = more.plugin;
                }
                None => letters.push(more),
            }
        }
        let removal = |passed: Passed| {
            let Passed { change, evicted, route, judges } = passed;
            let (patch, made) = (None, Made::Row);
            Decided { change, evicted, route, patch, made, judges, failed: true }
        };
        routed.into_iter().map(removal).collect()
    }
}
