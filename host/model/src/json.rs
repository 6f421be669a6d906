//! The one encoder of values to JSON.
//!
//! It appends to a buffer and never builds a tree: JSON columns and numbers are pasted as they
//! stand, only texts are escaped.

use std::fmt::Write as _;

use crate::page::Value;
use crate::relation::Kind;

/// Appends `text` as a JSON string.
pub fn string(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| byte < 0x20 || byte == b'"' || byte == b'\\')
    {
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

/// Appends a value of a column of this kind. An unchanged value has no JSON form: callers leave its
/// key out; should one come here all the same it is written as null.
pub fn value(out: &mut String, kind: Kind, value: Value<'_>) {
    match value {
        Value::Null | Value::Unchanged => out.push_str("null"),
        Value::Text(text) => match kind {
            Kind::Boolean | Kind::Integer | Kind::Json => out.push_str(text),
            Kind::Float if is_number(text) => out.push_str(text),
            Kind::Float | Kind::Text | Kind::Bytes => string(out, text),
        },
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
