//! How much a sink may send, and how much of it may be put aside.

use engine::spec::RateLimit;
use engine::trip::LetterLimit;

use super::{millis, number};
use crate::diagnostic::Report;
use crate::document::{self, Resource};

/// An hour: what is allowed in longer times is a quota, and no limit of a rate.
const PER_MS_MAX: i64 = 3_600_000;
/// More than a sink sends in a second is no limit; in an hour it is.
const MESSAGES_MAX: i64 = 1_000_000_000;
/// A day.
const WINDOW_MS_MAX: i64 = 86_400_000;

/// None if there is none.
pub(super) fn rate(sink: &Resource<document::Sink>, report: &mut Report<'_>) -> Option<RateLimit> {
    let given = sink.value.fields.rate_limit.as_ref()?;
    let mut number = |key, given, default, bounds| {
        number(sink, &["rate_limit", key], given, default, bounds, report)
    };
    let messages = number("messages", Some(given.messages), 1, 1..=MESSAGES_MAX);
    let per = number("per_ms", given.per_ms, 1_000, 1..=PER_MS_MAX);
    Some(RateLimit { messages: u32::try_from(messages).unwrap_or(u32::MAX), per: millis(per) })
}

pub(super) fn letters(sink: &Resource<document::Sink>, report: &mut Report<'_>) -> LetterLimit {
    let mut limit = LetterLimit::default();
    let Some(given) = &sink.value.fields.dead_letter_limit else {
        return limit;
    };
    let mut set = |key, given: Option<i64>, bounds| {
        given.map(|given| number(sink, &["dead_letter_limit", key], Some(given), 1, bounds, report))
    };
    if let Some(percent) = set("max_percent", given.max_percent, 0..=100) {
        limit.percent_max = u8::try_from(percent).unwrap_or(100);
    }
    if let Some(messages) = set("min_messages", given.min_messages, 1..=MESSAGES_MAX) {
        limit.messages_min = messages.unsigned_abs();
    }
    if let Some(window) = set("window_ms", given.window_ms, 1..=WINDOW_MS_MAX) {
        limit.window = millis(window);
    }
    limit.cooldown = set("resume_after_ms", given.resume_after_ms, 1..=WINDOW_MS_MAX).map(millis);
    limit
}
