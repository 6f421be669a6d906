//! From which position on which share of the rows takes the new version.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::change::Change;
use crate::groups::{GroupKey, Groups};
use crate::lsn::Lsn;
use crate::position::Position;

/// From a position of one stream on, so many of a hundred groups take the new version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Positions are those of this stream.
    pub origin: Arc<str>,
    /// LSN of the position's commit.
    pub commit_lsn: u64,
    /// Its ordinal there.
    pub ordinal: u64,
    /// The share.
    pub percent: u8,
    /// When it was decided, in microseconds since 1970.
    pub at_us: i64,
}

impl Step {
    pub(super) fn new(origin: &Arc<str>, from: Position, percent: u8, at_us: i64) -> Self {
        let Position { commit_lsn, ordinal } = from;
        Self { origin: Arc::clone(origin), commit_lsn: commit_lsn.0, ordinal, percent, at_us }
    }

    /// The first position.
    #[must_use]
    pub fn from(&self) -> Position {
        Position::new(Lsn(self.commit_lsn), self.ordinal)
    }
}

/// The share in force at a position. Before the first step of a stream it is what was in force when
/// that step was decided; where a stream has none, what was decided last.
pub(super) fn percent_at(steps: &[Step], origin: &str, position: Position) -> u8 {
    let mut before = 0;
    let mut known = None;
    for step in steps {
        if *step.origin == *origin {
            let percent = known.get_or_insert(before);
            if step.from() <= position {
                *percent = step.percent;
            }
        }
        before = step.percent;
    }
    known.unwrap_or(before)
}

/// What a row's version is chosen by: the key of the row, so that all changes of it are in one share,
/// whatever columns group them. A row whose key changes goes by the new one; a row without a key
/// stands for itself.
#[must_use]
pub fn row_key(change: &Change) -> u64 {
    let key = Groups::of(change).keys().last();
    let Position { commit_lsn, ordinal } = change.position;
    key.map_or_else(|| mix(commit_lsn.0 ^ mix(ordinal)), |GroupKey(key)| key)
}

/// Which of 10,000 parts a key is in. Other rollouts and other sinks cut otherwise, so that it is not
/// the same rows that try every new version.
#[must_use]
pub fn bucket(sink_id: &str, rollout: &str, key: u64) -> u32 {
    let GroupKey(salt) = GroupKey::of_values(None, [sink_id, rollout]);
    u32::try_from(mix(salt ^ mix(key)) % 10_000).unwrap_or_default()
}

/// The finalizer of MurmurHash3: FNV's high bits hardly know of the last bytes.
const fn mix(mut bits: u64) -> u64 {
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    bits ^ bits >> 33
}
