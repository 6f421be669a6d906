//! Where two JSON documents differ, by field.
//!
//! Numbers are compared as they are written, since a value that went through a float is another
//! one; white space and the order of fields mean nothing.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Of one value: more is cut.
const TEXT_MAX: usize = 400;

/// One place where the documents differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// As `record.tags[1]`; empty if the documents differ as a whole.
    pub path: String,
    /// What was expected; None if nothing was.
    pub expected: Option<String>,
    /// What was found; None if nothing was.
    pub found: Option<String>,
}

/// All places where the documents differ; one that is no JSON differs as a whole.
#[must_use]
pub fn differences(expected: &str, found: &str) -> Vec<Difference> {
    let mut all = Vec::new();
    if expected != found {
        match (serde_json::from_str(expected), serde_json::from_str(found)) {
            (Ok(expected), Ok(found)) => compare(&mut all, String::new(), expected, found),
            _ => add(&mut all, String::new(), Some(expected), Some(found)),
        }
    }
    all
}

fn compare(all: &mut Vec<Difference>, path: String, expected: &RawValue, found: &RawValue) {
    if expected.get() == found.get() {
        return;
    }
    if let (Some(expected), Some(found)) = (fields(expected), fields(found)) {
        return compare_fields(all, &path, &expected, &found);
    }
    let elements = |raw: &RawValue| serde_json::from_str::<Vec<Box<RawValue>>>(raw.get()).ok();
    if let (Some(expected), Some(found)) = (elements(expected), elements(found)) {
        for index in 0..expected.len().max(found.len()) {
            let path = format!("{path}[{index}]");
            match (expected.get(index), found.get(index)) {
                (Some(expected), Some(found)) => compare(all, path, expected, found),
                (expected, found) => {
                    add(all, path, expected.map(|it| it.get()), found.map(|it| it.get()));
                }
            }
        }
        return;
    }
    let text = |raw: &RawValue| serde_json::from_str::<String>(raw.get()).ok();
    if text(expected).is_some_and(|expected| Some(expected) == text(found)) {
        return;
    }
    add(all, path, Some(expected.get()), Some(found.get()));
}

type Fields<'a> = Vec<(Cow<'a, str>, &'a RawValue)>;

/// Of fields of one name, the first is compared with the first.
fn compare_fields(
    all: &mut Vec<Difference>,
    path: &str,
    expected: &Fields<'_>,
    found: &Fields<'_>,
) {
    let inner =
        |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let (mut left, mut right) = (expected.iter().peekable(), found.iter().peekable());
    loop {
        match (left.peek(), right.peek()) {
            (None, None) => return,
            (Some((name, expected)), Some((other, found))) if name == other => {
                compare(all, inner(name), expected, found);
                left.next();
                right.next();
            }
            (Some((name, expected)), other) if other.is_none_or(|(other, _)| name < other) => {
                add(all, inner(name), Some(expected.get()), None);
                left.next();
            }
            (_, Some((name, found))) => {
                add(all, inner(name), None, Some(found.get()));
                right.next();
            }
            (Some(_), None) => return,
        }
    }
}

fn add(all: &mut Vec<Difference>, path: String, expected: Option<&str>, found: Option<&str>) {
    let cut = |text: &str| {
        let end = text.floor_char_boundary(TEXT_MAX);
        let more = if end < text.len() { "…" } else { "" };
        format!("{}{more}", text.get(..end).unwrap_or_default())
    };
    all.push(Difference { path, expected: expected.map(cut), found: found.map(cut) });
}

/// The fields of an object by name, those of one name in their order.
fn fields(raw: &RawValue) -> Option<Fields<'_>> {
    struct Collect;
    impl<'de> Visitor<'de> for Collect {
        type Value = Fields<'de>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut fields = Vec::new();
            while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                fields.push((Cow::Owned(name), value));
            }
            Ok(fields)
        }
    }
    let mut fields = serde_json::Deserializer::from_str(raw.get()).deserialize_map(Collect).ok()?;
    fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    Some(fields)
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, expected, found } = self;
        let path = if path.is_empty() { "(all of it)" } else { path };
        match (expected, found) {
            (Some(expected), Some(found)) => write!(f, "{path}: {expected} -> {found}"),
            (Some(expected), None) => write!(f, "{path}: {expected} -> nothing"),
            (None, Some(found)) => write!(f, "{path}: nothing -> {found}"),
            (None, None) => f.write_str(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_differ_by_field_and_numbers_by_their_digits() {
        let told = |expected: &str, found: &str| {
            differences(expected, found).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        for same in [
            (r#"{"a": 1, "b": [1, {"c": null}]}"#, r#"{"b":[1,{"c":null}],"a":1}"#),
            (r#""\u00e9""#, "\"é\""),
            ("{}", "{ }"),
        ] {
            assert_eq!(told(same.0, same.1), [""; 0], "{same:?}");
        }
        let (expected, found) = (
            r#"{"outcome":"keep","record":{"id":1,"gone":2,"tags":["a","b"],"n":9007199254740993}}"#,
            r#"{"outcome":"keep","record":{"id":1,"new":"x","tags":["a"],"n":9007199254740992}}"#,
        );
        let all = [
            "record.gone: 2 -> nothing",
            "record.n: 9007199254740993 -> 9007199254740992",
            "record.new: nothing -> \"x\"",
            "record.tags[1]: \"b\" -> nothing",
        ];
        assert_eq!(told(expected, found), all);
        assert_eq!(told("1.0", "1.00"), ["(all of it): 1.0 -> 1.00"]);
        assert_eq!(told(r#"{"b":1,"b":2}"#, r#"{"b":2,"b":2}"#), ["b: 1 -> 2"]);
        assert_eq!(told("{", "{}"), ["(all of it): { -> {}"]);
        assert_eq!(told("{}", "[]"), ["(all of it): {} -> []"]);
        // Longer than what is shown, and cut between letters.
        let long = format!("\"{}\"", "é".repeat(TEXT_MAX));
        assert!(told("1", &long)[0].ends_with("é…"));
    }
}
