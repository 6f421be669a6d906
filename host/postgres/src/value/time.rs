//! `timestamp` and `timestamptz` as ISO 8601.

/// A time as ISO 8601 with microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Iso {
    bytes: [u8; 27],
    /// Without the `Z` if it has no zone.
    len: usize,
}

impl Iso {
    /// Its text: ASCII.
    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

/// `2024-01-02 03:04:05.123+00` as ISO 8601 with microseconds, and `Z` if it has a zone. The
/// session's zone is UTC, so every offset is `+00`. None if four-digit ISO cannot say it: infinities,
/// years beyond 9999 and before 1.
#[inline]
pub(super) fn iso(text: &[u8], zone: bool) -> Option<Iso> {
    let text = if zone { text.strip_suffix(b"+00")? } else { text };
    let (seconds, rest) = text.split_first_chunk::<19>()?;
    let fraction = if rest.is_empty() { rest } else { rest.strip_prefix(b".")? };
    let good = has_shape(seconds.get(..8)?, *b"0000-00-")
        && has_shape(seconds.get(8..16)?, *b"00 00:00")
        && has_shape(seconds.get(11..)?, *b"00:00:00")
        && fraction.len() <= 6
        && fraction.iter().all(u8::is_ascii_digit);
    if !good {
        return None;
    }
    let mut bytes = *b"0000-00-00T00:00:00.000000Z";
    let (date, time) = seconds.split_at_checked(11)?;
    bytes.get_mut(..10)?.copy_from_slice(date.get(..10)?);
    bytes.get_mut(11..19)?.copy_from_slice(time);
    for (to, from) in bytes.iter_mut().skip(20).zip(fraction) {
        *to = *from;
    }
    Some(Iso { bytes, len: if zone { 27 } else { 26 } })
}

/// Whether eight bytes have a digit where `shape` has `0`, and else its own: all at once.
#[inline(always)]
fn has_shape(bytes: &[u8], shape: [u8; 8]) -> bool {
    let Some(bytes) = bytes.first_chunk() else { return false };
    // What is right becomes 0 to 9 or just 0, and with so much more it is below 0x80 still.
    let difference = u64::from_ne_bytes(*bytes) ^ u64::from_ne_bytes(shape);
    let more = u64::from_ne_bytes(shape.map(|byte| if byte == b'0' { 0x76 } else { 0x7F }));
    let wrong = difference | difference.wrapping_add(more);
    wrong & u64::from_ne_bytes([0x80; 8]) == 0
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
            let iso = iso(text.as_bytes(), zone);
            assert_eq!(iso.as_ref().map(Iso::as_str), expected, "{text}");
        }
    }

    #[test]
    fn b044_one_wrong_byte_anywhere_leaves_a_time_alone() {
        let good = b"2024-01-02 03:04:05.678901+00";
        assert!(iso(good, true).is_some());
        for at in (0..good.len()).filter(|at| !(20..26).contains(at)) {
            for byte in (0..=u8::MAX).filter(|byte| *byte != good[at]) {
                let digit = good[at].is_ascii_digit() && at < 19;
                let mut text = *good;
                text[at] = byte;
                let still = digit && byte.is_ascii_digit();
                assert_eq!(iso(&text, true).is_some(), still, "{byte} at {at}");
            }
        }
    }
}
