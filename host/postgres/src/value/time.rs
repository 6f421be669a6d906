//! `timestamp` and `timestamptz` as ISO 8601.

/// Appends the time as ISO 8601 with microseconds, and `Z` if it has a zone. False, with nothing
/// appended, if four-digit ISO cannot say it: infinities, years beyond 9999 and before 1.
pub(super) fn write(text: &str, zone: bool, out: &mut String) -> bool {
    let Some((date, time, fraction)) = parts(text, zone) else { return false };
    out.push_str(date);
    out.push('T');
    out.push_str(time);
    out.push('.');
    out.push_str(fraction);
    for _ in fraction.len()..6 {
        out.push('0');
    }
    if zone {
        out.push('Z');
    }
    true
}

/// Date, time of day and digits after the point of `2024-01-02 03:04:05.123+00`. The session's zone
/// is UTC, so every offset is `+00`.
fn parts(text: &str, zone: bool) -> Option<(&str, &str, &str)> {
    let text = if zone { text.strip_suffix("+00")? } else { text };
    let (date, rest) = text.split_at_checked(10)?;
    let (time, rest) = rest.strip_prefix(' ')?.split_at_checked(8)?;
    let fraction = if rest.is_empty() { "" } else { rest.strip_prefix('.')? };
    let shaped = |text: &str, separator: u8, places: [usize; 2]| {
        text.bytes().enumerate().all(|(at, byte)| {
            if places.contains(&at) { byte == separator } else { byte.is_ascii_digit() }
        })
    };
    let good = shaped(date, b'-', [4, 7])
        && shaped(time, b':', [2, 5])
        && fraction.len() <= 6
        && fraction.bytes().all(|byte| byte.is_ascii_digit());
    good.then_some((date, time, fraction))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b044_times_are_iso_with_microseconds_or_left_alone() {
        for (text, zone, expected) in [
            ("2024-01-02 03:04:05", false, Some("2024-01-02T03:04:05.000000")),
            ("2024-01-02 03:04:05.1", false, Some("2024-01-02T03:04:05.100000")),
            ("0001-01-01 00:00:00.123456+00", true, Some("0001-01-01T00:00:00.123456Z")),
            ("9999-12-31 23:59:59.999999+00", true, Some("9999-12-31T23:59:59.999999Z")),
            ("294276-12-31 23:59:59.999999", false, None),
            ("10000-01-01 00:00:00+00", true, None),
            ("0044-03-15 12:00:00+00 BC", true, None),
            ("0044-03-15 12:00:00 BC", false, None),
            ("infinity", false, None),
            ("-infinity", true, None),
            ("2024-01-02 03:04:05+02", true, None),
            ("2024-01-02 03:04:05.", false, Some("2024-01-02T03:04:05.000000")),
            ("žžžžž03:04:05", false, None),
            ("", true, None),
        ] {
            let mut out = String::new();
            assert_eq!(write(text, zone, &mut out), expected.is_some(), "{text}");
            assert_eq!(out, expected.unwrap_or_default(), "{text}");
        }
    }
}
