//! A store in memory that fences as a real one does.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use model::BoxFuture;
use model::acks::Settled;
use model::lsn::Lsn;
use model::store::{
    Backfill, Backfills, Confirmed, Epoch, Letter, Letters, Progress, StoreError, TableName,
};

use super::change_log::Disk;

#[derive(Default)]
pub(crate) struct Store {
    state: Mutex<State>,
    pub(crate) disk: Arc<Disk>,
}

#[derive(Default)]
struct State {
    epoch: u64,
    slots: HashSet<String>,
    progress: HashMap<(String, String), Settled>,
    confirmed: HashMap<String, Confirmed>,
    letters: Vec<Letter>,
    backfills: Vec<Backfill>,
    begun: HashMap<String, Vec<TableName>>,
    /// Writes are refused while this is set.
    away: bool,
}

impl Store {
    /// A new process opened the store.
    pub(crate) fn next_epoch(&self) -> Epoch {
        let mut state = self.state.lock().unwrap();
        state.epoch += 1;
        Epoch(state.epoch)
    }

    pub(crate) fn letters(&self) -> Vec<Letter> {
        self.state.lock().unwrap().letters.clone()
    }

    /// The position of a stream that is recorded to be confirmed.
    pub(crate) fn recorded(&self, origin: &str) -> Option<Lsn> {
        self.state.lock().unwrap().confirmed.get(origin).map(|confirmed| confirmed.lsn)
    }

    pub(crate) fn set_away(&self, away: bool) {
        self.state.lock().unwrap().away = away;
    }

    fn write(&self, epoch: Epoch, write: impl FnOnce(&mut State)) -> Result<(), StoreError> {
        let mut state = self.state.lock().unwrap();
        if epoch.0 < state.epoch {
            return Err(StoreError::Fenced { ours: epoch.0, current: state.epoch });
        }
        if state.away {
            return Err(StoreError::Unavailable("away".into()));
        }
        write(&mut state);
        Ok(())
    }
}

impl Progress for Store {
    fn is_known<'a>(&'a self, slot: &'a str) -> BoxFuture<'a, Result<bool, StoreError>> {
        let known = self.state.lock().unwrap().slots.contains(slot);
        Box::pin(async move { Ok(known) })
    }

    fn remember<'a>(
        &'a self,
        epoch: Epoch,
        slot: &'a str,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let written = self.write(epoch, |state| {
            state.slots.insert(slot.to_owned());
        });
        Box::pin(async move { written })
    }

    fn load<'a>(
        &'a self,
        origin: &'a str,
        sink: &'a str,
    ) -> BoxFuture<'a, Result<Option<Settled>, StoreError>> {
        let key = (origin.to_owned(), sink.to_owned());
        let settled = self.state.lock().unwrap().progress.get(&key).cloned();
        Box::pin(async move { Ok(settled) })
    }

    fn confirmed<'a>(
        &'a self,
        origin: &'a str,
    ) -> BoxFuture<'a, Result<Option<Confirmed>, StoreError>> {
        let confirmed = self.state.lock().unwrap().confirmed.get(origin).copied();
        Box::pin(async move { Ok(confirmed) })
    }

    fn record<'a>(
        &'a self,
        epoch: Epoch,
        origin: &'a str,
        sinks: Vec<(String, Settled)>,
        confirmed: Option<Confirmed>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let written = self.write(epoch, |state| {
            if let Some(Confirmed { lsn, log }) = confirmed {
                let recorded = state.confirmed.entry(origin.to_owned()).or_default();
                *recorded = Confirmed { lsn: recorded.lsn.max(lsn), log };
            }
            let rows = sinks.into_iter().map(|(sink, row)| ((origin.to_owned(), sink), row));
            state.progress.extend(rows);
        });
        Box::pin(async move { written })
    }
}

impl Letters for Store {
    fn bury(&self, epoch: Epoch, letters: Vec<Letter>) -> BoxFuture<'_, Result<(), StoreError>> {
        let written = self.write(epoch, |state| state.letters.extend(letters));
        Box::pin(async move { written })
    }
}

impl Store {
    /// All that is kept of backfills.
    pub(crate) fn backfills(&self) -> Vec<Backfill> {
        self.state.lock().unwrap().backfills.clone()
    }
}

impl Backfills for Store {
    fn all(&self) -> BoxFuture<'_, Result<Vec<Backfill>, StoreError>> {
        let all = self.backfills();
        Box::pin(async move { Ok(all) })
    }

    fn save(&self, epoch: Epoch, backfill: Backfill) -> BoxFuture<'_, Result<(), StoreError>> {
        let written = self.write(epoch, |state| {
            match state.backfills.iter_mut().find(|known| known.id == backfill.id) {
                Some(known) => *known = backfill,
                None => state.backfills.push(backfill),
            }
        });
        Box::pin(async move { written })
    }

    fn begun<'a>(
        &'a self,
        sink: &'a str,
    ) -> BoxFuture<'a, Result<Option<Vec<TableName>>, StoreError>> {
        let begun = self.state.lock().unwrap().begun.get(sink).cloned();
        Box::pin(async move { Ok(begun) })
    }

    fn begin<'a>(
        &'a self,
        epoch: Epoch,
        sink: &'a str,
        tables: Vec<TableName>,
        backfills: Vec<Backfill>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let written = self.write(epoch, |state| {
            state.begun.entry(sink.to_owned()).or_default().extend(tables);
            state.backfills.extend(backfills);
        });
        Box::pin(async move { written })
    }

    fn keep_sinks(
        &self,
        epoch: Epoch,
        sinks: Vec<Arc<str>>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let written = self.write(epoch, |state| {
            state.begun.retain(|sink, _| sinks.iter().any(|kept| **kept == **sink));
        });
        Box::pin(async move { written })
    }
}
