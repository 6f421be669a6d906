//! Points in time, from ISO 8601 and from what Postgres prints where ISO has no way to say it.
//!
//! Compared as times and not as texts: `03:04:05.5Z` sorts before `03:04:05Z`, and `10000-01-01`
//! before `2024-01-01`.

/// Seconds since 1970 in UTC, and microseconds; the infinities are the ends. Postgres' last years are
/// more microseconds from 1970 than 64 bits can count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(i64, i64);

impl Time {
    /// A date, or a date and a time after `T` or a space, each with or without zone, and with
    /// ` BC` where it belongs. None if it is none of them.
    pub(crate) fn read(text: &str) -> Option<Self> {
        match text {
            "infinity" => return Some(Self(i64::MAX, 0)),
            "-infinity" => return Some(Self(i64::MIN, 0)),
            _ => {}
        }
        let (text, before_christ) = match text.strip_suffix(" BC") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let (date, clock) = match text.split_once(['T', ' ']) {
            Some((date, clock)) => (date, clock),
            None => (text, "00:00:00"),
        };
        let mut parts = date.split('-');
        let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || year.len() < 4 {
            return None;
        }
        let year = digits(year, 6)?;
        // There was no year 0: 1 BC is what ISO calls 0000.
        let year = if before_christ { 1_i64.checked_sub(year)? } else { year };
        let days = days(year, digits(month, 2)?, digits(day, 2)?)?;
        let (clock, offset) = zone(clock)?;
        let (seconds, micros) = clock_time(clock)?;
        Some(Self(days * 86_400 + seconds - offset, micros))
    }
}

/// At most `length` digits, and at least one.
fn digits(text: &str, length: usize) -> Option<i64> {
    let plausible = !text.is_empty() && text.len() <= length;
    (plausible && text.bytes().all(|digit| digit.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Days since 1970-01-01 in the Gregorian calendar, also before it was there.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let length = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    // Years begin in March, so that the day that may be missing is the last; eras have 400 years.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// The time without its zone, and the zone in seconds east of UTC; without one, UTC.
fn zone(clock: &str) -> Option<(&str, i64)> {
    if let Some(clock) = clock.strip_suffix('Z') {
        return Some((clock, 0));
    }
    let Some(at) = clock.find(['+', '-']) else { return Some((clock, 0)) };
    let (clock, zone) = clock.split_at(at);
    let (sign, zone) = zone.split_at(1);
    let mut seconds = 0;
    let mut unit = 3600;
    for part in zone.split(':') {
        if unit == 0 {
            return None;
        }
        seconds += digits(part, 2)? * unit;
        unit /= 60;
    }
    Some((clock, if sign == "-" { -seconds } else { seconds }))
}

/// The seconds and microseconds of `03:04`, `03:04:05` or `03:04:05.678`.
fn clock_time(clock: &str) -> Option<(i64, i64)> {
    let mut parts = clock.split(':');
    let (hours, minutes) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let seconds = parts.next().unwrap_or("0");
    let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let seconds = digits(seconds, 2)?;
    // 24:00 is a time to Postgres, and 60 a second.
    if parts.next().is_some() || hours > 24 || minutes > 59 || seconds > 60 {
        return None;
    }
    let scale = 6_usize.checked_sub(fraction.len())?;
    let fraction = digits(fraction, 6)? * 10_i64.pow(u32::try_from(scale).ok()?);
    Some(((hours * 60 + minutes) * 60 + seconds, fraction))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_order_however_they_are_written() {
        let times = [
            "-infinity",
            "4713-01-01 BC",
            "0044-03-15 BC",
            "0001-12-31 23:59:59 BC",
            "0001-01-01",
            "1969-12-31T23:59:59.999999",
            "1970-01-01",
            "1970-01-01T00:00:00.000001Z",
            "2024-01-02T03:04:05Z",
            "2024-01-02T03:04:05.5Z",
            "2024-01-02T03:04:05.51Z",
            "2024-02-29",
            "2024-03-01",
            "9999-12-31",
            "10000-01-01 00:00:00+00",
            "294276-12-31T23:59:59.999999Z",
            "infinity",
        ];
        let read: Vec<_> = times.iter().map(|text| Time::read(text).expect(text)).collect();
        assert!(read.is_sorted_by(|a, b| a < b), "{read:?}");
        for (one, other) in [
            ("2024-01-02", "2024-01-02T00:00"),
            ("2024-01-02T03:04:05Z", "2024-01-02 04:04:05+01"),
            ("2024-01-02T03:04:05Z", "2024-01-01T21:34:05.000-05:30"),
            ("2024-01-02T03:04:05Z", "2024-01-02T03:04:06+00:00:01"),
        ] {
            assert_eq!(Time::read(one).unwrap(), Time::read(other).unwrap(), "{one} and {other}");
        }
        assert_eq!(Time::read("2001-09-09T01:46:40Z"), Some(Time(1_000_000_000, 0)));
        let bad = "2024 2024-13-01 2024-02-30 2023-02-29 24-01-02 2024-01-02T 2024-01-02T25:00 \
                   2024-01-02T03:04:05.1234567 2024-01-02T03:04+1:2:3:4 now 2024-01-02Z \
                   99999999999999999999-01-01 2024-01-02T03:04:05.é";
        for bad in bad.split(' ').chain([""]) {
            assert_eq!(Time::read(bad), None, "{bad}");
        }
    }
}
