//! What did not fit: telling it to a user, and mending it so that reading goes on.

use std::fmt;

use serde::de::{Error, Expected, Unexpected};

use crate::diagnostic::{Place, Report};
use crate::nearest::nearest;
use crate::tree::{Entry, Kind, Node};

/// What does not fit, and where.
#[derive(Debug)]
pub(super) struct Fault {
    what: What,
    /// From the innermost step outwards.
    path: Vec<Step>,
    place: Option<Place>,
}

#[derive(Debug)]
enum What {
    UnknownKey { key: String, known: &'static [&'static str] },
    UnknownValue { value: String, known: &'static [&'static str] },
    Missing(&'static str),
    Other(String),
}

#[derive(Debug)]
pub(super) enum Step {
    Key(String),
    Item(usize),
}

impl Fault {
    fn new(what: What) -> Self {
        Self { what, path: Vec::new(), place: None }
    }

    /// The step that led to the fault, and its place if the fault has none yet.
    pub(super) fn at(mut self, step: Step, place: Place) -> Self {
        self.path.push(step);
        self.place.get_or_insert(place);
        self
    }

    pub(super) fn tell(&self, root: Place, report: &mut Report<'_>) {
        let place = self.place.unwrap_or(root);
        let keys = self.path.iter().rev().map(Step::to_string);
        let path = keys.collect::<Vec<_>>().join(".");
        let (message, help) = match &self.what {
            What::UnknownKey { key, known } => {
                return report.error_with_help(
                    place,
                    format_args!("unknown key `{key}`"),
                    meant(key, known, "the keys known here are"),
                );
            }
            What::UnknownValue { value, known } => {
                (format!("`{path}` cannot be `{value}`"), meant(value, known, "it is one of"))
            }
            What::Missing(key) => return report.error(place, format_args!("`{key}` is missing")),
            What::Other(message) if path.is_empty() => return report.error(place, message),
            What::Other(message) => {
                let scalars = ["a number", "a fraction", "true or false"];
                let found = message.strip_prefix("must be a text, not ");
                if !found.is_some_and(|found| scalars.contains(&found)) {
                    return report.error(place, format_args!("`{path}` {message}"));
                }
                (format!("`{path}` {message}"), "put it in quotes".to_owned())
            }
        };
        report.error_with_help(place, message, help);
    }

    /// Changes the tree so that this fault is not met again. False if it was mended before.
    pub(super) fn mend(&self, root: &mut Node) -> bool {
        let mut node = root;
        // The step to an unknown key is the last: the key itself goes, not its value.
        let steps = match self.what {
            What::UnknownKey { .. } => self.path.get(1..).unwrap_or_default(),
            _ => &self.path,
        };
        for step in steps.iter().rev() {
            let next = match (&mut node.kind, step) {
                (Kind::Map(entries), Step::Key(key)) => {
                    entries.iter_mut().find(|entry| entry.key == *key).map(|entry| &mut entry.value)
                }
                (Kind::List(items), Step::Item(item)) => items.get_mut(*item),
                _ => None,
            };
            let Some(next) = next else { return false };
            node = next;
        }
        match (&self.what, &mut node.kind) {
            (What::UnknownKey { key, .. }, _) => node.take(key).is_some(),
            (What::Missing(key), Kind::Map(entries)) => {
                let value = Node { place: node.place, kind: Kind::Anything };
                entries.push(Entry { key: (*key).to_owned(), place: node.place, value });
                true
            }
            (_, Kind::Anything) => false,
            (_, kind) => {
                *kind = Kind::Anything;
                true
            }
        }
    }
}

/// What was probably meant, or all that is known.
fn meant(word: &str, known: &[&str], all: &str) -> String {
    match nearest(word, known.iter().copied()) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("{all} `{}`", known.join("`, `")),
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => f.write_str(key),
            Self::Item(item) => item.fmt(f),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.what)
    }
}

impl std::error::Error for Fault {}

impl Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(What::Other(message.to_string()))
    }

    // Values are not told: they may be secrets.
    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match unexpected {
            Unexpected::Bool(_) => "true or false",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a number",
            Unexpected::Float(_) => "a fraction",
            Unexpected::Char(_) | Unexpected::Str(_) | Unexpected::Enum => "a text",
            Unexpected::Unit | Unexpected::Option => "nothing",
            Unexpected::Seq | Unexpected::Bytes(_) => "a list",
            _ => "a map",
        };
        let expected = expected.to_string();
        let expected = match expected.as_str() {
            "a string" => "a text",
            "a boolean" => "true or false",
            "a sequence" => "a list",
            "i64" | "u64" | "u32" | "u16" => "a whole number",
            other if other.starts_with("struct ") => "a map",
            other => other,
        };
        Self::custom(format!("must be {expected}, not {found}"))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self::new(What::UnknownKey { key: key.to_owned(), known })
    }

    fn unknown_variant(value: &str, known: &'static [&'static str]) -> Self {
        Self::new(What::UnknownValue { value: value.to_owned(), known })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(What::Missing(field))
    }
}
