//! The one encoder of values to JSON.
//!
//! It appends to a buffer and never builds a tree: JSON columns and numbers are pasted as they
//! stand, only texts are escaped.

mod time;

use std::fmt::Write as _;

use crate::page::Value;
use crate::relation::{Column, Kind};
pub(crate) use time::microseconds;
pub use time::timestamp;

/// How times are written: values of `timestamp` and `timestamptz`, and arrays of them. Dates and
/// times of day stay texts, as the predecessor has them; so do times inside of other values (ranges,
/// composites, JSON).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timestamps {
    /// `2024-01-02T03:04:05.123456Z`.
    #[default]
    Iso8601,
    /// Microseconds since 1970-01-01 00:00 UTC as an integer, negative before; a time without a
    /// zone counts as UTC. The infinities stay texts. Beyond the year 294246 it needs more than 64
    /// bits.
    UnixMicroseconds,
}

/// Microseconds since 1970 as messages write times, without quotes.
#[must_use]
pub fn time_of_day(microseconds: i64) -> String {
    let mut out = String::new();
    timestamp(&mut out, microseconds);
    out.trim_matches('"').to_owned()
}

/// Appends `text` as a JSON string.
pub fn string(out: &mut String, text: &str) {
    out.reserve(text.len() + 2);
    out.push('"');
    let mut rest = text;
    while let Some(at) = first_escaped(rest.as_bytes()) {
        // `at` is the index of an ASCII byte, so both cuts fall on character boundaries.
        let (plain, tail) = rest.split_at(at);
        out.push_str(plain);
        let mut characters = tail.chars();
        match characters.next() {
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some('\t') => out.push_str("\\t"),
            Some(control) => push_fmt(out, format_args!("\\u{:04x}", control as u32)),
            None => {}
        }
        rest = characters.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

/// Where the first byte is that a JSON string cannot hold as it stands.
#[inline]
fn first_escaped(bytes: &[u8]) -> Option<usize> {
    let (words, tail) = bytes.as_chunks();
    for (index, word) in words.iter().enumerate() {
        let flags = escaped(*word);
        if flags != 0 {
            return Some(index * 8 + flags.trailing_zeros() as usize / 8);
        }
    }
    // What stands before the last eight bytes is known to be clean.
    let (offset, last) = match bytes.last_chunk() {
        _ if tail.is_empty() => return None,
        Some(last) => (bytes.len() - 8, *last),
        None => {
            let mut last = [b' '; 8];
            for (to, from) in last.iter_mut().zip(tail) {
                *to = *from;
            }
            (0, last)
        }
    };
    let flags = escaped(last);
    (flags != 0).then(|| offset + flags.trailing_zeros() as usize / 8)
}

/// The top bit of each byte that is escaped: control characters, `"` and `\`. Of those behind the
/// first one some may be wrong, by what is borrowed from them.
#[inline(always)]
fn escaped(bytes: [u8; 8]) -> u64 {
    const fn all(byte: u8) -> u64 {
        u64::from_le_bytes([byte; 8])
    }
    let word = u64::from_le_bytes(bytes);
    // With one bit turned, `"` is next to the control characters: 0x20, and blank is 0x22.
    let low = (word ^ all(0x02)).wrapping_sub(all(0x21));
    let backslash = (word ^ all(b'\\')).wrapping_sub(all(0x01));
    (low | backslash) & !word & all(0x80)
}

/// Appends a number in decimal digits; faster than formatting it.
pub fn number(out: &mut String, number: u64) {
    out.push_str(Digits::of(number).as_str());
}

/// A number as text, on the stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Digits {
    /// `u64::MAX` has 20.
    bytes: [u8; 20],
    first: usize,
}

impl Digits {
    pub(crate) fn of(mut number: u64) -> Self {
        let (mut bytes, mut first) = ([0; 20], 20);
        for byte in bytes.iter_mut().rev() {
            *byte = b'0' + (number % 10) as u8;
            number /= 10;
            first -= 1;
            if number == 0 {
                break;
            }
        }
        Self { bytes, first }
    }

    pub(crate) fn as_str(&self) -> &str {
        let digits = self.bytes.get(self.first..).unwrap_or_default();
        std::str::from_utf8(digits).unwrap_or_default()
    }
}

/// Appends a value of a column of this kind. An unchanged value has no JSON form: callers leave its
/// key out; should one come here all the same it is written as null.
pub fn value(out: &mut String, kind: Kind, value: Value<'_>) {
    match value {
        Value::Null | Value::Unchanged => out.push_str("null"),
        Value::Text(canonical) => text(out, kind, canonical),
    }
}

/// Appends the canonical text of a value that is there.
pub(crate) fn text(out: &mut String, kind: Kind, text: &str) {
    match kind {
        Kind::Boolean | Kind::Integer | Kind::Json => out.push_str(text),
        Kind::Float if is_number(text) => out.push_str(text),
        Kind::Float | Kind::Text | Kind::Bytes => string(out, text),
    }
}

/// Appends the canonical text of a value that is there, times as microseconds.
pub(crate) fn unix_text(out: &mut String, column: &Column, text: &str) {
    match (column.kind, &*column.type_name) {
        (Kind::Text, "timestamp" | "timestamptz") => time::unix(out, text),
        (Kind::Json, "_timestamp" | "_timestamptz") => time::unix_array(out, text),
        (kind, _) => self::text(out, kind, text),
    }
}

/// Appends formatted text. Writing to a `String` cannot fail.
pub fn push_fmt(out: &mut String, text: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "formatting into a String");
}

/// Whether canonical float text is a JSON number rather than `NaN` or an infinity.
fn is_number(text: &str) -> bool {
    text.bytes().last().is_some_and(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: Kind, text: &str, expected: &str) {
        let mut out = String::new();
        value(&mut out, kind, Value::Text(text));
        assert_eq!(out, expected);
        let parsed: Result<&serde_json::value::RawValue, _> = serde_json::from_str(&out);
        assert!(parsed.is_ok(), "{out}");
    }

    #[test]
    fn values_become_json_by_their_kind() {
        check(Kind::Boolean, "true", "true");
        check(Kind::Integer, "9223372036854775807", "9223372036854775807");
        check(Kind::Float, "1.5e-07", "1.5e-07");
        check(Kind::Float, "NaN", "\"NaN\"");
        check(Kind::Float, "-Infinity", "\"-Infinity\"");
        check(Kind::Text, "12345678901234567890.5", "\"12345678901234567890.5\"");
        check(Kind::Json, "{\"a\": 1e400}", "{\"a\": 1e400}");
        check(Kind::Bytes, "\\x00ff", "\"\\\\x00ff\"");
    }

    #[test]
    fn strings_are_escaped_and_nothing_else_is() {
        check(Kind::Text, "a\"b\\c\nd\te\u{1}f", "\"a\\\"b\\\\c\\nd\\te\\u0001f\"");
        check(Kind::Text, "žluťoučký 🦀", "\"žluťoučký 🦀\"");
    }

    #[test]
    fn a_number_is_its_digits() {
        for number in [0, 7, 10, 1_234_567_890, u64::MAX] {
            assert_eq!(Digits::of(number).as_str(), number.to_string());
        }
    }

    #[test]
    fn every_byte_is_escaped_wherever_it_stands() {
        for byte in 0..=0x7F {
            for at in 0..20 {
                let mut text = "é".repeat(at) + "x";
                text.push(char::from(byte));
                text.push_str("yé");
                let mut out = String::new();
                string(&mut out, &text);
                let back: String = serde_json::from_str(&out).unwrap();
                assert_eq!(back, text, "{byte} at {at}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_survives(text in ".*") {
            let mut out = String::new();
            string(&mut out, &text);
            let back: String = serde_json::from_str(&out).unwrap();
            assert_eq!(back, text);
        }
    }
}
