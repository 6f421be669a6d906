//! The routers of one sink: where each row is sent. They see the row as the filters saw it; of keys
//! that several give, the last one's count.
//!
//! Also rows that have to go are routed: a document is removed where it is. That is known by the row
//! alone, so a router of a state sink has to say the same for all versions of a row. One that does
//! not leaves the document behind when the row moves: where it was before is not known.

use std::collections::HashMap;
use std::sync::Arc;

use model::change::{Change, Operation};
use model::groups::Groups;
use model::plugin::{Outcome, Patch, Plugin};
use model::route::{Route, RouteError};
use model::sink::{Sink, SinkKind};
use model::store::Letter;
use tracing::warn;

use crate::intake::{Intake, Passed, contract, has_row};
use crate::rollout::Judged;

/// Routes that are remembered, so that messages share them and each is checked once.
const ROUTES_MAX: usize = 4_096;

/// What they may take, in bytes.
const ROUTES_BYTES_MAX: usize = 4 << 20;

/// The reason of a letter whose route the sink cannot follow.
const INVALID: &str = "invalid_route";

/// A row that has to go was not, for want of a route.
const NOT_REMOVED: &str = "removal_not_routed";

/// The routes that were met, and whether the sink can follow them.
#[derive(Default)]
pub(crate) struct Routes {
    known: HashMap<Arc<Route>, Result<(), RouteError>>,
    bytes: usize,
}

impl Routes {
    /// The one that stands for all that are equal; None: where the sink sends everything.
    fn check(&mut self, sink: &dyn Sink, route: Route) -> Result<Option<Arc<Route>>, RouteError> {
        let (shared, checked) = match self.known.get_key_value(&route) {
            Some((shared, checked)) => (Arc::clone(shared), checked.clone()),
            None => {
                if self.known.len() >= ROUTES_MAX || self.bytes >= ROUTES_BYTES_MAX {
                    self.known.clear();
                    self.bytes = 0;
                }
                self.bytes += route.bytes();
                let checked = sink.check_route(&route);
                let shared = Arc::new(route);
                self.known.insert(Arc::clone(&shared), checked.clone());
                (shared, checked)
            }
        };
        checked.map(|()| (!shared.is_empty()).then_some(shared))
    }
}

/// What the routers said of one row.
#[derive(Default)]
struct Said<'a> {
    keys: Vec<(&'a dyn Plugin, Patch)>,
    /// One of them failed, and there is a letter.
    failed: bool,
}

impl Said<'_> {
    fn route(&self) -> Result<Route, RouteError> {
        let mut route = Route::default();
        for (_, patch) in &self.keys {
            route.apply(patch)?;
        }
        Ok(route)
    }
}

impl Intake {
    /// The rows with their routes. What cannot be routed is put aside.
    pub(crate) async fn route(
        &mut self,
        mut passed: Vec<Passed>,
        letters: &mut Vec<Letter>,
    ) -> Vec<Passed> {
        if self.spec.routers.is_empty() {
            return passed;
        }
        let (spec, rolled) = (Arc::clone(&self.spec), Arc::clone(&self.rolled));
        let mut said: Vec<Said<'_>> = passed.iter().map(|_| Said::default()).collect();
        for plugin in &spec.routers {
            let open = |row: &Passed, said: &Said<'_>| has_row(&row.change) && !said.failed;
            let asked = passed.iter().zip(&said).filter(|(row, said)| open(row, said));
            let asked: Vec<Change> = asked.map(|(row, _)| row.change.clone()).collect();
            let keys = rolled.keys(plugin.as_ref(), asked.iter());
            let outcomes = self.persist(&rolled, plugin, asked, &keys).await;
            let mut outcomes = outcomes.into_iter();
            let rows = passed.iter_mut().zip(&mut said);
            for (row, said) in rows.filter(|(row, said)| open(row, said)) {
                let Some(Judged { by, outcome }) = outcomes.next() else { continue };
                row.judges.push(Arc::clone(by));
                let error = match outcome {
                    Ok(Outcome::Keep) => continue,
                    Ok(Outcome::Set(patch)) => {
                        said.keys.push((by.as_ref(), patch));
                        continue;
                    }
                    Ok(Outcome::Drop | Outcome::Evict | Outcome::Replace(_) | Outcome::Many(_)) => {
                        contract("a router may only keep a row, with columns")
                    }
                    Err(error) => error,
                };
                self.failed(&row.change, by.as_ref(), &error, letters);
                self.tell_kept(row, letters);
                said.failed = true;
            }
        }
        let mut routed = Vec::with_capacity(passed.len());
        for (mut row, said) in passed.into_iter().zip(said) {
            if said.failed {
                continue;
            }
            if !has_row(&row.change) {
                routed.push(row);
                continue;
            }
            let route = said.route();
            match route.and_then(|route| self.routes.check(spec.sink.as_ref(), route)) {
                Ok(route) => {
                    row.route = route;
                    routed.push(row);
                }
                Err(error) => {
                    let input = crate::encode::input(&spec, &row.change);
                    let text = error.to_string();
                    let mut letter = self.burial.letter(&row.change, input, INVALID, text);
                    let gave =
                        |(_, patch): &&(&dyn Plugin, Patch)| patch.column(&error.field).is_some();
                    // A key that is missing was given by none of them: the last could have.
                    let plugin = said.keys.iter().rev().find(gave).map(|(plugin, _)| *plugin);
                    let plugin = plugin.or(spec.routers.last().map(AsRef::as_ref));
                    letter.plugin = plugin.map(|plugin| plugin.digest().to_owned());
                    letters.push(letter);
                    self.tell_kept(&row, letters);
                }
            }
        }
        routed
    }

    /// A document has to go, and where it is was not said. It is not removed from where the sink
    /// sends everything: the document of that id there may be another row's.
    fn tell_kept(&self, row: &Passed, letters: &mut [Letter]) {
        let change = &row.change;
        // A key that changes leaves a document under the old one.
        let moved =
            change.operation == Operation::Update && matches!(Groups::of(change), Groups::Two(..));
        let goes = row.evicted || moved || change.operation == Operation::Delete;
        if !goes || self.spec.sink.kind() != SinkKind::State {
            return;
        }
        if let Some(letter) = letters.last_mut() {
            letter.error.push_str(
                "; the row has to go, and where its document is is not known: remove it by hand",
            );
        }
        let relation = &row.change.relation;
        let table = format!("{}.{}", relation.schema, relation.table);
        let problem = format!(
            "rows of {table} have to go, and their router failed: their documents may still be \
             there. The dead letters name the rows; remove their documents by hand"
        );
        if self.status.warnings.raise(NOT_REMOVED, &table, problem.clone()) {
            warn!(sink.name = %self.spec.name, code = NOT_REMOVED, problem, "said once for this table");
        }
    }
}
