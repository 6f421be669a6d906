//! A store in memory that fences as a real one does.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use model::BoxFuture;
use model::acks::Settled;
use model::groups::GroupKey;
use model::lsn::Lsn;
use model::position::Position;
use model::rollout::Rollout;
use model::source::Claim;
use model::store::{
    Accepted, Backfill, Backfills, Close, Confirmed, Counts, Edit, Epoch, KeyPage, Letter,
    LetterBox, LetterId, LetterPage, LetterQuery, LetterState, Letters, Owners, Progress, Scratch,
    StoreError, StoredLetter, TableName,
};

use super::change_log::Disk;
use super::scratch::{Desk, Paper};

#[derive(Default)]
pub(crate) struct Store {
    state: Mutex<State>,
    pub(crate) disk: Arc<Disk>,
    pub(crate) paper: Arc<Paper>,
}

#[derive(Default)]
struct State {
    epoch: u64,
    slots: HashSet<String>,
    progress: HashMap<(String, String), Settled>,
    confirmed: HashMap<String, Confirmed>,
    letters: Vec<Letter>,
    states: HashMap<LetterId, LetterState>,
    edited: HashMap<LetterId, String>,
    backfills: Vec<Backfill>,
    rollouts: Vec<Rollout>,
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

    pub(crate) fn scratch(&self) -> Arc<dyn Scratch> {
        Arc::new(Desk(Arc::clone(&self.paper)))
    }

    pub(crate) fn letters(&self) -> Vec<Letter> {
        self.state.lock().unwrap().letters.clone()
    }

    pub(crate) fn rollouts(&self) -> Vec<Rollout> {
        self.state.lock().unwrap().rollouts.clone()
    }

    /// The position of a stream that is recorded to be confirmed.
    pub(crate) fn recorded(&self, origin: &str) -> Option<Lsn> {
        self.state.lock().unwrap().confirmed.get(origin).map(|confirmed| confirmed.lsn)
    }

    /// What is kept of a sink is kept under another name.
    pub(crate) fn rename(&self, from: &str, to: &str) {
        let mut state = self.state.lock().unwrap();
        let progress = std::mem::take(&mut state.progress).into_iter();
        let name = |known: String| if known == from { to.to_owned() } else { known };
        state.progress =
            progress.map(|((origin, sink), row)| ((origin, name(sink)), row)).collect();
        let begun = std::mem::take(&mut state.begun).into_iter();
        state.begun = begun.map(|(sink, tables)| (name(sink), tables)).collect();
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

impl model::store::Rollouts for Store {
    fn all(&self) -> BoxFuture<'_, Result<Vec<Rollout>, StoreError>> {
        let all = self.rollouts();
        Box::pin(async move { Ok(all) })
    }

    fn save(&self, epoch: Epoch, rollout: Rollout) -> BoxFuture<'_, Result<(), StoreError>> {
        let written = self.write(epoch, |state| {
            match state.rollouts.iter_mut().find(|known| known.id == rollout.id) {
                Some(known) => *known = rollout,
                None => state.rollouts.push(rollout),
            }
        });
        Box::pin(async move { written })
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

impl Store {
    fn closed(&self, epoch: Epoch, letter: LetterId, state: LetterState) -> Result<(), StoreError> {
        self.write(epoch, |it| {
            it.states.insert(letter, state);
        })
    }

    /// What became of a letter, by its place among all that were buried.
    pub(crate) fn state_of(&self, letter: LetterId) -> LetterState {
        let state = self.state.lock().unwrap();
        state.states.get(&letter).copied().unwrap_or(LetterState::Open)
    }

    fn stored(&self) -> Vec<StoredLetter> {
        let state = self.state.lock().unwrap();
        let stored = |(id, letter): (LetterId, &Letter)| StoredLetter {
            id,
            state: state.states.get(&id).copied().unwrap_or(LetterState::Open),
            first_at: String::new(),
            last_at: String::new(),
            closed: None,
            edited_at: None,
            original_input: None,
            original_message: state.edited.get(&id).cloned(),
            bytes: 0,
            letter: letter.clone(),
        };
        (1..).zip(&state.letters).map(stored).collect()
    }
}

impl LetterBox for Store {
    fn list(&self, query: LetterQuery) -> BoxFuture<'_, Result<LetterPage, StoreError>> {
        let is_meant = |stored: &StoredLetter| {
            stored.id > query.after
                && stored.state.is_open()
                && query.sink.as_ref().is_none_or(|sink| *sink == stored.letter.sink)
        };
        let mut letters: Vec<_> = self.stored().into_iter().filter(is_meant).collect();
        let next = (letters.len() > query.limit).then(|| letters[query.limit - 1].id);
        letters.truncate(query.limit);
        Box::pin(async move { Ok(LetterPage { letters, next }) })
    }

    fn get(&self, letter: LetterId) -> BoxFuture<'_, Result<Option<StoredLetter>, StoreError>> {
        Box::pin(async move {
            // A disk takes a while, in which other tasks have their turn.
            let now = tokio::time::Instant::now();
            tokio::time::sleep_until(now + std::time::Duration::from_millis(1)).await;
            Ok(self.stored().into_iter().find(|stored| stored.id == letter))
        })
    }

    fn counts(&self) -> BoxFuture<'_, Result<Vec<Counts>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

impl Letters for Store {
    fn bury(&self, epoch: Epoch, letters: Arc<[Letter]>) -> BoxFuture<'_, Result<(), StoreError>> {
        let written = self.write(epoch, |state| state.letters.extend(letters.iter().cloned()));
        Box::pin(async move { written })
    }

    fn keys<'a>(
        &'a self,
        sink: &'a str,
        _: LetterId,
    ) -> BoxFuture<'a, Result<KeyPage, StoreError>> {
        let stored = self.stored().into_iter();
        let open = stored.filter(|it| it.letter.sink == sink && it.state == LetterState::Open);
        let keys = open.flat_map(|stored| stored.letter.keys).collect();
        Box::pin(async move { Ok((keys, None)) })
    }

    fn supersede<'a>(
        &'a self,
        epoch: Epoch,
        origin: &'a str,
        sink: &'a str,
        rows: Vec<(GroupKey, Position)>,
    ) -> BoxFuture<'a, Result<Vec<LetterId>, StoreError>> {
        let is_older = |stored: &StoredLetter| {
            let letter = &stored.letter;
            let older =
                |position: &Position| letter.origin != origin || letter.position < *position;
            let mut rows = rows.iter();
            stored.state == LetterState::Open
                && letter.sink == sink
                && rows.any(|(key, position)| letter.keys.contains(key) && older(position))
        };
        let older: Vec<_> = self.stored().into_iter().filter(is_older).map(|it| it.id).collect();
        let written = older
            .iter()
            .try_for_each(|letter| self.closed(epoch, *letter, LetterState::Superseded));
        Box::pin(async move { written.map(|()| older) })
    }

    fn close<'a>(
        &'a self,
        epoch: Epoch,
        letter: LetterId,
        how: Close,
        _: &'a str,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let state = match how {
            Close::Replayed => LetterState::Replayed,
            Close::Discarded => LetterState::Discarded,
        };
        let written = self.closed(epoch, letter, state);
        Box::pin(async move { written })
    }

    fn failed_again<'a>(
        &'a self,
        epoch: Epoch,
        letter: LetterId,
        error: &'a str,
        attempts: u32,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let written = self.write(epoch, |state| {
            let letter = &mut state.letters[usize::try_from(letter).unwrap() - 1];
            letter.attempts += attempts;
            error.clone_into(&mut letter.error);
        });
        Box::pin(async move { written })
    }

    fn edit(
        &self,
        epoch: Epoch,
        letter: LetterId,
        edit: Edit,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let written = self.write(epoch, |state| {
            let stored = &mut state.letters[usize::try_from(letter).unwrap() - 1];
            match edit {
                Edit::Input(text) => stored.input = text,
                Edit::Message(text) => {
                    let before = stored.message.replace(text).unwrap();
                    state.edited.insert(letter, before);
                }
            }
        });
        Box::pin(async move { written })
    }
}

impl Owners for Store {
    fn claim(&self, slot: &str) -> Claim {
        let epoch = self.state.lock().unwrap().epoch;
        Claim { slot: slot.into(), instance: "fake".into(), epoch, run: epoch }
    }

    fn last_stream<'a>(
        &'a self,
        _slot: &'a str,
    ) -> BoxFuture<'a, Result<Option<(String, Lsn)>, StoreError>> {
        let state = self.state.lock().unwrap();
        // Timelines of the fake log have one digit.
        let last = state.confirmed.iter().max_by_key(|(origin, _)| origin.as_str());
        let last = last.map(|(origin, confirmed)| (origin.clone(), confirmed.lsn));
        Box::pin(async move { Ok(last) })
    }

    fn streams<'a>(&'a self, _slot: &'a str) -> BoxFuture<'a, Result<Vec<String>, StoreError>> {
        let mut origins: Vec<_> = self.state.lock().unwrap().confirmed.keys().cloned().collect();
        origins.sort();
        Box::pin(async move { Ok(origins) })
    }

    fn accepted<'a>(
        &'a self,
        _slot: &'a str,
    ) -> BoxFuture<'a, Result<Option<Accepted>, StoreError>> {
        Box::pin(async { Ok(None) })
    }

    fn accepted_until<'a>(
        &'a self,
        _epoch: Epoch,
        _slot: &'a str,
        _until: Lsn,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
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
