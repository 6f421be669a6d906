//! Messages as entries of a stream.

use std::borrow::Cow;
use std::sync::Arc;

use model::message::Message;
use options::redis_stream::{Ids, Ready};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Fields of an entry: what Lua can hand over in one call, and no row has so many.
const FIELDS_MAX: usize = 2_000;

/// Between the ids of two changes of one transaction: room for what one change makes, and for what comes
/// late behind it.
const ROOM: u64 = 1 << 20;

/// The name and the value of one.
type Field<'a> = (Cow<'a, str>, Cow<'a, str>);

/// An entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// `*`: the server's clock.
    pub(super) id: Cow<'static, str>,
    pub(super) fields: Vec<Field<'a>>,
}

/// The entries of messages up to the first that can be none, and why it cannot.
pub(super) fn entries<'a>(
    messages: &'a [Arc<Message>],
    options: &'a Ready,
) -> (Vec<Entry<'a>>, Option<String>) {
    let mut entries = Vec::with_capacity(messages.len());
    for message in messages {
        match fields(message, options.field.as_deref()) {
            Ok(fields) => entries.push(Entry { id: id(message, options.ids), fields }),
            Err(why) => return (entries, Some(why)),
        }
    }
    (entries, None)
}

fn id(message: &Message, ids: Ids) -> Cow<'static, str> {
    match ids {
        Ids::Time => Cow::Borrowed("*"),
        Ids::Position => {
            let position = message.position;
            let within =
                position.ordinal.saturating_mul(ROOM).saturating_add(message.output.into());
            // 0-0 is no id.
            Cow::Owned(format!("{}-{}", position.commit_lsn.0, within.saturating_add(1)))
        }
    }
}

fn fields<'a>(message: &'a Message, field: Option<&'a str>) -> Result<Vec<Field<'a>>, String> {
    if let Some(field) = field {
        return Ok(vec![(Cow::Borrowed(field), Cow::Borrowed(&message.payload))]);
    }
    let Ok(Fields(fields)) = serde_json::from_str::<Fields<'a>>(&message.payload) else {
        return Err(
            "the message is no JSON object, of which each field would be one of the entry: \
                    return an object, or say `format: json`"
                .to_owned(),
        );
    };
    match fields.len() {
        0 => Err("the message has no field, and an entry needs one".to_owned()),
        many @ FIELDS_MAX.. => {
            Err(format!("the message has {many} fields, and an entry {FIELDS_MAX} at most"))
        }
        _ => Ok(fields),
    }
}

/// Texts are as they are, everything else is JSON: as the predecessor wrote them.
struct Fields<'a>(Vec<Field<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some((name, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    let text = serde_json::from_str::<Text<'de>>(value.get());
                    let value = text.map_or(Cow::Borrowed(value.get()), |text| text.0);
                    fields.push((name.0, value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// A JSON string, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use model::message::Effect;

    use super::*;
    use crate::conformance::message;

    fn of(payload: &str, field: Option<&str>) -> Result<Vec<(String, String)>, String> {
        let mut message = (*message(1, Effect::Write)).clone();
        message.payload = payload.into();
        let fields = fields(&message, field)?;
        Ok(fields.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    #[test]
    fn each_field_of_a_message_is_one_of_the_entry() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let fields = of(r#"{"a":"x\ny","b":{"c": 1},"d":null,"e":1.50,"é":"ü","f":[]}"#, None);
        let expected = [
            pair("a", "x\ny"),
            pair("b", r#"{"c": 1}"#),
            pair("d", "null"),
            pair("e", "1.50"),
            pair("é", "ü"),
            pair("f", "[]"),
        ];
        assert_eq!(fields.unwrap(), expected);
        assert_eq!(of("[1]", Some("data")).unwrap(), [pair("data", "[1]")]);
        for bad in ["[1]", "1", "\"a\"", "{}", ""] {
            assert!(of(bad, None).is_err(), "{bad}");
        }
        let many: Vec<String> = (0..FIELDS_MAX).map(|n| format!("\"{n}\":0")).collect();
        assert!(of(&format!("{{{}}}", many.join(",")), None).unwrap_err().contains("at most"));
    }

    #[test]
    fn ids_rise_with_places() {
        let at = |lsn, ordinal, output| {
            let mut message = (*message(lsn, Effect::Write)).clone();
            message.position.ordinal = ordinal;
            message.output = output;
            id(&message, Ids::Position).into_owned()
        };
        assert_eq!(at(7, 0, 0), "7-1");
        assert_eq!(at(7, 0, 2), "7-3");
        assert_eq!(at(7, 1, 0), format!("7-{}", ROOM + 1));
        assert_eq!(id(&message(7, Effect::Write), Ids::Time), "*");
    }
}
