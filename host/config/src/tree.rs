//! The YAML with the place of every node.
//!
//! Anchors, aliases and merge keys are resolved; the place of what came through one is where it is
//! written.

mod json;
mod read;
mod yaml;

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use crate::diagnostic::{Place, Report};

pub(crate) use json::json;
pub(crate) use read::read;
pub(crate) use yaml::yaml;

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// For maps and lists, their first line.
    pub(crate) place: Place,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    /// Keys are different.
    Map(Vec<Entry>),
    /// In place of something wrong that was told: it fits everywhere, so that reading goes on.
    Anything,
}

#[derive(Clone, Debug)]
pub(crate) enum Number {
    Signed(i64),
    Unsigned(u64),
    Float(f64),
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) value: Node,
}

/// The tree of a document, or what is wrong with its YAML.
pub(crate) fn parse(text: &str, report: &mut Report<'_>) -> Option<Node> {
    let options = serde_saphyr::options! {
        // As the predecessor's parser: `yes`, `no`, `on` and `off` are texts.
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        // A tag that means nothing here would be ignored in silence.
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options(text, options) {
        Ok(root) => Some(root),
        Err(error) => {
            let place = error.location().map_or(Place { line: 1, column: 1, width: 1 }, place);
            report.malformed(place, told(&error));
            None
        }
    }
}

/// The parser's message without its place, and without advice to programmers.
fn told(error: &serde_saphyr::Error) -> String {
    let error = error.without_snippet().to_string();
    let ends = [" at line ", ", set DuplicateKeyPolicy", "; use from_str_multiple"];
    let end = ends.into_iter().filter_map(|end| error.find(end)).min();
    error.get(..end.unwrap_or(error.len())).unwrap_or_default().to_owned()
}

impl Node {
    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// Takes a key out of a map.
    pub(crate) fn take(&mut self, key: &str) -> Option<Entry> {
        let Kind::Map(entries) = &mut self.kind else {
            return None;
        };
        let at = entries.iter().position(|entry| entry.key == key)?;
        Some(entries.remove(at))
    }

    /// Of a map; nothing of anything else.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Where a key's value stands, or the nearest thing around it that exists. Items of lists go
    /// by their number.
    pub(crate) fn place_of(&self, path: &[&str]) -> Place {
        let Some((first, rest)) = path.split_first() else {
            return self.place;
        };
        let child = match &self.kind {
            Kind::List(items) => first.parse().ok().and_then(|at: usize| items.get(at)),
            _ => self.get(first),
        };
        child.map_or(self.place, |child| child.place_of(rest))
    }

    /// Whether nothing in it had to be replaced.
    pub(crate) fn is_whole(&self) -> bool {
        match &self.kind {
            Kind::Anything => false,
            Kind::List(items) => items.iter().all(Self::is_whole),
            Kind::Map(entries) => entries.iter().all(|entry| entry.value.is_whole()),
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) => true,
        }
    }

    /// For messages.
    pub(crate) fn describe(&self) -> &'static str {
        match self.kind {
            Kind::Null => "nothing",
            Kind::Bool(_) => "true or false",
            Kind::Number(_) => "a number",
            Kind::Text(_) => "a text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
            Kind::Anything => "anything",
        }
    }
}

fn place(location: Location) -> Place {
    let number = |number: u64| usize::try_from(number).unwrap_or_default();
    Place {
        line: number(location.line()),
        column: number(location.column()),
        width: number(location.span().len()),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value: kind, defined, .. } = Spanned::<Kind>::deserialize(deserializer)?;
        let mut place = place(defined);
        // A block has no width of its own: its first key stands for it.
        if let Kind::Map(entries) = &kind
            && let Some(first) = entries.first()
            && first.place.line == place.line
        {
            place = first.place;
        }
        Ok(Self { place, kind })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON knows")
    }

    fn visit_unit<E: Error>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        Kind::deserialize(deserializer)
    }

    fn visit_bool<E: Error>(self, bool: bool) -> Result<Kind, E> {
        Ok(Kind::Bool(bool))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Kind, E> {
        Ok(Kind::Number(Number::Signed(number)))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Kind, E> {
        Ok(Kind::Number(Number::Unsigned(number)))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Kind, E> {
        Ok(Kind::Number(Number::Float(number)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Kind, E> {
        Ok(Kind::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Kind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Kind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry::<Spanned<String>, Node>()? {
            let place = place(key.defined);
            entries.push(Entry { key: key.value, place, value });
        }
        Ok(Kind::Map(entries))
    }
}
