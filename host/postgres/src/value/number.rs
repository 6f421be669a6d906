//! Numbers, as far as they become JSON numbers: those are pasted into documents as they stand, so
//! they are checked first.

use super::Unreadable;

/// The text is an integer of 64 bits; else an error.
pub(super) fn integer(text: &[u8]) -> Result<(), Unreadable> {
    // Nearly all: up to 18 digits fit whatever they are.
    if let [b'1'..=b'9', rest @ ..] = text
        && rest.len() < 18
        && leading_digits(rest) == rest.len()
    {
        return Ok(());
    }
    // The standard parser also takes a plus sign and leading zeros, which JSON does not.
    let fits = |text: &str| text.parse::<i64>().is_ok();
    if is_json(text) && std::str::from_utf8(text).is_ok_and(fits) {
        Ok(())
    } else {
        Err(Unreadable)
    }
}

/// What a float is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Float {
    /// A number, as JSON has them.
    Number,
    /// `NaN` or an infinity.
    Word,
}

/// What float the text is, as Postgres prints it.
pub(super) fn float(text: &[u8]) -> Result<Float, Unreadable> {
    match text {
        _ if is_json(text) => Ok(Float::Number),
        b"NaN" | b"Infinity" | b"-Infinity" => Ok(Float::Word),
        _ => Err(Unreadable),
    }
}

/// Appends a vector, which prints itself as JSON does.
pub(super) fn vector(text: &str, out: &mut String) -> Result<(), Unreadable> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if !inner.ok_or(Unreadable)?.split(',').all(|number| is_json(number.as_bytes())) {
        return Err(Unreadable);
    }
    out.push_str(text);
    Ok(())
}

/// Whether the text is a number by JSON's grammar: `-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?`.
fn is_json(text: &[u8]) -> bool {
    let rest = text.strip_prefix(b"-").unwrap_or(text);
    let Some((integer, rest)) = digits(rest) else { return false };
    if integer.len() > 1 && integer.first() == Some(&b'0') {
        return false;
    }
    let rest = match rest.split_first() {
        Some((b'.', fraction)) => match digits(fraction) {
            Some((_, rest)) => rest,
            None => return false,
        },
        _ => rest,
    };
    match rest.split_first() {
        None => true,
        Some((b'e' | b'E', exponent)) => {
            let unsigned = match exponent.split_first() {
                Some((b'+' | b'-', rest)) => rest,
                _ => exponent,
            };
            digits(unsigned).is_some_and(|(_, rest)| rest.is_empty())
        }
        Some(_) => false,
    }
}

/// One digit or more, and what follows.
fn digits(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = leading_digits(bytes);
    if len == 0 { None } else { bytes.split_at_checked(len) }
}

/// How many digits there are before anything else: eight bytes at a time.
fn leading_digits(bytes: &[u8]) -> usize {
    let (words, tail) = bytes.as_chunks();
    for (index, word) in words.iter().enumerate() {
        // A digit becomes 0 to 9, and with 0x76 more it is below 0x80 still. What is carried into
        // the next byte comes from one that is none.
        let digits = u64::from_le_bytes(*word) ^ u64::from_ne_bytes([b'0'; 8]);
        let sum = digits.wrapping_add(u64::from_ne_bytes([0x76; 8]));
        let others = (digits | sum) & u64::from_ne_bytes([0x80; 8]);
        if others != 0 {
            return index * 8 + others.trailing_zeros() as usize / 8;
        }
    }
    words.len() * 8 + tail.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_of_json_pass() {
        for good in ["0", "-0", "10", "1.5", "1e+20", "1.5E-07", "-12.30"] {
            assert!(is_json(good.as_bytes()), "{good}");
        }
        for bad in ["", "-", "+1", "01", "1.", ".5", "1e", "1e+", "0x1", "1 ", "1e5x", "NaN", "--1"]
        {
            assert!(!is_json(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn digits_are_counted_up_to_what_is_none_wherever_it_stands() {
        for byte in (0..=u8::MAX).filter(|byte| !byte.is_ascii_digit()) {
            for at in 0..20 {
                let mut bytes = *b"01234567899876543210";
                bytes[at] = byte;
                assert_eq!(leading_digits(&bytes), at, "{byte} at {at}");
                bytes[at + 1..].fill(byte);
                assert_eq!(leading_digits(&bytes), at, "{byte} from {at}");
            }
        }
        assert_eq!(leading_digits(&[b'7'; 20]), 20);
    }

    #[test]
    fn integers_are_of_64_bits_and_written_as_json_has_them() {
        for good in ["0", "-1", "7", "999999999999999999", "9223372036854775807"] {
            assert_eq!(integer(good.as_bytes()), Ok(()), "{good}");
        }
        for bad in ["", "-", "00", "01", "1x", "1.0", "-01", "9223372036854775808", "1 "] {
            assert_eq!(integer(bad.as_bytes()), Err(Unreadable), "{bad}");
        }
    }

    #[test]
    fn b065_vectors_are_lists_of_numbers() {
        for (text, good) in
            [("[1,2.5]", true), ("[]", false), ("[1,]", false), ("[NaN]", false), ("1,2", false)]
        {
            let mut out = String::new();
            assert_eq!(vector(text, &mut out).is_ok(), good, "{text}");
            assert_eq!(out, if good { text } else { "" });
        }
    }
}
