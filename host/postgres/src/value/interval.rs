//! Intervals: months, days and microseconds, which is how Postgres keeps them.

use model::json;

use super::Unreadable;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Interval {
    months: i64,
    days: i64,
    microseconds: i64,
}

/// Appends the interval as a JSON object.
pub(super) fn write(text: &str, out: &mut String) -> Result<(), Unreadable> {
    // Since Postgres 17.
    if matches!(text, "infinity" | "-infinity") {
        json::string(out, text);
        return Ok(());
    }
    let Interval { months, days, microseconds } = parse(text).ok_or(Unreadable)?;
    json::push_fmt(
        out,
        format_args!("{{\"months\":{months},\"days\":{days},\"microseconds\":{microseconds}}}"),
    );
    Ok(())
}

/// Reads IntervalStyle `postgres`: `1 year 2 mons -3 days +04:05:06.789`.
fn parse(text: &str) -> Option<Interval> {
    let mut interval = Interval::default();
    let mut words = text.split(' ').peekable();
    words.peek().filter(|word| !word.is_empty())?;
    while let Some(word) = words.next() {
        if word.contains(':') {
            interval.microseconds = time(word)?;
            // The time of day comes last.
            return words.next().is_none().then_some(interval);
        }
        let count: i64 = word.parse().ok()?;
        let (field, factor) = match words.next()? {
            "year" | "years" => (&mut interval.months, 12),
            "mon" | "mons" => (&mut interval.months, 1),
            "day" | "days" => (&mut interval.days, 1),
            _ => return None,
        };
        *field = field.checked_add(count.checked_mul(factor)?)?;
    }
    Some(interval)
}

/// Microseconds of `-04:05:06.789`. There may be many hours.
fn time(text: &str) -> Option<i64> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut fields = text.split(':');
    let (hours, minutes, seconds) = (fields.next()?, fields.next()?, fields.next()?);
    if fields.next().is_some() {
        return None;
    }
    let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let whole = number(hours)?
        .checked_mul(60)?
        .checked_add(number(minutes)?)?
        .checked_mul(60)?
        .checked_add(number(seconds)?)?;
    let fraction = match u32::try_from(fraction.len()).ok()? {
        0 => 0,
        len @ 1..=6 => number(fraction)?.checked_mul(10_i64.checked_pow(6 - len)?)?,
        _ => return None,
    };
    whole.checked_mul(1_000_000)?.checked_add(fraction)?.checked_mul(sign)
}

/// Digits alone.
fn number(text: &str) -> Option<i64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(months: i64, days: i64, microseconds: i64) -> Interval {
        Interval { months, days, microseconds }
    }

    #[test]
    fn b048_intervals_are_exact() {
        for (text, expected) in [
            ("00:00:00", interval(0, 0, 0)),
            ("1 year 2 mons 3 days 04:05:06.789", interval(14, 3, 14_706_789_000)),
            ("-1 years -2 mons +3 days -04:05:06", interval(-14, 3, -14_706_000_000)),
            ("1 mon -1 days +00:00:00.000001", interval(1, -1, 1)),
            ("-00:00:00.5", interval(0, 0, -500_000)),
            ("178000000 years", interval(2_136_000_000, 0, 0)),
            ("2562047788:00:54.775807", interval(0, 0, i64::MAX)),
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_interval_is_refused() {
        for bad in [
            "",
            " ",
            "1",
            "1 day 2",
            "day",
            "1 fortnight",
            "1:2",
            "1:2:3:4",
            "a:b:c",
            "00:00:00 1 day",
            "00:00:00.1234567",
            "--1 day",
            "9223372036854775807 years",
            "99999999999999:00:00",
            "00:00:-1",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn infinity_is_a_text() {
        let mut out = String::new();
        assert_eq!(write("-infinity", &mut out), Ok(()));
        assert_eq!(out, "\"-infinity\"");
    }
}
