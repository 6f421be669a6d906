//! Who begins a rollout, changes its share, promotes it and takes it back: people, and its rules.

use std::sync::Arc;

use model::plugin::Plugin;
use model::rollout::{Rollout, RolloutState, Rules};
use model::store::StoreError;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::{Entry, Facts, Report, Rollouts, facts, lock, over};
use crate::moved::Names;
use crate::spec::SlotSpec;

/// Rollouts that are over and remembered.
const ENDED_MAX: usize = 200;

/// What is to begin.
#[derive(Clone)]
pub struct Start {
    /// The sink, by its name or its id.
    pub sink: String,
    /// The function.
    pub function: String,
    /// The version, as it was asked for.
    pub component: String,
    /// The version, with the function's configuration.
    pub plugin: Arc<dyn Plugin>,
    /// Its share; None: it stays in the shadow.
    pub percent: Option<u8>,
    /// What takes it back, and what promotes it.
    pub rules: Rules,
}

/// What is to become of a rollout.
#[derive(Clone)]
pub enum Turn {
    /// So many of a hundred groups take it. From the shadow, with what runs it from now on.
    Share(u8, Option<Arc<dyn Plugin>>),
    /// All do, for good. From the shadow, with what runs it from now on.
    Promote(Option<Arc<dyn Plugin>>),
    /// None does.
    Abort(String),
}

/// What cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// There is no such sink, function or rollout.
    #[error("{0}")]
    NotFound(String),
    /// It does not make sense.
    #[error("{0}")]
    Invalid(String),
    /// Something else stands in its way.
    #[error("{0}")]
    Conflict(String),
    /// Of the store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Rollouts {
    /// Reads what earlier processes kept, before anything runs. Returns those that rows of these slots
    /// may need, or are shown to: each has to be attached.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub async fn restore(&self, slots: &[SlotSpec]) -> Result<Vec<Arc<Rollout>>, StoreError> {
        let mut entries = Vec::new();
        for mut record in self.0.store.all().await? {
            if record.is_attached() {
                record.resumed += 1;
                self.0.store.save(self.0.epoch, record.clone()).await?;
            }
            entries.push(Entry::new(record, None));
        }
        *self.entries() = entries;
        self.recount();
        self.follow(facts(slots)).await;
        Ok(self.lie_over(slots))
    }

    /// Gives a rollout the version that it is about, with the configuration that the function has now.
    pub fn attach(&self, id: &str, plugin: Arc<dyn Plugin>) {
        let Some(entry) = self.find(id) else { return };
        let record = entry.record();
        *lock(&entry.plugin) = Some(Arc::clone(&plugin));
        if record.state == RolloutState::Shadow
            && let Some(kind) = self.kind(&record.sink)
        {
            self.cast(&entry, plugin, kind);
        }
    }

    /// The version of a rollout cannot be had any more: rows go by what the configuration names.
    ///
    /// # Errors
    /// It was not recorded.
    pub async fn lost(&self, id: &str, why: &str) -> Result<(), RolloutError> {
        let entry = self.find(id).ok_or_else(|| not_found(id))?;
        let record = entry.record();
        error!(
            rollout = id, sink.name = %record.sink, function = %record.function,
            code = "rollout_version_missing", why,
            "the version of a rollout cannot be loaded: it ends, and rows go by the configuration"
        );
        let why = format!("its version cannot be loaded: {why}");
        self.change(&entry, |record| end(record, RolloutState::Superseded, &why)).await?;
        Ok(())
    }

    /// These sinks run from now on.
    pub(crate) async fn set_sinks(&self, slots: &[SlotSpec]) {
        self.follow(facts(slots)).await;
    }

    async fn follow(&self, sinks: Vec<Facts>) {
        let entries = self.entries().clone();
        for entry in entries {
            let record = entry.record();
            let Some((state, why)) = over(&record, &sinks).filter(|_| record.is_attached()) else {
                if !record.is_attached() && over(&record, &sinks).is_none() {
                    // What it lay over is back, and has nothing to do with it.
                    *lock(&entry.plugin) = None;
                }
                continue;
            };
            info!(rollout = %record.id, sink.name = %record.sink, state = state.as_str(), why, "a rollout is over");
            if let Err(error) = self.change(&entry, |record| end(record, state, &why)).await {
                // The next process finds the same.
                warn!(rollout = %record.id, %error, "the end of a rollout is not recorded");
            }
        }
        *lock(&self.0.sinks) = sinks;
        self.recount();
    }

    /// While this is held, none begins.
    pub(crate) async fn alone(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.creating.lock().await
    }

    /// One under way that goes by a name which changes.
    pub(crate) fn under(&self, names: &Names) -> Option<Arc<Rollout>> {
        let records: Vec<_> = self.entries().iter().map(|entry| entry.record()).collect();
        let is_it = |it: &Arc<Rollout>| {
            let is_meant = names.sink(&it.sink).is_some() || names.function(&it.function).is_some();
            it.is_attached() && is_meant
        };
        records.into_iter().find(is_it)
    }

    /// Sinks and functions have other names, in the store too. Of those no rollout is under way.
    pub(crate) fn rename(&self, names: &Names) {
        for entry in self.entries().iter() {
            let mut record = lock(&entry.record);
            let mut next = Rollout::clone(&record);
            if let Some(sink) = names.sink(&record.sink) {
                (next.sink, next.sink_id) = (Arc::clone(&sink.to), Arc::clone(&sink.id));
            }
            if let Some(function) = names.function(&record.function) {
                next.function = Arc::clone(function);
            }
            *record = Arc::new(next);
        }
    }

    fn kind(&self, sink: &str) -> Option<model::sink::SinkKind> {
        let sinks = lock(&self.0.sinks);
        sinks.iter().find(|facts| *facts.name == *sink).map(|facts| facts.kind)
    }

    /// Begins a rollout: on record when this returns. A share is in force from the next row on.
    ///
    /// # Errors
    /// There is no such sink or function, the rules make no sense, the version is in use already,
    /// another rollout of the function is under way, or it was not recorded.
    pub async fn start(&self, start: Start) -> Result<Report, RolloutError> {
        let Start { sink, function, component, plugin, percent, rules } = start;
        rules.check().map_err(|error| RolloutError::Invalid(error.to_string()))?;
        check_share(percent.unwrap_or_default())?;
        let _creating = self.0.creating.lock().await;
        let (sink_id, sink, base, kind) = {
            let sinks = lock(&self.0.sinks);
            let is_it = |facts: &&Facts| *facts.name == *sink || *facts.id == *sink;
            let found = sinks.iter().find(is_it);
            let found =
                found.ok_or_else(|| RolloutError::NotFound(format!("no sink `{sink}` runs")))?;
            let base = found.digest(&function).ok_or_else(|| {
                let known: Vec<&str> = found.functions.iter().map(|(name, _)| &**name).collect();
                let known = known.join(", ");
                RolloutError::NotFound(format!(
                    "sink `{sink}` uses no plugin `{function}`; it uses: {known}"
                ))
            })?;
            (Arc::clone(&found.id), Arc::clone(&found.name), Arc::clone(base), found.kind)
        };
        if *plugin.digest() == *base {
            return Err(RolloutError::Conflict(format!(
                "{component} is the version that function `{function}` has"
            )));
        }
        let is_other = |record: &Arc<Rollout>| {
            record.is_attached() && record.sink == sink && *record.function == *function
        };
        let other = self.entries().iter().map(|entry| entry.record()).find(is_other);
        if let Some(other) = other {
            return Err(RolloutError::Conflict(format!(
                "rollout {} of function `{function}` is {} on sink `{sink}`: abort it, or let the \
                 configuration name its version, first",
                other.id,
                other.state.as_str()
            )));
        }
        let now = (self.0.clock_us)();
        let record = Rollout {
            id: crate::backfill::uuid().into(),
            sink_id,
            sink,
            function: function.into(),
            component: component.into(),
            digest: plugin.digest().into(),
            base,
            state: if percent.is_some() { RolloutState::Canary } else { RolloutState::Shadow },
            why: None,
            percent: percent.unwrap_or_default(),
            steps: Vec::new(),
            rules,
            drained: false,
            resumed: 0,
            created_us: now,
            updated_us: now,
        };
        self.0.store.save(self.0.epoch, record.clone()).await?;
        tell(&record, "a rollout begins");
        let entry = Entry::new(record, Some(Arc::clone(&plugin)));
        if percent.is_none() {
            self.cast(&entry, plugin, kind);
        }
        let mut entries = self.entries();
        entries.push(Arc::clone(&entry));
        let ended = |entry: &Arc<Entry>| !lock(&entry.record).is_attached();
        if entries.iter().filter(|entry| ended(entry)).count() > ENDED_MAX
            && let Some(oldest) = entries.iter().position(ended)
        {
            entries.remove(oldest);
        }
        drop(entries);
        self.recount();
        Ok(entry.report())
    }

    /// Changes the share of a rollout, promotes it, or takes it back: on record when this returns, and
    /// in force from the next row on.
    ///
    /// # Errors
    /// There is no such rollout, it is over, or it was not recorded.
    pub async fn turn(&self, id: &str, turn: Turn) -> Result<Report, RolloutError> {
        let entry = self.find(id).ok_or_else(|| not_found(id))?;
        let record = entry.record();
        if !record.state.is_open() {
            return Err(RolloutError::Conflict(format!(
                "rollout {id} is {}: begin another",
                record.state.as_str()
            )));
        }
        let (state, percent, plugin, why) = match turn {
            Turn::Share(percent, plugin) => {
                check_share(percent)?;
                (RolloutState::Canary, percent, plugin, None)
            }
            Turn::Promote(plugin) => (RolloutState::Promoted, 100, plugin, None),
            Turn::Abort(why) => {
                let state = match record.state {
                    RolloutState::Shadow => RolloutState::Aborted,
                    _ => RolloutState::RolledBack,
                };
                (state, 0, None, Some(why))
            }
        };
        if record.state == RolloutState::Shadow && state.is_open() {
            let plugin = plugin.ok_or_else(|| {
                RolloutError::Invalid("the shadow's version is not loaded for use".to_owned())
            })?;
            if *plugin.digest() != *record.digest {
                return Err(RolloutError::Conflict(format!(
                    "{} is {} by now, and the shadow is of {}",
                    record.component,
                    plugin.digest(),
                    record.digest
                )));
            }
            *lock(&entry.plugin) = Some(plugin);
        }
        let turned = |record: &mut Rollout| {
            (record.state, record.percent) = (state, percent);
            if why.is_some() {
                record.why.clone_from(&why);
            }
            record.drained = state == RolloutState::RolledBack && record.steps.is_empty();
        };
        self.change(&entry, turned).await?;
        tell(&entry.record(), "a rollout is turned by hand");
        Ok(entry.report())
    }

    /// Judges a rollout by its rules.
    pub(super) async fn judge(&self, entry: &Entry) {
        let record = entry.record();
        let now = Instant::now();
        let (breach, is_proven) = {
            let window = lock(&entry.window);
            (window.arms().breach(&record.rules), window.is_proven(&record.rules, now))
        };
        let is_broken = breach.is_some();
        let turned: Box<dyn Fn(&mut Rollout) + Send + Sync> = match (record.state, breach) {
            (RolloutState::Shadow, Some(why)) => {
                warn!(
                    rollout = %record.id, sink.name = %record.sink, function = %record.function,
                    plugin.digest = %record.digest, code = "rollout_aborted", why,
                    "a version breaks its rules in the shadow, and is not shown any more"
                );
                Box::new(move |record| end(record, RolloutState::Aborted, &why))
            }
            (RolloutState::Canary, Some(why)) => {
                self.0.rolled_back.add(1);
                error!(
                    rollout = %record.id, sink.name = %record.sink, function = %record.function,
                    plugin.digest = %record.digest, code = "rollout_rolled_back", why,
                    "a version breaks its rules and is taken back, from the next row on"
                );
                Box::new(move |record| end(record, RolloutState::RolledBack, &why))
            }
            (RolloutState::Canary, None) if is_proven => {
                info!(
                    rollout = %record.id, sink.name = %record.sink, function = %record.function,
                    plugin.digest = %record.digest, code = "rollout_promoted",
                    "a version has stood its time and is promoted, from the next row on"
                );
                Box::new(|record| (record.state, record.percent) = (RolloutState::Promoted, 100))
            }
            _ => return,
        };
        if let Err(error) = self.change(entry, &turned).await {
            warn!(rollout = %record.id, %error, "what became of a rollout is not recorded yet");
            // It is in force from a position that is on record, as soon as the store takes it.
            let mut next = Rollout::clone(&entry.record());
            if next.state == record.state {
                turned(&mut next);
                *lock(&entry.record) = Arc::new(next);
            }
        }
        if is_broken {
            lock(&self.0.by_rules).push(Arc::clone(&record.id));
        }
    }

    /// Changes the record: first on the disk. Nothing changed if that fails.
    pub(super) async fn change(
        &self,
        entry: &Entry,
        change: impl Fn(&mut Rollout),
    ) -> Result<(), StoreError> {
        let _changing = entry.changing.lock().await;
        let mut next = Rollout::clone(&entry.record());
        change(&mut next);
        next.updated_us = (self.0.clock_us)();
        self.0.store.save(self.0.epoch, next.clone()).await?;
        if next.state != RolloutState::Shadow {
            entry.stop.cancel();
        }
        *lock(&entry.record) = Arc::new(next);
        lock(&entry.window).restart(Instant::now());
        self.recount();
        Ok(())
    }
}

/// What it is when it ends like this.
fn end(record: &mut Rollout, state: RolloutState, why: &str) {
    (record.state, record.percent) = (state, 0);
    record.why = Some(why.to_owned());
    record.drained = state != RolloutState::RolledBack || record.steps.is_empty();
}

fn check_share(percent: u8) -> Result<(), RolloutError> {
    let message = || RolloutError::Invalid("`percent` must be from 0 to 100".to_owned());
    (percent <= 100).then_some(()).ok_or_else(message)
}

fn not_found(id: &str) -> RolloutError {
    RolloutError::NotFound(format!("there is no rollout `{id:.100}`"))
}

fn tell(record: &Rollout, what: &str) {
    info!(
        rollout = %record.id,
        sink.name = %record.sink,
        function = %record.function,
        plugin = %record.component,
        plugin.digest = %record.digest,
        state = record.state.as_str(),
        percent = record.percent,
        "{what}"
    );
}
