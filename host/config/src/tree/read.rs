//! Reading structs from the tree, with all that is wrong told at once.
//!
//! Serde stops at the first thing that does not fit. So what did not fit is told, mended in a copy
//! (an unknown key leaves, anything else becomes a value that fits everywhere), and the copy is
//! read again, until it fits. Each round mends one place, so that there is an end.

mod fault;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, IntoDeserializer as _, MapAccess,
    SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::{Entry, Kind, Node, Number};
use crate::diagnostic::Report;
use fault::{Fault, Step};

/// The value, if all of it fits.
pub(crate) fn read<T: DeserializeOwned>(node: &Node, report: &mut Report<'_>) -> Option<T> {
    let mut copy = node.clone();
    let mut fits = true;
    loop {
        match T::deserialize(Reader(&copy)) {
            Ok(value) => return fits.then_some(value),
            Err(fault) => {
                fits = false;
                fault.tell(node.place, report);
                if !fault.mend(&mut copy) {
                    return None;
                }
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Reader<'a>(&'a Node);

impl Reader<'_> {
    /// The number that it is, or that its text stands for.
    fn number(self) -> Option<Number> {
        match &self.0.kind {
            Kind::Number(number) => Some(number.clone()),
            Kind::Anything => Some(Number::Signed(0)),
            // The environment has texts only, and the predecessor took quoted numbers, too.
            Kind::Text(text) => {
                let text = text.trim();
                let signed = text.parse().map(Number::Signed);
                let unsigned = signed.or_else(|_| text.parse().map(Number::Unsigned));
                unsigned.or_else(|_| text.parse().map(Number::Float)).ok()
            }
            _ => None,
        }
    }

    fn visit_number<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.number() {
            Some(Number::Signed(number)) => visitor.visit_i64(number),
            Some(Number::Unsigned(number)) => visitor.visit_u64(number),
            Some(Number::Float(number)) => visitor.visit_f64(number),
            None => self.deserialize_any(visitor),
        }
    }
}

/// Numbers of every size are read alike: the visitor checks the range.
macro_rules! numbers {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.visit_number(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.kind {
            Kind::Null | Kind::Anything => visitor.visit_unit(),
            Kind::Bool(bool) => visitor.visit_bool(*bool),
            Kind::Number(_) => self.visit_number(visitor),
            Kind::Text(text) => visitor.visit_str(text),
            Kind::List(items) => visitor.visit_seq(Items { items, next: 0 }),
            Kind::Map(entries) => visitor.visit_map(Entries { entries, next: 0 }),
        }
    }

    numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8
        deserialize_u16 deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        // The predecessor takes the words as texts, too.
        match &self.0.kind {
            Kind::Text(text) if text == "true" => visitor.visit_bool(true),
            Kind::Text(text) if text == "false" => visitor.visit_bool(false),
            Kind::Anything => visitor.visit_bool(false),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.kind {
            Kind::Anything => visitor.visit_str(""),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.kind {
            Kind::Null | Kind::Anything => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.kind {
            Kind::Anything => visitor.visit_seq(Items { items: &[], next: 0 }),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.kind {
            Kind::Anything => visitor.visit_map(Entries { entries: &[], next: 0 }),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.0.kind {
            // A list would be read as the fields in their order.
            Kind::List(_) => Err(Fault::invalid_type(Unexpected::Seq, &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let text = match &self.0.kind {
            Kind::Text(text) => text.as_str(),
            Kind::Anything => variants.first().copied().unwrap_or_default(),
            _ => {
                let message = format!("must be a text, not {}", self.0.describe());
                return Err(Fault::custom(message));
            }
        };
        let text: StrDeserializer<'_, Fault> = text.into_deserializer();
        visitor.visit_enum(text)
    }

    forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

struct Items<'a> {
    items: &'a [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Some(item) = self.items.get(self.next) else {
            return Ok(None);
        };
        let step = Step::Item(self.next);
        self.next += 1;
        seed.deserialize(Reader(item)).map(Some).map_err(|fault| fault.at(step, item.place))
    }
}

struct Entries<'a> {
    entries: &'a [Entry],
    next: usize,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some(Entry { key, place, .. }) = self.entries.get(self.next) else {
            return Ok(None);
        };
        let deserializer: StrDeserializer<'_, Fault> = key.as_str().into_deserializer();
        let at = |fault: Fault| fault.at(Step::Key(key.clone()), *place);
        seed.deserialize(deserializer).map(Some).map_err(at)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some(Entry { key, value, .. }) = self.entries.get(self.next) else {
            return Err(Fault::custom("a value was read before its key"));
        };
        self.next += 1;
        let at = |fault: Fault| fault.at(Step::Key(key.clone()), value.place);
        seed.deserialize(Reader(value)).map_err(at)
    }
}
