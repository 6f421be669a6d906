//! Stops a sink that puts aside more than it delivers: something is wrong that retries do not mend,
//! and somebody should look before the whole stream is a heap of letters.
//!
//! What it counts is what was settled in a window of time. Only that sink stops: it takes in nothing,
//! sends nothing and loses nothing until somebody resumes it, or its time is over. It is not on
//! record: a restart is a new attempt.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// The window is counted in so many parts: what was in one of them is forgotten with the last of it.
const PARTS: u32 = 60;

/// How much of a sink's messages may be put aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LetterLimit {
    /// More than so many of a hundred stop the sink: 100 never does.
    pub percent_max: u8,
    /// As long as fewer were settled in the window, nothing is judged.
    pub messages_min: u64,
    /// What is looked at.
    pub window: Duration,
    /// It resumes by itself after so long. None: somebody has to resume it.
    pub cooldown: Option<Duration>,
}

impl Default for LetterLimit {
    fn default() -> Self {
        let window = Duration::from_secs(60);
        Self { percent_max: 50, messages_min: 100, window, cooldown: None }
    }
}

/// Why a sink stopped itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tripped {
    /// How many of how many were put aside, and what to do.
    pub reason: String,
    /// Since when.
    pub since: Instant,
    /// When it resumes by itself.
    pub until: Option<Instant>,
}

/// Of one sink, whatever version of it runs.
#[derive(Debug)]
pub struct Trip {
    window: Mutex<Window>,
    tripped: watch::Sender<Option<Tripped>>,
}

#[derive(Debug, Default)]
struct Window {
    /// At most [`PARTS`] and one.
    parts: VecDeque<Part>,
}

#[derive(Debug)]
struct Part {
    first: Instant,
    last: Instant,
    buried: u64,
    passed: u64,
}

impl Default for Trip {
    fn default() -> Self {
        Self { window: Mutex::default(), tripped: watch::Sender::new(None) }
    }
}

impl Trip {
    /// Why the sink stands, if it does.
    #[must_use]
    pub fn get(&self) -> Option<Tripped> {
        self.tripped.borrow().clone()
    }

    /// Whether it stands.
    #[must_use]
    pub fn is_tripped(&self) -> bool {
        self.tripped.borrow().is_some()
    }

    /// The sink stands from now on, until it is resumed or its time is over.
    pub fn stop(&self, reason: String, cooldown: Option<Duration>) {
        let since = Instant::now();
        let until = cooldown.map(|cooldown| since + cooldown);
        self.tripped.send_replace(Some(Tripped { reason, since, until }));
    }

    /// The sink goes on. What was counted before is forgotten. False if it did not stand.
    pub fn resume(&self) -> bool {
        self.window().parts.clear();
        self.tripped.send_replace(None).is_some()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Option<Tripped>> {
        self.tripped.subscribe()
    }

    /// Returns once the sink does not stand.
    pub(crate) async fn clear(&self) {
        // It fails only without a sender, which is here.
        self.watch().wait_for(Option::is_none).await.ok();
    }

    /// When it resumes by itself.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.tripped.borrow().as_ref()?.until
    }

    /// Resumes it if its time is over.
    pub(crate) fn cool_down(&self) {
        if self.until().is_some_and(|until| until <= Instant::now()) {
            self.resume();
        }
    }

    /// Messages were delivered, or had nothing to say.
    pub(crate) fn passed(&self, limit: Option<LetterLimit>, messages: u64) {
        if let (Some(limit), 1..) = (limit, messages) {
            self.window().count(limit, 0, messages);
        }
    }

    /// Messages were put aside. Returns why the sink stops, if it does so now.
    pub(crate) fn buried(&self, limit: Option<LetterLimit>, messages: u64) -> Option<String> {
        let limit = limit?;
        let mut window = self.window();
        window.count(limit, messages, 0);
        let buried: u64 = window.parts.iter().map(|part| part.buried).sum();
        let passed: u64 = window.parts.iter().map(|part| part.passed).sum();
        drop(window);
        let all = buried.saturating_add(passed);
        let is_too_much =
            buried.saturating_mul(100) > all.saturating_mul(u64::from(limit.percent_max));
        if all < limit.messages_min || !is_too_much || self.is_tripped() {
            return None;
        }
        let reason = format!(
            "{buried} of the last {all} messages were put aside within {:?}, more than {} %. Look at \
             them, mend the cause, and resume the sink{}",
            limit.window,
            limit.percent_max,
            if limit.cooldown.is_some() { ", or wait: it resumes by itself" } else { "" }
        );
        self.stop(reason.clone(), limit.cooldown);
        Some(reason)
    }

    fn window(&self) -> std::sync::MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    fn count(&mut self, limit: LetterLimit, buried: u64, passed: u64) {
        let now = Instant::now();
        while self.parts.front().is_some_and(|part| part.last + limit.window <= now) {
            self.parts.pop_front();
        }
        match self.parts.back_mut() {
            Some(part) if now < part.first + limit.window / PARTS => {
                part.last = now;
                part.buried += buried;
                part.passed += passed;
            }
            _ => self.parts.push_back(Part { first: now, last: now, buried, passed }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Option<LetterLimit> = Some(LetterLimit {
        percent_max: 50,
        messages_min: 100,
        window: Duration::from_secs(60),
        cooldown: None,
    });

    #[tokio::test(start_paused = true)]
    async fn more_than_the_share_of_enough_messages_within_the_window_stops_the_sink() {
        let trip = Trip::default();
        assert_eq!(trip.buried(LIMIT, 99), None, "too few");
        trip.passed(LIMIT, 101);
        assert_eq!(trip.buried(LIMIT, 2), None, "half of them");
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(trip.buried(LIMIT, 60), None, "the others are forgotten");
        trip.passed(LIMIT, 59);
        let reason = trip.buried(LIMIT, 0).unwrap();
        assert!(reason.starts_with("60 of the last 119 messages"), "{reason}");
        assert_eq!(trip.buried(LIMIT, 1), None, "it stands already");
        assert!(trip.resume() && !trip.resume());
        assert_eq!(trip.buried(LIMIT, 99), None, "counted anew");
        assert_eq!(trip.buried(None, 1_000), None);
        let never = LIMIT.map(|limit| LetterLimit { percent_max: 100, ..limit });
        assert_eq!(trip.buried(never, 1_000), None);
    }
}
