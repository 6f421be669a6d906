//! What a type reads from a document: the keys of its structs, and the words of its enums.
//!
//! Serde tells a deserializer which fields a struct has, and stops at the first value that is not
//! there. So the type is read again and again, each time along the path to one more field.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::value::{Error, StrDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IntoDeserializer as _, MapAccess, SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;

/// The names at a path: `slot.origin` for a field in a field; lists have no step of their own.
pub(super) type Names = BTreeMap<String, BTreeSet<&'static str>>;

/// What a type reads.
#[derive(Default)]
pub(super) struct Traced {
    pub(super) keys: Names,
    pub(super) words: Names,
}

/// Finds out what `T` reads.
pub(super) fn trace<T: for<'de> Deserialize<'de>>() -> Traced {
    let found = RefCell::new(Traced::default());
    let mut paths = vec![Vec::new()];
    while let Some(path) = paths.pop() {
        let known = found.borrow().keys.len();
        let walk = Walk { goal: &path, done: String::new(), found: &found };
        // Every reading ends in an error; what is of interest was noted on the way.
        drop(T::deserialize(walk));
        let here = path.join(".");
        let found = found.borrow();
        if found.keys.len() > known
            && let Some(fields) = found.keys.get(&here)
        {
            paths.extend(fields.iter().map(|field| {
                let mut path = path.clone();
                path.push((*field).to_owned());
                path
            }));
        }
    }
    found.into_inner()
}

#[derive(Clone)]
struct Walk<'a> {
    /// The fields still to be gone through.
    goal: &'a [String],
    /// Those that were.
    done: String,
    found: &'a RefCell<Traced>,
}

fn end() -> Error {
    Error::custom("the end of the path")
}

impl<'de> Deserializer<'de> for Walk<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(end())
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Step(self))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.found.borrow_mut().keys.entry(self.done.clone()).or_default().extend(fields);
        visitor.visit_map(Step(self.clone()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        self.found.borrow_mut().words.entry(self.done).or_default().extend(variants);
        Err(end())
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct tuple tuple_struct map identifier ignored_any
    }
}

/// One item of a list, or the field of a struct that the path leads through.
struct Step<'a>(Walk<'a>);

impl<'de> SeqAccess<'de> for Step<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        seed.deserialize(self.0.clone()).map(Some)
    }
}

impl<'de> MapAccess<'de> for Step<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let key = self.0.goal.first().ok_or_else(end)?;
        let key: StrDeserializer<'_, Error> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Walk { goal, done, found } = &self.0;
        let (first, goal) = goal.split_first().ok_or_else(end)?;
        let done = if done.is_empty() { first.clone() } else { format!("{done}.{first}") };
        seed.deserialize(Walk { goal, done, found })
    }
}
