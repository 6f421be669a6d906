//! Which of the changes handed to one sink are settled.
//!
//! The ledger behind `confirmed_flush_lsn`: the slot is confirmed only below every sink's first
//! open position. It also decides what a sink is handed at all, so that neither a reconnect nor a
//! restart repeats what was settled.
//!
//! Invariants: positions are admitted in rising order; a position is open from its admission until
//! its last outstanding message is settled; nothing else closes it.

use std::collections::{BTreeSet, VecDeque};

use crate::position::Position;

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

/// The ledger of one sink.
#[derive(Debug, Default)]
pub struct Acks {
    /// Rising; an entry leaves from the front once nothing of it is outstanding.
    entries: VecDeque<Entry>,
    /// Highest position offered by this process.
    offered: Option<Position>,
    /// What an earlier process settled.
    restored: Settled,
}

#[derive(Debug)]
struct Entry {
    position: Position,
    /// Messages of this change that are not settled: 1, or as many as a transform made of it.
    outstanding: u32,
}

impl Acks {
    /// A ledger that goes on from what an earlier process recorded.
    #[must_use]
    pub fn restore(restored: Settled) -> Self {
        Self { entries: VecDeque::new(), offered: None, restored }
    }

    /// Opens a position, with one message outstanding. False if the change must not be handed to
    /// the sink: it was handed before, or settled by an earlier process.
    pub fn admit(&mut self, position: Position) -> bool {
        if self.offered.is_some_and(|offered| position <= offered) {
            return false;
        }
        self.offered = Some(position);
        if self.restored.contains(position) {
            return false;
        }
        self.entries.push_back(Entry { position, outstanding: 1 });
        true
    }

    /// A transform made `outputs` messages of the change (at least 1): it settles when all have.
    pub fn split(&mut self, position: Position, outputs: u32) {
        if let Some(entry) = self.find(position) {
            entry.outstanding += outputs.saturating_sub(1);
        }
    }

    /// One message of the change at `position` is settled. Unknown positions are ignored.
    pub fn settle(&mut self, position: Position) {
        if let Some(entry) = self.find(position) {
            entry.outstanding = entry.outstanding.saturating_sub(1);
        }
        while self.entries.front().is_some_and(|entry| entry.outstanding == 0) {
            self.entries.pop_front();
        }
    }

    /// The first position handed to the sink and not settled.
    #[must_use]
    pub fn first_open(&self) -> Option<Position> {
        self.entries.front().map(|entry| entry.position)
    }

    /// How many changes are open or wait behind an open one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether everything handed over is settled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What to record. At most `open_max` open positions: with more, what stands above them counts
    /// as open too, which costs repeats after a kill and never a loss.
    #[must_use]
    pub fn settled(&self, open_max: usize) -> Settled {
        let offered = self.offered.unwrap_or_default();
        let handed = self.entries.iter().filter(|entry| entry.outstanding > 0);
        // Open positions of the earlier process that the replay has not reached again.
        let awaited = self.restored.open.iter().copied().filter(|position| *position > offered);
        let mut open: Vec<Position> = handed
            .map(|entry| entry.position)
            .chain(awaited)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let mut high = offered.max(self.restored.high);
        if open.len() > open_max {
            open.truncate(open_max);
            high = open.last().copied().unwrap_or_default();
        }
        Settled { high, open }
    }

    fn find(&mut self, position: Position) -> Option<&mut Entry> {
        let index = self.entries.binary_search_by_key(&position, |entry| entry.position).ok()?;
        self.entries.get_mut(index)
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
        let mut acks = Acks::default();
        for n in 1..=4 {
            assert!(acks.admit(at(n)));
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
        let mut acks = Acks::default();
        acks.admit(at(1));
        acks.split(at(1), 3);
        acks.settle(at(1));
        acks.settle(at(1));
        assert_eq!(acks.first_open(), Some(at(1)));
        acks.settle(at(1));
        assert_eq!(acks.first_open(), None);
    }

    #[test]
    fn a_reconnect_repeats_nothing_and_a_restart_only_what_was_open() {
        let mut acks = Acks::restore(Settled { high: at(5), open: vec![at(3)] });
        let handed: Vec<bool> = (2..=6).map(|n| acks.admit(at(n))).collect();
        assert_eq!(handed, [false, true, false, false, true]);
        assert!(!acks.admit(at(3)), "the stream was reconnected from an earlier place");
        assert_eq!(acks.settled(9), Settled { high: at(6), open: vec![at(3), at(6)] });
    }

    #[test]
    fn what_the_replay_has_not_reached_stays_open_on_record() {
        let mut acks = Acks::restore(Settled { high: at(9), open: vec![at(3), at(7)] });
        assert_eq!(acks.settled(9), Settled { high: at(9), open: vec![at(3), at(7)] });
        acks.admit(at(3));
        acks.settle(at(3));
        assert_eq!(acks.settled(9), Settled { high: at(9), open: vec![at(7)] });
    }

    proptest! {
        /// Whatever is settled in whatever order and however short the record: what a restart
        /// skips was settled.
        #[test]
        fn a_restart_never_skips_what_was_open(
            settled in proptest::collection::vec(1_u64..40, 0..80), open_max in 0_usize..50,
        ) {
            let mut acks = Acks::default();
            for n in 1..40 {
                acks.admit(at(n));
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
