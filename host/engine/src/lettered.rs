//! Which rows may have letters: asked for every message that a state sink delivers, so that newer
//! state of a row supersedes its letters.
//!
//! A Bloom filter of fixed size: it never misses a key, however many letters there are, and a key
//! that it takes for known costs a question to the store. Among 140,000 letters of two keys each, one
//! of 300 others does.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use model::groups::GroupKey;

/// 512 KiB, and only of state sinks that have letters.
const WORDS: usize = 1 << 16;

/// Bits of a key.
const BITS: u32 = 4;

/// The keys of a sink's open letters, and a few others.
#[derive(Debug, Default)]
pub(crate) struct Lettered(OnceLock<Box<[AtomicU64]>>);

impl Lettered {
    pub(crate) fn insert(&self, key: GroupKey) {
        let words = self.0.get_or_init(|| (0..WORDS).map(|_| AtomicU64::new(0)).collect());
        for (word, bit) in places(key) {
            if let Some(word) = words.get(word) {
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn may_have(&self, key: GroupKey) -> bool {
        let Some(words) = self.0.get() else { return false };
        let is_set = |(word, bit): (usize, u64)| {
            words.get(word).is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0)
        };
        places(key).all(is_set)
    }
}

/// Where the bits of a key are: 22 bits of a number each, from two numbers that are far from each
/// other for keys that are near.
fn places(key: GroupKey) -> impl Iterator<Item = (usize, u64)> {
    // The end of MurmurHash3.
    let mix = |x: u64| (x ^ (x >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    let first = mix(key.0);
    let second = mix(first ^ (first >> 29)) | 1;
    (0..u64::from(BITS)).map(move |n| {
        let hash = first.wrapping_add(second.wrapping_mul(n));
        let place = hash >> 42;
        (usize::try_from(place >> 6).unwrap_or_default(), 1 << (place & 63))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_missed_and_few_others_are_taken_for_known() {
        let lettered = Lettered::default();
        assert!(!lettered.may_have(GroupKey(1)), "nothing is known");
        // Next to each other, as hashes are not.
        for key in 0..280_000 {
            lettered.insert(GroupKey(key));
        }
        assert!((0..280_000).all(|key| lettered.may_have(GroupKey(key))));
        let others = (1_000_000..1_100_000).filter(|key| lettered.may_have(GroupKey(*key)));
        let taken = others.count();
        assert!(taken < 1_000, "{taken} of 100,000");
    }
}
