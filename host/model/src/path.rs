//! Path functions: the value at one place of a message is sent instead of the message.
//!
//! A path is `record`, `changes`, `action` or `metadata`, and keys behind dots. A key is looked up in
//! objects only; what is not there is null. A path stands alone: it is no member of a chain of
//! transforms.

use std::fmt;
use std::str::FromStr;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::change::Change;

/// The most characters of a path, as the predecessor had it.
pub const CHARACTERS_MAX: usize = 2_000;

/// What stands at the top of a message.
const ROOTS: [&str; 4] = ["record", "changes", "action", "metadata"];

/// A path into a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// At least one: the first is one of [`ROOTS`].
    keys: Vec<Box<str>>,
}

/// Why a text is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    /// It is too long.
    #[error("the path has {characters} characters; {CHARACTERS_MAX} are the most")]
    TooLong {
        /// Its characters.
        characters: usize,
    },
    /// It begins with nothing that messages have.
    #[error("the path must begin with `record`, `changes`, `action` or `metadata`, not `{root}`")]
    Root {
        /// What it begins with.
        root: String,
    },
    /// Two dots follow each other, or one stands at an end.
    #[error("the path has an empty key: its keys stand between single dots")]
    EmptyKey,
    /// `action` is a text.
    #[error("the path goes on behind `action`, which is a text and has no keys")]
    BehindAction,
}

/// Why there is nothing to send.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A document must be an object.
    #[error("the value at `{path}` is no JSON object, and a document must be one")]
    NoObject {
        /// The path.
        path: String,
    },
    /// It leads into a value that Postgres did not send.
    #[error(
        "the value at `{path}` was not sent: the update did not touch it. To have it: REPLICA \
         IDENTITY FULL on the table, or `unchanged_values: fetch` on the sink"
    )]
    Unsent {
        /// The path.
        path: String,
    },
    /// The message is no JSON, which no engine writes.
    #[error("the path `{path}` cannot be followed: {reason}")]
    NoMessage {
        /// The path.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

impl FromStr for Path {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        let characters = text.chars().count();
        if characters > CHARACTERS_MAX {
            return Err(InvalidPath::TooLong { characters });
        }
        let keys: Vec<Box<str>> = text.split('.').map(Into::into).collect();
        let root = keys.first().map_or("", |root| &**root);
        if !ROOTS.contains(&root) {
            return Err(InvalidPath::Root { root: root.to_owned() });
        }
        if keys.iter().any(|key| key.is_empty()) {
            return Err(InvalidPath::EmptyKey);
        }
        if root == "action" && keys.len() > 1 {
            return Err(InvalidPath::BehindAction);
        }
        Ok(Self { keys })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.keys.join("."))
    }
}

impl Path {
    /// The value at the path of a message as it would have been sent, in JSON: `null` where there is
    /// none.
    ///
    /// # Errors
    /// The path leads into a value of the row that was not sent.
    pub fn value<'a>(&self, change: &Change, message: &'a str) -> Result<&'a str, PathError> {
        let mut json = message;
        for key in &self.keys {
            let found = pick(json, key).map_err(|error| PathError::NoMessage {
                path: self.to_string(),
                reason: error.to_string(),
            })?;
            json = match found {
                Some(value) => value.get(),
                None if self.is_unsent(change) => {
                    return Err(PathError::Unsent { path: self.to_string() });
                }
                None => return Ok("null"),
            };
        }
        Ok(json)
    }

    /// As [`Path::value`], for a document.
    ///
    /// # Errors
    /// Also: it is no object.
    pub fn object<'a>(&self, change: &Change, message: &'a str) -> Result<&'a str, PathError> {
        let value = self.value(change, message)?;
        if value.starts_with('{') {
            Ok(value)
        } else {
            Err(PathError::NoObject { path: self.to_string() })
        }
    }

    /// Whether it takes the whole record, which lacks what was not sent.
    #[must_use]
    pub fn is_record(&self) -> bool {
        matches!(self.keys.as_slice(), [root] if **root == *"record")
    }

    /// Whether it leads to a column that was not sent. Asked only where the record has no such key.
    fn is_unsent(&self, change: &Change) -> bool {
        let [root, name, ..] = self.keys.as_slice() else { return false };
        let named =
            |index: usize| change.relation.columns.get(index).is_some_and(|it| *it.name == **name);
        **root == *"record" && change.unsent().any(named)
    }
}

/// The value of a key of a JSON object; the last if there are several, as most readers have it. None
/// if there is none, or if it is no object.
pub(crate) fn pick<'a>(json: &'a str, key: &str) -> serde_json::Result<Option<&'a RawValue>> {
    if !json.starts_with('{') {
        return Ok(None);
    }
    let mut reader = serde_json::Deserializer::from_str(json);
    reader.deserialize_map(Pick(key))
}

struct Pick<'k>(&'k str);

impl<'de> Visitor<'de> for Pick<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = map.next_key_seed(IsKey(self.0))? {
            if is_it {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Compares a key without keeping it.
struct IsKey<'k>(&'k str);

impl<'de> DeserializeSeed<'de> for IsKey<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for IsKey<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Operation;
    use crate::sample::Cell::{Null, Text, Unchanged};
    use crate::sample::{change, relation};

    #[test]
    fn a_path_is_a_root_and_keys() {
        for good in ["record", "record.tags.a b", "changes.name", "action", "metadata.consumer.id"]
        {
            assert_eq!(good.parse::<Path>().map(|path| path.to_string()), Ok(good.to_owned()));
        }
        let root = |root: &str| InvalidPath::Root { root: root.to_owned() };
        for (bad, expected) in [
            ("", root("")),
            ("rows.id", root("rows")),
            ("Record", root("Record")),
            (".record", root("")),
            ("record..id", InvalidPath::EmptyKey),
            ("record.", InvalidPath::EmptyKey),
            ("action.x", InvalidPath::BehindAction),
        ] {
            assert_eq!(bad.parse::<Path>(), Err(expected), "{bad}");
        }
        let of = |characters: usize| format!("record.{}", "é".repeat(characters - 7));
        assert!(of(2_000).parse::<Path>().is_ok(), "characters, not bytes");
        let expected = InvalidPath::TooLong { characters: 2_001 };
        assert_eq!(of(2_001).parse::<Path>(), Err(expected));
    }

    #[test]
    fn a_value_is_what_stands_there_and_null_where_nothing_does() {
        let cells = [Text("7"), Text("de"), Unchanged, Null];
        let change = change(&relation(&["id"]), Operation::Update, None, Some(cells));
        let message = r#"{"record":{"id":7,"lang":"de","tags":[{"a":1}],"o":{"a":{"b":1e400},"\u0061x":2,
            "a":{"b":3.10}}},"changes":null,"action":"update","metadata":{"consumer":{"id":"c"}}}"#;
        let value = |path: &str| path.parse::<Path>().unwrap().value(&change, message);
        assert_eq!(value("record.id"), Ok("7"));
        assert_eq!(value("record.lang"), Ok("\"de\""));
        assert_eq!(value("record.o.a.b"), Ok("3.10"), "as it stands, and the last of a name");
        assert_eq!(value("record.o.ax"), Ok("2"), "a key is compared as text");
        assert_eq!(value("metadata.consumer"), Ok(r#"{"id":"c"}"#));
        assert_eq!(value("action"), Ok("\"update\""));
        assert_eq!(value("changes"), Ok("null"));
        for missing in
            ["changes.name", "record.nix", "record.id.x", "record.tags.0", "record.lang.x"]
        {
            assert_eq!(value(missing), Ok("null"), "{missing}");
        }
        let unsent = value("record.name").unwrap_err().to_string();
        assert!(unsent.contains("`record.name` was not sent"), "{unsent}");
        assert!(value("record.name.x").is_err());
        let object = |path: &str| path.parse::<Path>().unwrap().object(&change, message);
        assert!(object("record.o").is_ok());
        assert!(matches!(object("record.id"), Err(PathError::NoObject { .. })));
        assert!(matches!(object("record.nix"), Err(PathError::NoObject { .. })));
    }
}
