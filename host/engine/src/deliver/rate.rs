//! At most so many messages in so much time, whatever moment the time is counted from.
//!
//! A bucket of tokens would let twice as many pass in one such time: a full bucket and what flows in
//! meanwhile. Receivers that count do it by windows, so this counts what was sent in the last one.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The window is counted in so many parts: what was sent in one of them is forgotten with the last of
/// it.
const PARTS: u32 = 64;

/// A limit to what a sink sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// At most so many messages (1 or more), repeats included,
    pub messages: u32,
    /// in any time of this length.
    pub per: Duration,
}

/// What was sent of late.
#[derive(Debug)]
pub(super) struct Rate {
    limit: RateLimit,
    /// At most [`PARTS`] and one.
    parts: VecDeque<Part>,
}

/// What was sent in a part of the window.
#[derive(Debug)]
struct Part {
    first: Instant,
    last: Instant,
    messages: u64,
}

impl Rate {
    pub(super) fn new(limit: RateLimit) -> Self {
        Self { limit, parts: VecDeque::new() }
    }

    /// A request may never have more messages.
    pub(super) fn messages_max(&self) -> usize {
        usize::try_from(self.limit.messages).unwrap_or(usize::MAX)
    }

    /// When so many messages may be sent; None: now.
    pub(super) fn wait(&mut self, messages: usize, now: Instant) -> Option<Instant> {
        while self.parts.front().is_some_and(|part| part.last + self.limit.per <= now) {
            self.parts.pop_front();
        }
        let wanted = messages.min(self.messages_max()) as u64;
        let mut sent: u64 = self.parts.iter().map(|part| part.messages).sum();
        let mut until = None;
        for part in &self.parts {
            if sent + wanted <= u64::from(self.limit.messages) {
                break;
            }
            sent -= part.messages;
            until = Some(part.last + self.limit.per);
        }
        until
    }

    pub(super) fn sent(&mut self, messages: usize, now: Instant) {
        let (messages, length) = (messages as u64, self.limit.per / PARTS);
        match self.parts.back_mut() {
            Some(part) if now < part.first + length => {
                part.messages += messages;
                part.last = now;
            }
            _ => self.parts.push_back(Part { first: now, last: now, messages }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However requests come, no time of the length has more, and each gets its turn within it.
        #[test]
        fn no_window_has_more_than_the_limit(
            limit in 1_u32..50,
            requests in proptest::collection::vec((0_u64..300, 1_usize..60), 1..80),
        ) {
            let start = Instant::now();
            let per = Duration::from_secs(1);
            let mut rate = Rate::new(RateLimit { messages: limit, per });
            let mut now = start;
            let mut log: Vec<(Instant, usize)> = Vec::new();
            for (pause, messages) in requests {
                now += Duration::from_millis(pause);
                let messages = messages.min(rate.messages_max());
                if let Some(until) = rate.wait(messages, now) {
                    prop_assert!(until > now && until <= now + per);
                    now = until;
                    prop_assert_eq!(rate.wait(messages, now), None);
                }
                rate.sent(messages, now);
                log.push((now, messages));
                let window = log.iter().filter(|(at, _)| *at + per > now);
                let sum: usize = window.map(|(_, messages)| messages).sum();
                prop_assert!(sum <= limit as usize, "{} of {}", sum, limit);
                prop_assert!(rate.parts.len() <= PARTS as usize + 1);
            }
        }
    }
}
