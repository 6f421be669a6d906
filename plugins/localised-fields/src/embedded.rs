//! Translations in a JSON column: read into borrowed texts, without a tree.

use std::borrow::Cow;
use std::fmt;

use sequin_plugin::prelude::*;
use sequin_plugin::serde::de::{
    self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use crate::LocalisedFields;
use crate::source::Source;

type Text<'de> = Option<Cow<'de, str>>;

pub(crate) fn transform(
    plugin: &LocalisedFields,
    source: &Source,
    row: &Row<'_>,
    out: &mut Output,
) -> Result<(), Error> {
    let mut list = List {
        plugin,
        language: source.language(),
        texts: vec![None; plugin.columns.len()],
        seen: vec![false; plugin.tags.len()],
        entry: vec![None; plugin.fields.len()],
        wrong: None,
    };
    let (name, read) = match (&source.column, &source.embedded) {
        (Some(column), _) => (column, row.json_seed(column, &mut list)),
        (None, Some(embedded)) => {
            let name = &embedded.enrichment;
            let read = match row.enrichment_seed(InObject { name, list: &mut list }) {
                // Of a row that was not found, nothing is known.
                Ok(Value::Null) => Ok(Value::Unchanged),
                Ok(Value::Known(false)) => {
                    Err(Error::new(format!("the enrichment has no column {name}")))
                }
                read => read.map(|value| value.map(drop)),
            };
            (name, read)
        }
        (None, None) => return Ok(()),
    };
    match read {
        Ok(Value::Unchanged) => return Ok(()),
        Ok(Value::Null | Value::Known(())) => {}
        Err(error) => {
            return Err(match list.wrong {
                Some(what) => Error::column(name, format!("it {what}")),
                None => error,
            });
        }
    }
    for (name, text) in plugin.columns.iter().zip(&list.texts) {
        match text {
            Some(text) => out.set_text(name, text),
            None => out.set_null(name),
        }
    }
    Ok(())
}

/// An object with the list in a field of this name; tells whether it has that.
struct InObject<'l, 'a, 'de> {
    name: &'l str,
    list: &'l mut List<'a, 'de>,
}

impl<'de> DeserializeSeed<'de> for InObject<'_, '_, 'de> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for InObject<'_, '_, 'de> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut found = false;
        while let Some(key) = map.next_key_seed(IsName(self.name))? {
            if key {
                found = true;
                map.next_value_seed(&mut *self.list)?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Whether a key is this one.
struct IsName<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for IsName<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for IsName<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }
}

struct List<'a, 'de> {
    plugin: &'a LocalisedFields,
    /// What names the language of an entry.
    language: &'a str,
    /// As the plugin's columns.
    texts: Vec<Text<'de>>,
    /// Per language.
    seen: Vec<bool>,
    /// Per field, of the entry at hand.
    entry: Vec<Text<'de>>,
    /// What is wrong beyond the form of the JSON.
    wrong: Option<&'static str>,
}

impl<'de> List<'_, 'de> {
    fn fail<E: de::Error>(&mut self, what: &'static str) -> E {
        self.wrong = Some(what);
        E::custom(what)
    }

    /// Puts the fields of an entry into their columns.
    fn place(&mut self, language: usize) -> Result<(), &'static str> {
        if std::mem::replace(&mut self.seen[language], true) {
            return Err("has two entries of one language");
        }
        for (field, text) in self.entry.iter_mut().enumerate() {
            self.texts[field * self.seen.len() + language] = text.take();
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for &mut List<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut List<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of translations")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Entry(&mut *self))?.is_some() {}
        Ok(())
    }

    /// JSON's null is as good as SQL's.
    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// One translation.
struct Entry<'l, 'a, 'de>(&'l mut List<'a, 'de>);

impl<'de> DeserializeSeed<'de> for Entry<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entry<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a translation")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(list) = self;
        list.entry.fill(None);
        let mut language = None;
        while let Some(key) = map.next_key_seed(KeyOf(list.plugin, list.language))? {
            match key {
                Key::Language => {
                    let tag = map.next_value_seed(OneText)?;
                    let tag = tag.as_deref().unwrap_or_default();
                    language = match list.plugin.language(tag) {
                        Ok(known) => Some(known),
                        Err(what) => return Err(list.fail(what)),
                    };
                }
                Key::Field(field) => list.entry[field] = map.next_value_seed(OneText)?,
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        match language {
            Some(Some(language)) => list.place(language).map_err(|what| list.fail(what)),
            Some(None) => Ok(()),
            None => Err(list.fail("has an entry without a language")),
        }
    }
}

enum Key {
    Language,
    Field(usize),
    Other,
}

struct KeyOf<'a>(&'a LocalisedFields, &'a str);

impl<'de> DeserializeSeed<'de> for KeyOf<'_> {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Key, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyOf<'_> {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<Key, E> {
        let Self(plugin, language) = self;
        if key == language {
            return Ok(Key::Language);
        }
        Ok(plugin.field(key).map_or(Key::Other, Key::Field))
    }
}

/// A text or null, borrowed wherever the JSON has no escape in it.
struct OneText;

impl<'de> DeserializeSeed<'de> for OneText {
    type Value = Text<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Text<'de>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for OneText {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Some(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Some(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Text<'de>, E> {
        Ok(None)
    }
}
