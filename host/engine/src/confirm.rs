//! Up to where the slot may be confirmed.
//!
//! Invariant: the answer never passes a transaction of which a sink still owes a message, and never
//! moves back.

use std::collections::VecDeque;

use model::lsn::Lsn;
use model::position::Position;
use model::source::Commit;

/// Commits remembered while an open position holds back the confirmation. Past it every second one
/// is forgotten: the confirmation then moves in longer steps, and memory stays bounded however long
/// one message is tried.
const COMMITS_MAX: usize = 8_192;

/// The commits that were handed over and are not confirmed.
#[derive(Debug, Default)]
pub struct Confirm {
    /// In commit order.
    commits: VecDeque<Commit>,
    /// Everything below was handed over completely.
    reached: Lsn,
    confirmed: Lsn,
}

impl Confirm {
    /// A transaction ended; all its changes were handed over.
    pub fn commit(&mut self, commit: Commit) {
        // After a reconnect the server repeats transactions that we still remember.
        if self.commits.back().is_none_or(|last| last.commit_lsn < commit.commit_lsn) {
            self.commits.push_back(commit);
            if self.commits.len() > COMMITS_MAX {
                let mut index = 0_usize;
                self.commits.retain(|_| {
                    index += 1;
                    index.is_multiple_of(2)
                });
            }
        }
        self.reached = self.reached.max(commit.end_lsn);
    }

    /// Nothing below `position` is still to come, and no transaction is open.
    pub fn idle(&mut self, position: Lsn) {
        self.reached = self.reached.max(position);
    }

    /// The end of the settled prefix, given the first position that any sink owes.
    pub fn advance(&mut self, first_open: Option<Position>) -> Lsn {
        match first_open {
            None => {
                self.commits.clear();
                self.confirmed = self.confirmed.max(self.reached);
            }
            Some(open) => {
                while let Some(commit) = self.commits.front()
                    && commit.commit_lsn < open.commit_lsn
                {
                    self.confirmed = self.confirmed.max(commit.end_lsn);
                    self.commits.pop_front();
                }
            }
        }
        self.confirmed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(at: u64) -> Commit {
        Commit { commit_lsn: Lsn(at), end_lsn: Lsn(at + 5) }
    }

    fn open(at: u64) -> Option<Position> {
        Some(Position::new(Lsn(at), 3))
    }

    #[test]
    fn the_end_of_the_settled_prefix_is_confirmed() {
        let mut confirm = Confirm::default();
        for at in [10, 20, 30] {
            confirm.commit(commit(at));
        }
        assert_eq!(confirm.advance(open(10)), Lsn::ZERO);
        assert_eq!(confirm.advance(open(30)), Lsn(25));
        assert_eq!(confirm.advance(open(30)), Lsn(25));
        assert_eq!(confirm.advance(None), Lsn(35));
    }

    #[test]
    fn an_idle_position_counts_only_when_nothing_is_owed() {
        let mut confirm = Confirm::default();
        confirm.commit(commit(10));
        confirm.idle(Lsn(99));
        assert_eq!(confirm.advance(open(10)), Lsn::ZERO);
        assert_eq!(confirm.advance(None), Lsn(99));
    }

    #[test]
    fn a_repeat_after_a_reconnect_moves_nothing_back() {
        let mut confirm = Confirm::default();
        confirm.commit(commit(10));
        confirm.commit(commit(20));
        assert_eq!(confirm.advance(open(20)), Lsn(15));
        confirm.commit(commit(20));
        assert_eq!(confirm.advance(open(20)), Lsn(15));
        assert_eq!(confirm.advance(None), Lsn(25));
    }

    #[test]
    fn memory_is_bounded_while_one_position_stays_open() {
        let mut confirm = Confirm::default();
        let count = COMMITS_MAX as u64 * 5;
        for n in 1..=count {
            confirm.commit(commit(n * 10));
            assert_eq!(confirm.advance(open(10)), Lsn::ZERO);
        }
        assert!(confirm.commits.len() <= COMMITS_MAX);
        let half = count / 2 * 10;
        let reached = confirm.advance(open(half)).0;
        assert!(reached < half && reached > half - half / 100, "{reached} of {half}");
        assert_eq!(confirm.advance(None), Lsn(count * 10 + 5));
    }

    /// An open transaction, of which a part was handed over and settled: its commit has not come.
    #[test]
    fn a_transaction_is_not_confirmed_before_its_commit() {
        let mut confirm = Confirm::default();
        confirm.commit(commit(10));
        assert_eq!(confirm.advance(None), Lsn(15));
        assert_eq!(confirm.advance(open(20)), Lsn(15));
        assert_eq!(confirm.advance(None), Lsn(15));
    }
}
