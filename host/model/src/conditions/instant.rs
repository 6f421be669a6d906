//! Points in time, as Postgres prints them and as people write them.

use crate::json::microseconds;

/// A point in time; the infinities of Postgres are before and behind all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Instant {
    NegativeInfinity,
    /// Nanoseconds since 1970: JSON may have more digits than Postgres.
    At(i128),
    Infinity,
}

impl Instant {
    /// None if it is no time. One without an offset is in UTC, a date is its first moment.
    pub(super) fn read(text: &str) -> Option<Self> {
        match text {
            "infinity" => return Some(Self::Infinity),
            "-infinity" => return Some(Self::NegativeInfinity),
            _ => {}
        }
        if let Some(time) = microseconds(text) {
            return Some(Self::At(time * 1_000));
        }
        let at = |time: jiff::Timestamp| Self::At(time.as_nanosecond());
        if let Ok(time) = text.parse() {
            return Some(at(time));
        }
        let utc = |time: jiff::civil::DateTime| time.to_zoned(jiff::tz::TimeZone::UTC).ok();
        if let Some(zoned) = text.parse().ok().and_then(utc) {
            return Some(at(zoned.timestamp()));
        }
        // Dates that four digits cannot say.
        let (date, era) = match text.strip_suffix(" BC") {
            Some(date) => (date, " BC"),
            None => (text, ""),
        };
        microseconds(&format!("{date} 00:00:00{era}")).map(|time| Self::At(time * 1_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_instant_has_many_forms() {
        let of = |text: &str| Instant::read(text).unwrap_or_else(|| panic!("{text}"));
        for (one, other) in [
            ("2024-01-02T03:04:05Z", "2024-01-02T05:04:05+02:00"),
            ("2024-01-02T03:04:05.000000", "2024-01-02 03:04:05Z"),
            ("2024-01-02T03:04:05.000000Z", "2024-01-02 03:04:05.000000000"),
            ("2024-01-02", "2024-01-01T23:00:00-01:00"),
            ("0044-03-15 BC", "0044-03-15 00:00:00 BC"),
            ("10000-01-01", "10000-01-01 00:00:00+00"),
        ] {
            assert_eq!(of(one), of(other), "{one} {other}");
        }
        let rising = [
            "-infinity",
            "0044-03-15 00:00:00 BC",
            "0001-01-01",
            "2024-01-02T03:04:05.000000Z",
            "2024-01-02T03:04:05.000000001Z",
            "2024-01-02T03:04:05.000001Z",
            "294276-12-31 23:59:59+00",
            "infinity",
        ];
        assert!(rising.is_sorted_by_key(|text| of(text)));
        for none in ["", "now", "12:00:00", "2024-13-01", "2024-01-02T25:00:00Z", "7"] {
            assert_eq!(Instant::read(none), None, "{none:?}");
        }
    }
}
