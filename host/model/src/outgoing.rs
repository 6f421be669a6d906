//! Messages as dead letters keep them: JSON that somebody can read and edit, and that becomes the
//! same message again.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::groups::{GroupKey, Groups};
use crate::message::{Effect, Message, idempotency_key};
use crate::position::Position;
use crate::route::{Route, RouteValue};

/// Why a text is no message that could be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no message that could be sent: {0}")]
pub struct NoOutgoing(String);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Outgoing<'a> {
    effect: String,
    key: Option<String>,
    /// A removal from a state sink has none.
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    #[serde(default)]
    partial: bool,
    #[serde(default)]
    route: std::collections::BTreeMap<String, Box<RawValue>>,
    /// None: after everything and before everything.
    groups: Option<Vec<String>>,
}

/// Writes it. A payload that is no JSON is written as a JSON string.
#[must_use]
pub fn write(message: &Message) -> String {
    let quoted;
    let payload = if message.payload.is_empty() {
        None
    } else if let Ok(raw) = serde_json::from_str::<&RawValue>(&message.payload) {
        Some(raw)
    } else {
        quoted = serde_json::value::to_raw_value(&*message.payload).ok();
        quoted.as_deref()
    };
    let value = |value: &RouteValue| match value {
        RouteValue::Null => None,
        RouteValue::Boolean(value) => serde_json::value::to_raw_value(value).ok(),
        RouteValue::Integer(value) => serde_json::value::to_raw_value(value).ok(),
        RouteValue::Text(text) => serde_json::value::to_raw_value(&**text).ok(),
        // An object, so that it is told from a text.
        RouteValue::Json(json) => RawValue::from_string(format!("{{\"json\":{json}}}")).ok(),
    };
    let keys = message.route.iter().flat_map(|route| route.keys());
    let outgoing = Outgoing {
        effect: match message.effect {
            Effect::Write => "write".to_owned(),
            Effect::Complete => "complete".to_owned(),
            Effect::Remove => "remove".to_owned(),
        },
        key: message.key.as_deref().map(str::to_owned),
        payload,
        partial: message.partial,
        route: keys.filter_map(|(key, given)| Some((key.to_owned(), value(given)?))).collect(),
        groups: match message.groups {
            Groups::All => None,
            groups => Some(groups.keys().map(|key| format!("{:016x}", key.0)).collect()),
        },
    };
    serde_json::to_string(&outgoing).unwrap_or_default()
}

/// The message again: of this place, and of the sink with this scope.
///
/// # Errors
/// It is not what [`write`] writes.
pub fn read(
    text: &str,
    position: Position,
    output: u32,
    scope: &Arc<str>,
) -> Result<Message, NoOutgoing> {
    let outgoing: Outgoing<'_> =
        serde_json::from_str(text).map_err(|error| NoOutgoing(error.to_string()))?;
    let effect = match outgoing.effect.as_str() {
        "write" => Effect::Write,
        "complete" => Effect::Complete,
        "remove" => Effect::Remove,
        other => return Err(NoOutgoing(format!("an effect `{other:.100}`"))),
    };
    let mut route = Route::default();
    for (key, given) in outgoing.route {
        route.set(key.into(), route_value(&given)?);
    }
    let payload = outgoing.payload.map_or("", RawValue::get);
    Ok(Message {
        position,
        output,
        groups: groups(outgoing.groups)?,
        rows: Groups::None,
        relation: None,
        operation: None,
        effect,
        key: outgoing.key.map(Into::into),
        payload: payload.into(),
        partial: outgoing.partial,
        route: (!route.is_empty()).then(|| Arc::new(route)),
        idempotency_key: idempotency_key(position, output),
        scope: Arc::clone(scope),
    })
}

fn groups(given: Option<Vec<String>>) -> Result<Groups, NoOutgoing> {
    let Some(given) = given else { return Ok(Groups::All) };
    let mut keys = [None; 4];
    if given.len() > keys.len() {
        return Err(NoOutgoing("more than four `groups`".to_owned()));
    }
    for (place, text) in keys.iter_mut().zip(&given) {
        let key = u64::from_str_radix(text, 16);
        *place = Some(GroupKey(key.map_err(|_| NoOutgoing(format!("a group `{text:.100}`")))?));
    }
    Ok(Groups::among(keys))
}

fn route_value(given: &RawValue) -> Result<RouteValue, NoOutgoing> {
    #[derive(Deserialize)]
    struct Json<'a> {
        #[serde(borrow)]
        json: &'a RawValue,
    }
    let json = given.get();
    let wrong = || NoOutgoing("a routing key that is none".to_owned());
    Ok(match json.bytes().next() {
        Some(b'n') => RouteValue::Null,
        Some(b't' | b'f') => RouteValue::Boolean(serde_json::from_str(json).map_err(|_| wrong())?),
        Some(b'"') => {
            let text: String = serde_json::from_str(json).map_err(|_| wrong())?;
            RouteValue::Text(text.into())
        }
        Some(b'{') => {
            let value: Json<'_> = serde_json::from_str(json).map_err(|_| wrong())?;
            RouteValue::Json(value.json.get().into())
        }
        _ => RouteValue::Integer(serde_json::from_str(json).map_err(|_| wrong())?),
    })
}

/// The payload of a message with `metadata.replay` set, if it is an object with `metadata`: who reads
/// a log has to know that it is not in its place.
#[must_use]
pub fn marked(payload: &str) -> Option<String> {
    let fields: Vec<(String, Box<RawValue>)> = crate::recorded::fields(payload)?;
    let mut out = String::with_capacity(payload.len() + 16);
    let mut found = false;
    for (n, (name, value)) in fields.iter().enumerate() {
        out.push(if n == 0 { '{' } else { ',' });
        crate::json::string(&mut out, name);
        out.push(':');
        let rest = value.get().strip_prefix('{').filter(|_| name == "metadata");
        if let Some(rest) = rest {
            found = true;
            out.push_str("{\"replay\":true");
            out.push_str(if rest.trim_start() == "}" { "" } else { "," });
            out.push_str(rest);
        } else {
            out.push_str(value.get());
        }
    }
    out.push('}');
    found.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Lsn;

    fn message(payload: &str, groups: Groups) -> Message {
        let keys = [
            ("flag", RouteValue::Boolean(true)),
            ("n", RouteValue::Integer(-7)),
            ("topic", RouteValue::Text("a \"b\"".into())),
            ("headers", RouteValue::Json("{\"a\":1}".into())),
        ];
        let position = Position::new(Lsn(9), 3);
        Message {
            position,
            output: 2,
            groups,
            rows: Groups::None,
            relation: None,
            operation: None,
            effect: Effect::Complete,
            key: Some("k".into()),
            payload: payload.into(),
            partial: true,
            route: Some(Arc::new(Route::new(keys.map(|(key, value)| (key.into(), value))))),
            idempotency_key: idempotency_key(position, 2),
            scope: "s".into(),
        }
    }

    #[test]
    fn a_message_comes_back_as_it_was() {
        let two = Groups::Two(GroupKey(u64::MAX), GroupKey(1));
        for groups in [Groups::None, Groups::All, Groups::One(GroupKey(7)), two] {
            for payload in ["{\"a\": 1e400}", "", "[null]"] {
                let message = message(payload, groups);
                let text = write(&message);
                let again = read(&text, message.position, 2, &message.scope).unwrap();
                assert_eq!(again, message, "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_message_is_told() {
        let good = write(&message("1", Groups::None));
        for bad in [
            "",
            "{}",
            "[]",
            &*good.replace("complete", "explode"),
            &*good.replace("\"groups\":[]", "\"groups\":[\"x\"]"),
            &*good.replace("\"partial\"", "\"other\""),
            &*good.replace("-7", "1.5"),
        ] {
            assert!(read(bad, Position::ZERO, 0, &"s".into()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_replay_is_marked_in_the_metadata_of_its_message_and_nowhere_else() {
        let payload = r#"{"record":{"metadata":{"a":1}},"metadata":{"b":[1,2]}}"#;
        let expected = r#"{"record":{"metadata":{"a":1}},"metadata":{"replay":true,"b":[1,2]}}"#;
        assert_eq!(marked(payload).as_deref(), Some(expected));
        assert_eq!(
            marked(r#"{"metadata":{}}"#).as_deref(),
            Some(r#"{"metadata":{"replay":true}}"#)
        );
        for other in ["[]", "{}", "x", r#"{"metadata":7}"#, r#"{"a":{"metadata":{}}}"#] {
            assert_eq!(marked(other), None, "{other}");
        }
    }
}
