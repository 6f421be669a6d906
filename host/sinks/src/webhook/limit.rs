//! What a receiver was seen to refuse as too large, so that not every batch has to be sent once in
//! vain before it is divided.

use std::sync::atomic::{AtomicUsize, Ordering};

/// From how many bytes on a body of several messages is divided unasked: three quarters of what was
/// refused, so that halves of it pass and the same is not tried again at once.
#[derive(Debug)]
pub(super) struct Limit(AtomicUsize);

impl Default for Limit {
    fn default() -> Self {
        Self(AtomicUsize::new(usize::MAX))
    }
}

impl Limit {
    /// What a body of several messages has at the most.
    pub(super) fn bytes_max(&self) -> usize {
        self.0.load(Ordering::Relaxed).saturating_sub(1)
    }

    pub(super) fn refused(&self, bytes: usize) {
        self.0.fetch_min(bytes - bytes / 4, Ordering::Relaxed);
    }

    /// A request went well: the limit rises. After some forty requests it is where it was refused,
    /// so that a receiver which takes more by now is found out at little cost.
    pub(super) fn taken(&self) {
        let limit = self.0.load(Ordering::Relaxed);
        if limit < usize::MAX {
            // What another request of the sink changes meanwhile counts, and this is forgotten.
            let raised = limit.saturating_add(limit / 128 + 1);
            self.0.compare_exchange(limit, raised, Ordering::Relaxed, Ordering::Relaxed).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_learned_and_forgotten_again() {
        let limit = Limit::default();
        limit.taken();
        assert_eq!(limit.bytes_max(), usize::MAX - 1);
        limit.refused(4000);
        limit.refused(8000);
        assert_eq!(limit.bytes_max(), 2999);
        limit.taken();
        assert_eq!(limit.bytes_max(), 3023);
        for _ in 0..30 {
            limit.taken();
        }
        assert!(limit.bytes_max() < 4000);
        for _ in 0..10 {
            limit.taken();
        }
        assert!(limit.bytes_max() >= 4000);
    }
}
