//! Times as messages have them.

use super::push_fmt;

/// Appends a time, in microseconds since 1970, as ISO 8601 in UTC with microseconds.
pub(crate) fn timestamp(out: &mut String, microseconds: i64) {
    /// Of the days 0000-01-01 to 9999-12-31, counted from 1970: what four digits can say.
    const DAYS: std::ops::RangeInclusive<i64> = -719_528..=2_932_896;
    const DAY_US: i64 = 86_400_000_000;
    let days = microseconds.div_euclid(DAY_US);
    if !DAYS.contains(&days) {
        // No clock of a server says so, and the message must still be valid.
        push_fmt(out, format_args!("{microseconds}us"));
        return;
    }
    let (year, month, day) = civil(days);
    let rest = microseconds.rem_euclid(DAY_US);
    let (seconds, fraction) = (rest / 1_000_000, rest % 1_000_000);
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    for (last, width, number) in [
        (3, 4, year),
        (6, 2, month),
        (9, 2, day),
        (12, 2, hour),
        (15, 2, minute),
        (18, 2, second),
        (25, 6, fraction),
    ] {
        let mut number = number;
        for byte in text.iter_mut().take(last + 1).rev().take(width) {
            *byte = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
    out.push_str(std::str::from_utf8(&text).unwrap_or_default());
}

/// Year, month and day of a day counted from 1970, by the Gregorian calendar; the algorithm is
/// <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March, so that the leap day is the last of a year.
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commit_times_are_those_of_the_calendar() {
        let written = |microseconds| {
            let mut out = String::new();
            timestamp(&mut out, microseconds);
            out
        };
        let check = |microseconds: i64| {
            let time = jiff::Timestamp::from_microsecond(microseconds).unwrap();
            assert_eq!(written(microseconds), format!("{time:.6}"));
        };
        // Every day of eight centuries, at an odd time of day, and the ends of what can be said.
        for day in -146_097..146_097_i64 {
            check(day * 86_400_000_000 + day.rem_euclid(86_400) * 1_000_000 + 12_345);
        }
        for edge in ["0000-01-01T00:00:00Z", "1969-12-31T23:59:59.999999Z", "9999-12-30T21:59:59Z"]
        {
            check(edge.parse::<jiff::Timestamp>().unwrap().as_microsecond());
        }
        assert_eq!(written(253_402_300_799_999_999), "9999-12-31T23:59:59.999999Z");
        assert_eq!(written(253_402_300_800_000_000), "253402300800000000us");
        assert_eq!(written(i64::MIN), "-9223372036854775808us");
    }
}
