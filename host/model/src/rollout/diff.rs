//! Where two outputs differ, field by field.

use serde_json::Value;

/// A field that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where: a JSON pointer.
    pub pointer: String,
    /// What the version in use gives, as JSON; None: nothing stands there.
    pub old: Option<String>,
    /// What the new one gives.
    pub new: Option<String>,
}

/// Of one value: more is cut off, and that is said.
const TEXT_MAX: usize = 512;

/// The first differences of two JSON texts, in the order of their fields; none if they say the same.
/// What is no JSON differs as a whole.
#[must_use]
pub fn diff(old: &str, new: &str, max: usize) -> Vec<Difference> {
    let mut found = Vec::new();
    match (serde_json::from_str::<Value>(old), serde_json::from_str::<Value>(new)) {
        (Ok(old), Ok(new)) => compare(Some(&old), Some(&new), &mut String::new(), max, &mut found),
        _ if old != new && max > 0 => found.push(Difference {
            pointer: String::new(),
            old: Some(cut(old.to_owned())),
            new: Some(cut(new.to_owned())),
        }),
        _ => {}
    }
    found
}

/// Whether two JSON texts say the same, whatever the order of their fields.
#[must_use]
pub fn is_same(old: &str, new: &str) -> bool {
    old == new || diff(old, new, 1).is_empty()
}

// As deep as serde_json reads: 128 levels.
fn compare(
    old: Option<&Value>,
    new: Option<&Value>,
    pointer: &mut String,
    max: usize,
    found: &mut Vec<Difference>,
) {
    if found.len() >= max || old == new {
        return;
    }
    let len = pointer.len();
    match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let added = new.keys().filter(|key| !old.contains_key(*key));
            for key in old.keys().chain(added) {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
                compare(old.get(key), new.get(key), pointer, max, found);
                pointer.truncate(len);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            for index in 0..old.len().max(new.len()) {
                pointer.push_str(&format!("/{index}"));
                compare(old.get(index), new.get(index), pointer, max, found);
                pointer.truncate(len);
            }
        }
        (old, new) => {
            let text = |value: &Value| cut(value.to_string());
            let (old, new) = (old.map(text), new.map(text));
            found.push(Difference { pointer: pointer.clone(), old, new });
        }
    }
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_MAX {
        let whole = text.len();
        text.truncate(text.floor_char_boundary(TEXT_MAX));
        text.push_str(&format!("… ({whole} bytes)"));
    }
    text
}
