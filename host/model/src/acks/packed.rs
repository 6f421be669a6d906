//! A map by position that takes a few bytes for an entry: what waits on the disk may be much, and its
//! ledger stays in memory.
//!
//! Entries stand in runs that do not overlap, each written as differences to the one before it.

use std::collections::BTreeMap;

use super::Open;
use crate::lsn::Lsn;
use crate::position::Position;

/// Entries of a run: what is unpacked to change one of them, and what shares the run's own 100 bytes.
const RUN_MAX: usize = 64;
/// A run that has become as short is joined with one beside it, if that leaves both room.
const RUN_MIN: usize = RUN_MAX / 4;

/// What is open by position, where many are of one `T`.
#[derive(Debug)]
pub(super) struct Packed<T> {
    /// By their first position.
    runs: BTreeMap<Position, Run<T>>,
}

#[derive(Debug)]
struct Run<T> {
    last: Position,
    count: usize,
    /// Of each entry: how far its transaction is from that of the one before it, its ordinal (how far,
    /// in the same transaction), and how many messages of it are outstanding.
    bytes: Vec<u8>,
    /// What the entries are, and how many in a row are the same.
    whats: Vec<(T, usize)>,
}

type Entry<T> = (Position, Open<T>);

impl<T> Default for Packed<T> {
    fn default() -> Self {
        Self { runs: BTreeMap::new() }
    }
}

impl<T: Copy + PartialEq> Packed<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// By rising position.
    pub(super) fn iter(&self) -> impl Iterator<Item = Entry<T>> {
        self.runs.iter().flat_map(|(first, run)| run.unpack(*first))
    }

    /// What the entries are, each at least once.
    pub(super) fn whats(&self) -> impl Iterator<Item = T> {
        self.runs.values().flat_map(|run| run.whats.iter().map(|(what, _)| *what))
    }

    /// Whether there is one between two positions, both included.
    pub(super) fn has_between(&self, first: Position, last: Position) -> bool {
        if first > last {
            return false;
        }
        if self.runs.range(first..=last).next().is_some() {
            return true;
        }
        // The only other run that may have one begins before them.
        let Some((begin, run)) = self.runs.range(..first).next_back() else { return false };
        run.last >= first && run.unpack(*begin).iter().any(|(at, _)| (first..=last).contains(at))
    }

    /// Puts it there. One that is there gives way.
    pub(super) fn insert(&mut self, position: Position, open: Open<T>) {
        let before = self.runs.range_mut(..=position).next_back();
        if let Some((first, run)) = before
            && (position <= run.last || run.count < RUN_MAX)
        {
            if position > run.last {
                return run.push(position, &open);
            }
            let first = *first;
            return self.change(first, |entries| {
                match entries.binary_search_by_key(&position, |(at, _)| *at) {
                    Ok(at) => entries.splice(at..=at, [(position, open)]),
                    Err(at) => entries.splice(at..at, [(position, open)]),
                };
            });
        }
        let behind = self.runs.range(position..).next();
        match behind.filter(|(_, run)| run.count < RUN_MAX).map(|(first, _)| *first) {
            Some(first) => self.change(first, |entries| entries.insert(0, (position, open))),
            None => drop(self.runs.insert(position, Run::of(&[(position, open)]))),
        }
    }

    /// Changes one, if it is there; it goes if that says so (false). Whether it was there.
    pub(super) fn update(
        &mut self,
        position: Position,
        change: impl FnOnce(&mut Open<T>) -> bool,
    ) -> bool {
        let before = self.runs.range(..=position).next_back();
        let Some((first, run)) = before.filter(|(_, run)| position <= run.last) else {
            return false;
        };
        let (first, mut entries) = (*first, run.unpack(*first));
        let Ok(at) = entries.binary_search_by_key(&position, |(at, _)| *at) else { return false };
        let stays = entries.get_mut(at).is_some_and(|(_, open)| change(open));
        if !stays {
            entries.remove(at);
        }
        self.runs.remove(&first);
        if entries.len() < RUN_MIN {
            self.join(&mut entries, first);
        }
        self.put(&entries);
        true
    }

    /// Takes in the run before these, or behind them, if there is room for both.
    fn join(&mut self, entries: &mut Vec<Entry<T>>, first: Position) {
        let fits = |(first, run): (&Position, &Run<T>)| {
            (entries.len() + run.count <= RUN_MAX / 2).then_some(*first)
        };
        let before = self.runs.range(..first).next_back().and_then(fits);
        let Some(other) = before.or_else(|| self.runs.range(first..).next().and_then(fits)) else {
            return;
        };
        let Some(run) = self.runs.remove(&other) else { return };
        entries.extend(run.unpack(other));
        entries.sort_by_key(|(position, _)| *position);
    }

    /// Changes a run, which may become two.
    fn change(&mut self, first: Position, change: impl FnOnce(&mut Vec<Entry<T>>)) {
        let Some(run) = self.runs.remove(&first) else { return };
        let mut entries = run.unpack(first);
        change(&mut entries);
        let half = if entries.len() > RUN_MAX { entries.len() / 2 } else { entries.len() };
        let (front, back) = entries.split_at(half);
        self.put(front);
        self.put(back);
    }

    fn put(&mut self, entries: &[Entry<T>]) {
        if let Some((first, _)) = entries.first() {
            self.runs.insert(*first, Run::of(entries));
        }
    }
}

impl<T: Copy + PartialEq> Run<T> {
    fn of(entries: &[Entry<T>]) -> Self {
        let last = entries.first().map_or(Position::ZERO, |(position, _)| *position);
        let mut run = Self { last, count: 0, bytes: Vec::new(), whats: Vec::new() };
        for (position, open) in entries {
            run.push(*position, open);
        }
        run.bytes.shrink_to_fit();
        run.whats.shrink_to_fit();
        run
    }

    /// Behind the last one.
    fn push(&mut self, position: Position, open: &Open<T>) {
        let lsn = position.commit_lsn.0 - self.last.commit_lsn.0;
        // Of the first nothing is told: it is the name of the run.
        let ordinal = match lsn {
            0 => position.ordinal - self.last.ordinal,
            _ => position.ordinal,
        };
        for number in [lsn, ordinal, open.outstanding.into()] {
            write(&mut self.bytes, number);
        }
        match self.whats.last_mut().filter(|(what, _)| *what == open.what) {
            Some((_, count)) => *count += 1,
            None => self.whats.push((open.what, 1)),
        }
        (self.last, self.count) = (position, self.count + 1);
    }

    fn unpack(&self, first: Position) -> Vec<Entry<T>> {
        let mut entries = Vec::with_capacity(self.count + 1);
        let (mut at, mut bytes) = (first, self.bytes.iter());
        let whats = self.whats.iter().flat_map(|(what, count)| std::iter::repeat_n(*what, *count));
        for what in whats {
            let [lsn, ordinal, outstanding] = [(); 3].map(|()| read(&mut bytes));
            at = match lsn {
                0 => Position::new(at.commit_lsn, at.ordinal + ordinal),
                _ => Position::new(Lsn(at.commit_lsn.0 + lsn), ordinal),
            };
            let outstanding = u32::try_from(outstanding).unwrap_or(u32::MAX);
            entries.push((at, Open { outstanding, what }));
        }
        entries
    }
}

/// Seven bits in a byte, the lowest first; the eighth says that more follow.
fn write(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = u8::try_from(number & 0x7F).unwrap_or_default();
        number >>= 7;
        if number == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

fn read<'a>(bytes: &mut impl Iterator<Item = &'a u8>) -> u64 {
    let mut number = 0;
    for (byte, shift) in bytes.zip((0..64).step_by(7)) {
        number |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    number
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at((lsn, ordinal): (u64, u64)) -> Position {
        Position::new(Lsn(lsn), ordinal)
    }

    /// What it takes in memory, without the map's own.
    fn bytes<T>(packed: &Packed<T>) -> usize {
        let of = |run: &Run<T>| {
            let whats = run.whats.capacity() * size_of::<(T, usize)>();
            size_of::<(Position, Run<T>)>() + run.bytes.capacity() + whats
        };
        packed.runs.values().map(of).sum()
    }

    #[test]
    fn an_entry_takes_a_few_bytes() {
        let mut packed = Packed::default();
        for n in 0..100_000 {
            packed.insert(at((n * 150, n % 3)), Open { outstanding: 1, what: n / 1_000 });
        }
        assert!(bytes(&packed) < 100_000 * 8, "{}", bytes(&packed));
        for n in (0..100_000).filter(|n| n % 40 != 0) {
            assert!(packed.update(at((n * 150, n % 3)), |_| false));
        }
        assert!(bytes(&packed) < 2_500 * 16, "{}", bytes(&packed));
    }

    proptest! {
        /// Whatever is done to it, it is what a map is.
        #[test]
        fn it_is_a_map(
            steps in proptest::collection::vec((0_u8..4, (0_u64..12, 0_u64..9), any::<u32>()), 0..600),
            large in any::<bool>(),
        ) {
            let (mut packed, mut map) = (Packed::default(), BTreeMap::new());
            for (step, (lsn, ordinal), n) in steps {
                let position = at((if large { lsn << 59 } else { lsn }, ordinal));
                match step {
                    0 | 1 => {
                        packed.insert(position, Open { outstanding: n, what: n % 3 });
                        map.insert(position, (n, n % 3));
                    }
                    2 => prop_assert_eq!(packed.update(position, |_| false), map.remove(&position).is_some()),
                    _ => {
                        let set = |open: &mut Open<u32>| {
                            (open.outstanding, open.what) = (7, 8);
                            true
                        };
                        let known = map.get_mut(&position).map(|known| *known = (7, 8));
                        prop_assert_eq!(packed.update(position, set), known.is_some());
                    }
                }
                let to = at((lsn + 2, 3));
                let expected = position <= to && map.range(position..=to).next().is_some();
                prop_assert_eq!(packed.has_between(position, to), expected);
            }
            let entries: Vec<_> = packed.iter().map(|(at, it)| (at, (it.outstanding, it.what))).collect();
            prop_assert_eq!(entries, map.clone().into_iter().collect::<Vec<_>>());
            prop_assert_eq!(packed.is_empty(), map.is_empty());
            prop_assert!(packed.runs.values().all(|run| run.count <= RUN_MAX));
        }
    }
}
