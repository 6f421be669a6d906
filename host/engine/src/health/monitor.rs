//! Judges again and again, tells flips, and keeps since when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::store::{Epoch, HealthRecords};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use super::slot::Noticed;
use super::{Entity, Flip, Kind, Level, sink, slot};
use crate::status::Status;

/// Between judgements: an alert may be so late.
const INTERVAL: Duration = Duration::from_secs(1);

/// An error must last for so long to be told: a connection that breaks and is back is none. So must
/// its end. The predecessor's time.
const DEBOUNCE: Duration = Duration::from_secs(5);

/// The judge of one engine.
pub struct Monitor {
    status: Arc<Status>,
    records: Arc<dyn HealthRecords>,
    epoch: Epoch,
    clock_us: fn() -> i64,
    slots: BTreeMap<String, Noticed>,
    /// By entity.
    told: BTreeMap<String, Told>,
    recorded: Option<Vec<(String, i64)>>,
}

/// What was told of an entity.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// Since when it has an error that was told, in microseconds since 1970.
    erroring_us: Option<i64>,
    /// Since when it is other than was told.
    differs: Option<(Instant, i64)>,
}

impl Monitor {
    /// Of this engine, with what earlier processes recorded.
    #[must_use]
    pub fn new(
        status: Arc<Status>,
        records: Arc<dyn HealthRecords>,
        epoch: Epoch,
        clock_us: fn() -> i64,
    ) -> Self {
        let (slots, told) = (BTreeMap::new(), BTreeMap::new());
        Self { status, records, epoch, clock_us, slots, told, recorded: None }
    }

    /// Runs until stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            self.turn().await;
            let deadline = Instant::now() + INTERVAL;
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(deadline) => {}
            }
        }
    }

    /// Judges once.
    pub(super) async fn turn(&mut self) {
        if self.recorded.is_none() && !self.restore().await {
            // Without what was told before, all would be told again.
            return;
        }
        let entities = self.judge(Instant::now());
        self.status.health.show(entities);
        self.record().await;
    }

    async fn restore(&mut self) -> bool {
        let record = match self.records.load().await {
            Ok(record) => record,
            Err(error) => {
                debug!(%error, "what is recorded of health cannot be read");
                return false;
            }
        };
        for (entity, notice) in &record.dismissed {
            self.status.health.dismiss(entity, notice, true);
        }
        for (entity, since_us) in &record.erroring {
            let told = Told { erroring_us: Some(*since_us), differs: None };
            self.told.insert(entity.clone(), told);
        }
        self.recorded = Some(record.erroring);
        true
    }

    fn judge(&mut self, now: Instant) -> Vec<Entity> {
        let status = Arc::clone(&self.status);
        let (mut slots, mut sinks) = (Vec::new(), Vec::new());
        for slot in status.slots.list() {
            let id = format!("{}/{}", slot.database, slot.name);
            let key = format!("{}/{id}", Kind::Slot.as_str());
            let noticed = self.slots.entry(key.clone()).or_insert_with(|| Noticed::new(now));
            noticed.look(&slot, now);
            let checks = slot::checks(&slot, noticed, &status.health, &key, now);
            let entity = Entity::new(Kind::Slot, id, slot.name.to_string(), false, checks);
            for sink in slot.sinks.list() {
                let checks = sink::checks(&sink, entity.level);
                let (id, name) = (sink.id.to_string(), sink.name.to_string());
                let is_paused = sink.paused.get() > 0;
                sinks.push(Entity::new(Kind::Sink, id, name, is_paused, checks));
            }
            slots.push(entity);
        }
        for disabled in status.config.disabled.list() {
            let (id, name) = disabled.as_ref().clone();
            sinks.push(Entity::new(Kind::Sink, id, name, true, Vec::new()));
        }
        slots.extend(sinks);
        for entity in &mut slots {
            entity.erroring_since_us = self.follow(entity, now);
        }
        // Of what is gone there is nothing to tell.
        let keys: Vec<_> = slots.iter().map(Entity::key).collect();
        self.told.retain(|key, _| keys.contains(key));
        self.slots.retain(|key, _| keys.contains(key));
        slots
    }

    /// Tells a flip that has lasted. Since when the entity has an error.
    fn follow(&mut self, entity: &Entity, now: Instant) -> Option<i64> {
        let now_us = (self.clock_us)();
        let nothing = Told { erroring_us: None, differs: None };
        let told = self.told.entry(entity.key()).or_insert(nothing);
        let is_error = entity.level == Level::Error;
        // Not known is neither: a process that has just begun ends no alert of the one before.
        let is_unknown = entity.level == Level::Waiting;
        if is_unknown || is_error == told.erroring_us.is_some() {
            told.differs = None;
            return told.erroring_us;
        }
        let (since, since_us) = *told.differs.get_or_insert((now, now_us));
        // An order of somebody ends it at once.
        if now.duration_since(since) < DEBOUNCE && entity.level != Level::Paused {
            return if is_error { Some(since_us) } else { told.erroring_us };
        }
        told.differs = None;
        let erroring_since_us = told.erroring_us.unwrap_or(since_us);
        told.erroring_us = is_error.then_some(since_us);
        let flip = Flip {
            at_us: now_us,
            kind: entity.kind,
            id: entity.id.clone(),
            name: entity.name.clone(),
            is_alert: is_error,
            level: entity.level,
            problem: entity.error().cloned(),
            erroring_since_us,
        };
        let (kind, name) = (entity.kind.as_str(), &entity.name);
        if let Some(problem) = flip.problem.as_ref().filter(|_| is_error) {
            let (code, message) = (problem.code, &problem.message);
            error!(entity.kind = kind, entity.name = name, code, message, "alert");
        } else {
            info!(
                entity.kind = kind,
                entity.name = name,
                status = entity.level.as_str(),
                "resolved"
            );
        }
        let erroring = told.erroring_us;
        self.status.health.tell(flip);
        erroring
    }

    /// Best effort: with the next judgement it is tried again.
    async fn record(&mut self) {
        let erroring: Vec<_> = self
            .told
            .iter()
            .filter_map(|(key, told)| Some((key.clone(), told.erroring_us?)))
            .collect();
        if self.recorded.as_ref() == Some(&erroring) {
            return;
        }
        match self.records.record(self.epoch, erroring.clone()).await {
            Ok(()) => self.recorded = Some(erroring),
            Err(error) => debug!(%error, "since when there are errors is not recorded"),
        }
    }
}

#[cfg(test)]
mod tests;
