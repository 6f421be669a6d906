//! Where rollouts meet the rows: which version a row takes, and from which position on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::change::Change;
use model::plugin::{Outcome, Plugin, PluginError, Rows};
use model::position::Position;
use model::rollout::{Rollout, RolloutState, row_key};
use tokio::time::Instant;
use tracing::{error, info};

use super::arms::{Arm, Arms};
use super::{Entry, Rollouts, lock};
use crate::costs::{self, Call};
use crate::intake::missing;
use crate::status::SinkStatus;

/// A version broke its rules.
const ROLLED_BACK: &str = "rollout_rolled_back";

/// Between looks whether all that took a version that was taken back is settled.
const LOOK: Duration = Duration::from_secs(1);

/// Who runs the chain.
#[derive(Clone, Debug)]
pub(crate) enum Seat {
    /// The sink itself. Up to here an earlier process handed rows over: those come again as they went.
    Live {
        /// The position.
        floor: Position,
    },
    /// A replay of letters: they go as rows do now, but for this function.
    Replay {
        /// It was replaced for the replay.
        except: Option<String>,
    },
}

/// What lies over the chain of a sink, for one run of rows.
pub(crate) struct Rolled {
    active: Vec<Active>,
    origin: Arc<str>,
    status: Arc<SinkStatus>,
    is_live: bool,
}

struct Active {
    entry: Arc<Entry>,
    record: Arc<Rollout>,
    plugin: Arc<dyn Plugin>,
}

/// What a plugin said of a row, and which it was.
pub(crate) struct Judged<'a> {
    pub(crate) by: &'a Arc<dyn Plugin>,
    pub(crate) outcome: Result<Outcome, PluginError>,
}

impl Rollouts {
    /// What lies over the chain of a sink for rows from `first` on. Whatever was decided before and is
    /// in force from here on is on record when this returns; if the store does not take it, it is not
    /// in force yet.
    pub(crate) async fn over(
        &self,
        seat: &Seat,
        status: &Arc<SinkStatus>,
        origin: &Arc<str>,
        first: Position,
    ) -> Rolled {
        let (origin, status) = (Arc::clone(origin), Arc::clone(status));
        let mut active = Vec::new();
        for entry in self.lying(&status.name) {
            let replaced = match seat {
                Seat::Live { floor } => {
                    if first > *floor {
                        self.step(&entry, &origin, first).await;
                    }
                    self.drain(&entry, &origin).await;
                    false
                }
                Seat::Replay { except } => {
                    except.as_ref().is_some_and(|it| **it == *entry.record().function)
                }
            };
            if let Some(plugin) = entry.plugin()
                && !replaced
            {
                let record = entry.record();
                active.push(Active { entry, record, plugin });
            }
        }
        Rolled { active, origin, status, is_live: matches!(seat, Seat::Live { .. }) }
    }

    /// The share that was decided last is in force from here on.
    async fn step(&self, entry: &Entry, origin: &Arc<str>, from: Position) {
        let is_due = |record: &Rollout| record.pending().is_some() && record.may_step(origin, from);
        if !is_due(&entry.record()) {
            return;
        }
        let _changing = entry.changing.lock().await;
        let mut next = Rollout::clone(&entry.record());
        if !is_due(&next) {
            return;
        }
        next.step(origin, from, (self.0.clock_us)());
        if let Err(error) = self.0.store.save(self.0.epoch, next.clone()).await {
            if !entry.told.swap(true, Ordering::Relaxed) {
                error!(
                    rollout = %next.id, sink.name = %next.sink, %error,
                    code = "rollout_not_recorded",
                    "the share of a rollout cannot be recorded: it stays as it was until it can"
                );
            }
            return;
        }
        entry.told.store(false, Ordering::Relaxed);
        info!(
            code = "rollout_step",
            rollout = %next.id,
            sink.name = %next.sink,
            function = %next.function,
            plugin.digest = %next.digest,
            percent = next.percent,
            commit_lsn = %from.commit_lsn,
            ordinal = from.ordinal,
            "a share of the rows takes another version from here on"
        );
        *lock(&entry.record) = Arc::new(next);
        lock(&entry.window).restart(Instant::now());
    }

    /// Lets go of a version that was taken back once no row that took it can come again.
    async fn drain(&self, entry: &Entry, origin: &str) {
        let record = entry.record();
        if record.state != RolloutState::RolledBack || record.pending().is_some() {
            return;
        }
        {
            let mut next_look = lock(&entry.next_look);
            if *next_look > Instant::now() {
                return;
            }
            *next_look = Instant::now() + LOOK;
        }
        // What stands in an earlier stream was finished before the sink took part in this one.
        let last = record.steps.iter().rev().find(|step| *step.origin == *origin);
        if let Some(last) = last {
            let Ok(settled) = self.0.progress.load(origin, &record.sink).await else { return };
            let settled = settled.unwrap_or_default();
            let from = last.from();
            if settled.high < from || settled.open.iter().any(|open| *open < from) {
                return;
            }
        }
        self.change(entry, |record| record.drained = true).await.ok();
    }
}

impl Rolled {
    /// Nothing lies over the chain.
    pub(crate) fn nothing(status: &Arc<SinkStatus>) -> Self {
        let status = Arc::clone(status);
        Self { active: Vec::new(), origin: Arc::default(), status, is_live: false }
    }

    fn of(&self, plugin: &dyn Plugin) -> Option<&Active> {
        let is_it = |active: &&Active| {
            *active.record.function == *plugin.name() && *active.record.base == *plugin.digest()
        };
        self.active.iter().find(is_it)
    }

    /// What the version of a row is chosen by, for rows as they came; nothing where no choice is.
    pub(crate) fn keys<'a>(
        &self,
        plugin: &dyn Plugin,
        sources: impl Iterator<Item = &'a Change>,
    ) -> Vec<u64> {
        if self.of(plugin).is_none() { Vec::new() } else { sources.map(row_key).collect() }
    }

    /// Runs a plugin over changes of one relation version, each through the version that it takes.
    /// One result for each, in order.
    pub(crate) async fn call<'a>(
        &'a self,
        plugin: &'a Arc<dyn Plugin>,
        changes: Vec<Change>,
        keys: &[u64],
    ) -> Vec<Judged<'a>> {
        let Some(active) = self.of(plugin.as_ref()) else {
            let (outcomes, _) = self.run(plugin, changes).await;
            return outcomes.into_iter().map(|outcome| Judged { by: plugin, outcome }).collect();
        };
        if active.record.state == RolloutState::Shadow {
            let shown = if self.is_live { changes.clone() } else { Vec::new() };
            let (outcomes, took) = self.run(plugin, changes).await;
            if self.is_live {
                active.entry.shadow.show(&shown, &outcomes);
                active.entry.count(|arms| arms.old.add(&outcomes, took));
            }
            return outcomes.into_iter().map(|outcome| Judged { by: plugin, outcome }).collect();
        }
        let takes: Vec<bool> = changes
            .iter()
            .zip(keys)
            .map(|(change, key)| self.takes(&active.record, change.position, *key))
            .collect();
        let (mut old, mut new) = (Vec::new(), Vec::new());
        for (change, takes) in changes.into_iter().zip(&takes) {
            if *takes { new.push(change) } else { old.push(change) }
        }
        let (old, new) = tokio::join!(self.run(plugin, old), self.run(&active.plugin, new));
        if self.is_live {
            active.entry.count(|arms| add(arms, &old, &new));
        }
        let (mut old, mut new) = (old.0.into_iter(), new.0.into_iter());
        let judged = takes.into_iter().map(|takes| {
            let (by, next) =
                if takes { (&active.plugin, new.next()) } else { (plugin, old.next()) };
            Judged { by, outcome: next.unwrap_or_else(|| Err(missing())) }
        });
        judged.collect()
    }

    /// Which version it is does not depend on when it is asked; of a replay it is that of today.
    fn takes(&self, record: &Rollout, position: Position, key: u64) -> bool {
        if self.is_live { record.takes(&self.origin, position, key) } else { record.takes_now(key) }
    }

    async fn run(
        &self,
        plugin: &Arc<dyn Plugin>,
        changes: Vec<Change>,
    ) -> (Vec<Result<Outcome, PluginError>>, Duration) {
        let Some(first) = changes.first() else { return (Vec::new(), Duration::ZERO) };
        let (rows, relation) = (changes.len(), Arc::clone(&first.relation));
        let bytes_in = costs::bytes_in(&changes);
        let begun = Instant::now();
        let mut outcomes = plugin.run(Rows { relation, changes }).await;
        let took = begun.elapsed();
        outcomes.resize_with(rows, || Err(missing()));
        if self.is_live {
            self.status.costs.add(plugin.as_ref(), &Call { took, bytes_in, outcomes: &outcomes });
        }
        (outcomes, took)
    }

    /// Judges what was seen: a version that breaks a rule is taken back, one that has stood its time is
    /// promoted if that was asked for.
    pub(crate) async fn judge(&self, rollouts: &Rollouts) {
        if !self.is_live {
            return;
        }
        for active in &self.active {
            if active.record.state == RolloutState::Canary {
                rollouts.judge(&active.entry).await;
                let record = active.entry.record();
                if record.state == RolloutState::RolledBack {
                    let why = record.why.as_deref().unwrap_or_default();
                    let problem = format!(
                        "{} of function `{}` was taken back by its rules: {why}; `sequin plugin \
                         rollout report` shows what it did",
                        record.component, record.function
                    );
                    self.status.warnings.raise(ROLLED_BACK, &record.function, problem);
                }
            }
        }
    }
}

type Ran = (Vec<Result<Outcome, PluginError>>, Duration);

fn add(arms: &mut Arms, old: &Ran, new: &Ran) {
    let add = |arm: &mut Arm, (outcomes, took): &Ran| arm.add(outcomes, *took);
    add(&mut arms.old, old);
    add(&mut arms.new, new);
}

impl Entry {
    /// Counts what was seen.
    pub(super) fn count(&self, add: impl Fn(&mut Arms)) {
        let record = self.record();
        lock(&self.window).add(&record.rules, Instant::now(), add);
    }
}
