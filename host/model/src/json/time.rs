//! Times as messages have them.

use super::{push_fmt, string};

const DAY_US: i64 = 86_400_000_000;

/// Appends a time, in microseconds since 1970, as ISO 8601 in UTC with microseconds.
pub fn timestamp(out: &mut String, microseconds: i64) {
    /// Of the days 0000-01-01 to 9999-12-31, counted from 1970: what four digits can say.
    const DAYS: std::ops::RangeInclusive<i64> = -719_528..=2_932_896;
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

/// Appends a time in its canonical text as microseconds since 1970; an infinity stays a text.
pub(super) fn unix(out: &mut String, text: &str) {
    match microseconds(text) {
        Some(microseconds) => push_fmt(out, format_args!("{microseconds}")),
        None => string(out, text),
    }
}

/// Appends a JSON array of times, nested or not, with each time as microseconds.
pub(super) fn unix_array(out: &mut String, array: &str) {
    let mut rest = array;
    while let Some((before, behind)) = rest.split_once('"') {
        out.push_str(before);
        // No text of a time has anything to escape; with a backslash it is something else.
        let Some((text, tail)) = behind.split_once('"').filter(|(text, _)| !text.contains('\\'))
        else {
            out.push('"');
            out.push_str(behind);
            return;
        };
        unix(out, text);
        rest = tail;
    }
    out.push_str(rest);
}

/// The microseconds since 1970 of a time in its canonical text: `2024-01-02T03:04:05.123456Z`, or as
/// Postgres prints what that cannot say, `294276-12-31 23:59:59+00` and `0044-03-15 12:00:00 BC`. The
/// session's zone is UTC. None if it is no such time.
pub(crate) fn microseconds(text: &str) -> Option<i128> {
    let (text, before_christ) = match text.strip_suffix(" BC") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let text = text.strip_suffix('Z').or_else(|| text.strip_suffix("+00")).unwrap_or(text);
    let (date, time) = text.split_once(['T', ' '])?;
    let mut date = date.splitn(3, '-');
    let (year, month, day) = (digits(date.next()?)?, digits(date.next()?)?, digits(date.next()?)?);
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut time = time.splitn(3, ':');
    let (hour, minute, second) =
        (digits(time.next()?)?, digits(time.next()?)?, digits(time.next()?)?);
    let good = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour <= 24
        && minute < 60
        && second <= 60
        && fraction.len() <= 6;
    if !good {
        return None;
    }
    let fraction = if fraction.is_empty() { 0 } else { digits(&format!("{fraction:0<6}"))? };
    // There is no year 0: 1 BC comes before 1.
    let year = if before_christ { 1 - year } else { year };
    let seconds = (hour * 60 + minute) * 60 + second;
    let days = i128::from(days(year, month, day));
    Some(days * i128::from(DAY_US) + i128::from(seconds * 1_000_000 + fraction))
}

/// A number of up to nine digits and nothing else.
fn digits(text: &str) -> Option<i64> {
    let good = (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    good.then(|| text.parse().ok())?
}

/// The day counted from 1970 of a date; the reverse of [`civil`], from the same source.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b111_times_are_microseconds_also_before_christ_and_beyond_four_digits() {
        for (text, expected) in [
            ("1970-01-01T00:00:00.000000Z", "0"),
            ("2024-02-29T12:00:00.000001Z", "1709208000000001"),
            ("2024-02-29T12:00:00.000001", "1709208000000001"),
            ("1969-12-31T23:59:59.999999Z", "-1"),
            // By Postgres: extract(epoch from …) * 1000000.
            ("0044-03-15 12:00:00 BC", "-63517780800000000"),
            ("0001-12-31 23:59:59.5+00 BC", "-62135596800500000"),
            ("4713-01-01 00:00:00+00 BC", "-210863520000000000"),
            ("10000-01-01 00:00:00+00", "253402300800000000"),
            ("294276-12-31 23:59:59.999999", "9224318015999999999"),
            ("infinity", "\"infinity\""),
            ("-infinity", "\"-infinity\""),
            ("2024-13-01T00:00:00.000000Z", "\"2024-13-01T00:00:00.000000Z\""),
            ("\\xff", "\"\\\\xff\""),
            ("", "\"\""),
        ] {
            let mut out = String::new();
            unix(&mut out, text);
            assert_eq!(out, expected, "{text}");
        }
    }

    #[test]
    fn b111_arrays_of_times_are_converted_however_deep() {
        let array =
            r#"[["1970-01-01T00:00:01.000000Z",null],["infinity","0001-12-31 23:59:59 BC"]]"#;
        let mut out = String::new();
        unix_array(&mut out, array);
        assert_eq!(out, r#"[[1000000,null],["infinity",-62135596801000000]]"#);
        for other in ["[]", r#"["a\"b", "1970-01-01T00:00:01.000000Z"]"#, "\"\\xff\"", "\""] {
            let mut out = String::new();
            unix_array(&mut out, other);
            assert_eq!(out, other);
        }
    }

    #[test]
    fn microseconds_are_what_was_written() {
        for day in -146_097..146_097_i64 {
            let at = day * DAY_US + day.rem_euclid(86_400) * 1_000_000 + 12_345;
            let mut text = String::new();
            timestamp(&mut text, at);
            assert_eq!(microseconds(&text), Some(at.into()), "{text}");
        }
    }

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
