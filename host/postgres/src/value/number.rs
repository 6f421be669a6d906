//! Numbers, as far as they become JSON numbers: those are pasted into documents as they stand, so
//! they are checked first.

use super::Unreadable;

/// `text` if it is an integer of 64 bits.
pub(super) fn integer(text: &str) -> Result<&str, Unreadable> {
    // Nearly all: up to 18 digits fit whatever they are.
    if let [b'1'..=b'9', rest @ ..] = text.as_bytes()
        && rest.len() < 18
        && rest.iter().all(u8::is_ascii_digit)
    {
        return Ok(text);
    }
    // The standard parser also takes a plus sign and leading zeros, which JSON does not.
    if is_json(text) && text.parse::<i64>().is_ok() { Ok(text) } else { Err(Unreadable) }
}

/// `text` if it is a float as Postgres prints it.
pub(super) fn float(text: &str) -> Result<&str, Unreadable> {
    match text {
        "NaN" | "Infinity" | "-Infinity" => Ok(text),
        _ if is_json(text) => Ok(text),
        _ => Err(Unreadable),
    }
}

/// Appends a vector, which prints itself as JSON does.
pub(super) fn vector(text: &str, out: &mut String) -> Result<(), Unreadable> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if !inner.ok_or(Unreadable)?.split(',').all(is_json) {
        return Err(Unreadable);
    }
    out.push_str(text);
    Ok(())
}

/// Whether the text is a number by JSON's grammar: `-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?`.
fn is_json(text: &str) -> bool {
    let rest = text.strip_prefix('-').unwrap_or(text).as_bytes();
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
    let len = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if len == 0 { None } else { bytes.split_at_checked(len) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_of_json_pass() {
        for good in ["0", "-0", "10", "1.5", "1e+20", "1.5E-07", "-12.30"] {
            assert!(is_json(good), "{good}");
        }
        for bad in ["", "-", "+1", "01", "1.", ".5", "1e", "1e+", "0x1", "1 ", "1e5x", "NaN", "--1"]
        {
            assert!(!is_json(bad), "{bad}");
        }
    }

    #[test]
    fn integers_are_of_64_bits_and_written_as_json_has_them() {
        for good in ["0", "-1", "7", "999999999999999999", "9223372036854775807"] {
            assert_eq!(integer(good), Ok(good));
        }
        for bad in ["", "-", "00", "01", "1x", "1.0", "-01", "9223372036854775808", "1 "] {
            assert_eq!(integer(bad), Err(Unreadable), "{bad}");
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
