//! Which of the changes handed to one sink are settled.
//!
//! The ledger behind `confirmed_flush_lsn`: the slot is confirmed only below every sink's first
//! open position. It also decides what a sink is handed at all, so that neither a reconnect nor a
//! restart repeats what was settled.
//!
//! Invariants: positions are admitted in rising order; a position is open from its admission until
//! its last outstanding message is settled; nothing else closes it.

mod packed;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::position::Position;
use packed::Packed;

/// What outlives the process of one sink's [`Acks`]: everything up to `high` was settled but for
/// `open`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// The highest position that was admitted.
    pub high: Position,
    /// The positions up to `high` that were not settled, rising.
    pub open: Vec<Position>,
}

impl Settled {
    /// Whether a change at this position needs no delivery any more.
    #[must_use]
    pub fn contains(&self, position: Position) -> bool {
        position <= self.high && self.open.binary_search(&position).is_err()
    }
}

/// Whether something is open among some positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Between {
    /// Something that is not known to be in the change log.
    pub open: bool,
    /// Something that is in the change log.
    pub logged: bool,
}

/// The ledger of one sink. `Raw` is what is kept of a change while it is open, `Place` where in the
/// change log it stands.
///
/// Only what is open takes memory, and what is in the change log only a few bytes: what settled behind an open position leaves no trace but the
/// highest position offered, however long the open one stays.
#[derive(Debug)]
pub struct Acks<Raw = (), Place = ()> {
    /// What holds the slot back.
    open: BTreeMap<Position, Open<Raw>>,
    /// What is open and stands in the change log.
    logged: Packed<Place>,
    /// Highest position offered by this process.
    offered: Option<Position>,
    /// What an earlier process settled.
    restored: Settled,
}

#[derive(Debug)]
struct Open<T> {
    /// The messages of the change that are not settled: 1, or as many as a transform made of it.
    outstanding: u32,
    what: T,
}

impl<T> Open<T> {
    /// One message is settled. False if it was the last.
    fn stays(&mut self) -> bool {
        self.outstanding = self.outstanding.saturating_sub(1);
        self.outstanding > 0
    }
}

impl<Raw, Place: Copy + PartialEq> Default for Acks<Raw, Place> {
    fn default() -> Self {
        Self::restore(Settled::default())
    }
}

impl<Raw, Place: Copy + PartialEq> Acks<Raw, Place> {
    /// A ledger that goes on from what an earlier process recorded.
    #[must_use]
    pub fn restore(restored: Settled) -> Self {
        Self { open: BTreeMap::new(), logged: Packed::default(), offered: None, restored }
    }

    /// Opens a position, with one message outstanding. False if the change must not be handed to
    /// the sink: it was handed before, or settled by an earlier process.
    pub fn admit(&mut self, position: Position, raw: Raw) -> bool {
        let admitted = self.offer(position);
        if admitted {
            self.open.insert(position, Open { outstanding: 1, what: raw });
        }
        admitted
    }

    /// As [`Acks::admit`], of a change that comes from the change log.
    pub fn admit_logged(&mut self, position: Position, place: Place) -> bool {
        let admitted = self.offer(position);
        if admitted {
            self.logged.insert(position, Open { outstanding: 1, what: place });
        }
        admitted
    }

    fn offer(&mut self, position: Position) -> bool {
        if self.offered.is_some_and(|offered| position <= offered) {
            return false;
        }
        self.offered = Some(position);
        !self.restored.contains(position)
    }

    /// Whether an earlier process settled it.
    #[must_use]
    pub fn was_settled(&self, position: Position) -> bool {
        self.restored.contains(position)
    }

    /// What is open at a position stands in the change log by now, and holds the slot back no more.
    pub fn log(&mut self, position: Position, place: Place) {
        if let Some(Open { outstanding, .. }) = self.open.remove(&position) {
            self.logged.insert(position, Open { outstanding, what: place });
        }
    }

    /// What stood in the change log stands in another place of it by now, if it is still open.
    pub fn relocate(&mut self, position: Position, place: Place) {
        self.logged.update(position, |open| {
            open.what = place;
            true
        });
    }

    /// A transform made `outputs` messages of the change (at least 1): it settles when all have.
    pub fn split(&mut self, position: Position, outputs: u32) {
        let more = outputs.saturating_sub(1);
        if let Some(open) = self.open.get_mut(&position) {
            open.outstanding += more;
        } else if more > 0 {
            self.logged.update(position, |open| {
                open.outstanding += more;
                true
            });
        }
    }

    /// One message of the change at `position` is settled. Unknown positions are ignored.
    pub fn settle(&mut self, position: Position) {
        match self.open.entry(position) {
            Entry::Occupied(mut entry) => {
                if !entry.get_mut().stays() {
                    entry.remove();
                }
            }
            Entry::Vacant(_) => drop(self.logged.update(position, Open::stays)),
        }
    }

    /// The first position handed to the sink that is neither settled nor in the change log.
    #[must_use]
    pub fn first_open(&self) -> Option<Position> {
        self.open.first_key_value().map(|(position, _)| *position)
    }

    /// What is open and not in the change log, by rising position.
    pub fn raws(&self) -> impl Iterator<Item = (Position, &Raw)> {
        self.open.iter().map(|(position, open)| (*position, &open.what))
    }

    /// What is kept of the change at a position, if that is open and not in the change log.
    #[must_use]
    pub fn raw(&self, position: Position) -> Option<&Raw> {
        self.open.get(&position).map(|open| &open.what)
    }

    /// Where what is open stands in the change log, by rising position.
    pub fn places(&self) -> impl Iterator<Item = (Position, Place)> {
        self.logged.iter().map(|(position, open)| (position, open.what))
    }

    /// The places in the change log of what is open, each at least once. Of many changes this is much
    /// less work than [`Acks::places`].
    pub fn places_used(&self) -> impl Iterator<Item = Place> {
        self.logged.whats()
    }

    /// What is open between two positions, both included.
    #[must_use]
    pub fn between(&self, first: Position, last: Position) -> Between {
        let offered = self.offered.unwrap_or_default();
        let mut awaited = self.restored.open.iter().filter(|position| **position > offered);
        Between {
            open: self.open.range(first..=last).next().is_some()
                || awaited.any(|position| (first..=last).contains(position)),
            logged: self.logged.has_between(first, last),
        }
    }

    /// Whether a position is open, in the change log or not.
    #[must_use]
    pub fn is_open(&self, position: Position) -> bool {
        let Between { open, logged } = self.between(position, position);
        open || logged
    }

    /// The highest position that this process offered to the sink.
    #[must_use]
    pub fn offered(&self) -> Option<Position> {
        self.offered
    }

    /// Whether everything handed over is settled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.logged.is_empty()
    }

    /// What to record. At most `open_max` open positions (1 or more): with more, what stands above
    /// them counts as open too, which costs repeats after a kill and never a loss.
    #[must_use]
    pub fn settled(&self, open_max: usize) -> Settled {
        let offered = self.offered.unwrap_or_default();
        // Open positions of the earlier process that the replay has not reached again: all of them
        // above what was offered, so both together still rise.
        let awaited = self.restored.open.iter().filter(|position| **position > offered);
        let mut here = self.open.keys().copied().peekable();
        let mut logged = self.logged.iter().map(|(position, _)| position).peekable();
        let rising = std::iter::from_fn(|| match (here.peek(), logged.peek()) {
            (Some(one), Some(other)) if other < one => logged.next(),
            (Some(_), _) => here.next(),
            (None, _) => logged.next(),
        });
        let all = rising.chain(awaited.copied());
        let mut open: Vec<Position> = all.take(open_max.saturating_add(1)).collect();
        let mut high = offered.max(self.restored.high);
        if open.len() > open_max {
            open.truncate(open_max);
            high = open.last().copied().unwrap_or_default();
        }
        Settled { high, open }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lsn::Lsn;

    fn at(n: u64) -> Position {
        Position::new(Lsn(n), 0)
    }

    #[test]
    fn the_first_open_position_moves_only_over_settled_ones() {
        let mut acks = Acks::<(), ()>::default();
        for n in 1..=4 {
            assert!(acks.admit(at(n), ()));
        }
        acks.settle(at(2));
        acks.settle(at(3));
        assert_eq!(acks.first_open(), Some(at(1)));
        assert_eq!(acks.settled(9), Settled { high: at(4), open: vec![at(1), at(4)] });
        acks.settle(at(1));
        assert_eq!(acks.first_open(), Some(at(4)));
        acks.settle(at(4));
        assert!(acks.is_empty());
    }

    #[test]
    fn a_change_of_many_outputs_settles_with_the_last() {
        let mut acks = Acks::<(), ()>::default();
        acks.admit(at(1), ());
        acks.split(at(1), 3);
        acks.settle(at(1));
        acks.settle(at(1));
        assert_eq!(acks.first_open(), Some(at(1)));
        acks.settle(at(1));
        assert_eq!(acks.first_open(), None);
    }

    #[test]
    fn a_reconnect_repeats_nothing_and_a_restart_only_what_was_open() {
        let mut acks = Acks::<(), ()>::restore(Settled { high: at(5), open: vec![at(3)] });
        let handed: Vec<bool> = (2..=6).map(|n| acks.admit(at(n), ())).collect();
        assert_eq!(handed, [false, true, false, false, true]);
        assert!(!acks.admit(at(3), ()), "the stream was reconnected from an earlier place");
        assert_eq!(acks.settled(9), Settled { high: at(6), open: vec![at(3), at(6)] });
    }

    #[test]
    fn what_settles_behind_an_open_position_takes_no_memory() {
        let mut acks = Acks::<(), ()>::default();
        acks.admit(at(1), ());
        for n in 2..10_000 {
            acks.admit(at(n), ());
            acks.settle(at(n));
        }
        assert_eq!(acks.open.len(), 1);
        assert_eq!(acks.settled(10), Settled { high: at(9_999), open: vec![at(1)] });
    }

    #[test]
    fn what_the_replay_has_not_reached_stays_open_on_record() {
        let mut acks = Acks::<(), ()>::restore(Settled { high: at(9), open: vec![at(3), at(7)] });
        assert_eq!(acks.settled(9), Settled { high: at(9), open: vec![at(3), at(7)] });
        acks.admit(at(3), ());
        acks.settle(at(3));
        assert_eq!(acks.settled(9), Settled { high: at(9), open: vec![at(7)] });
    }

    #[test]
    fn what_stands_in_the_log_is_open_and_holds_nothing_back() {
        let mut acks = Acks::<char, u8>::default();
        for (n, raw) in [(1, 'a'), (2, 'b'), (3, 'c')] {
            assert!(acks.admit(at(n), raw));
        }
        acks.split(at(2), 2);
        acks.log(at(2), 7);
        acks.log(at(1), 8);
        assert_eq!(acks.first_open(), Some(at(3)));
        assert_eq!(acks.settled(9), Settled { high: at(3), open: vec![at(1), at(2), at(3)] });
        assert_eq!(acks.places().collect::<Vec<_>>(), [(at(1), 8), (at(2), 7)]);
        assert_eq!(acks.raws().collect::<Vec<_>>(), [(at(3), &'c')]);
        for n in [3, 1, 2] {
            acks.settle(at(n));
        }
        assert!(!acks.is_empty(), "two messages were made of it");
        acks.settle(at(2));
        assert!(acks.is_empty());
        assert!(acks.admit_logged(at(4), 9) && !acks.admit(at(4), 'd'));
        assert_eq!((acks.first_open(), acks.is_empty()), (None, false));
    }

    #[test]
    fn what_is_open_between_two_positions_is_known_through_restarts() {
        let mut acks = Acks::<(), ()>::restore(Settled { high: at(5), open: vec![at(3)] });
        let is = |open, logged| Between { open, logged };
        assert_eq!(acks.between(at(2), at(4)), is(true, false), "the replay has not reached it");
        acks.admit_logged(at(3), ());
        assert_eq!(acks.between(at(2), at(4)), is(false, true));
        acks.settle(at(3));
        acks.admit(at(7), ());
        assert_eq!(acks.between(at(2), at(6)), is(false, false));
        assert_eq!(acks.between(at(6), at(7)), is(true, false));
        assert!(acks.is_open(at(7)) && !acks.is_open(at(6)));
    }

    proptest! {
        /// Whatever is settled in whatever order and however short the record: what a restart
        /// skips was settled.
        #[test]
        fn a_restart_never_skips_what_was_open(
            settled in proptest::collection::vec(1_u64..40, 0..80), open_max in 0_usize..50,
        ) {
            let mut acks = Acks::<(), ()>::default();
            for n in 1..40 {
                acks.admit(at(n), ());
            }
            for n in &settled {
                acks.settle(at(*n));
            }
            let record = acks.settled(open_max);
            for n in 1..40 {
                if record.contains(at(n)) {
                    prop_assert!(settled.contains(&n), "{n} skipped with {record:?}");
                }
            }
        }
    }
}
