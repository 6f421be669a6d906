//! Where a router sends a message.

use crate::plugin::{Data, Patch, SetValue};

/// The routing keys that a router gave for one message. Which there are, and what they mean, depends
/// on the kind of sink; a key that is missing keeps the sink's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Route {
    /// By name, none of them null: routes are equal if they say the same.
    keys: Vec<(Box<str>, RouteValue)>,
}

/// The value of a routing key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RouteValue {
    /// Null: as if the key were missing.
    Null,
    /// A boolean.
    Boolean(bool),
    /// An integer.
    Integer(i64),
    /// A text.
    Text(Box<str>),
    /// JSON; a float too, which no sink has a key for.
    Json(Box<str>),
}

/// A route that a sink cannot follow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {message}")]
pub struct RouteError {
    /// The routing key.
    pub field: Box<str>,
    /// What is wrong with it, to follow the key in a sentence, without row data.
    pub message: String,
}

impl Route {
    /// Of these keys; of two with one name the later counts.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = (Box<str>, RouteValue)>) -> Self {
        let mut route = Self::default();
        for (key, value) in keys {
            route.set(key, value);
        }
        route
    }

    /// Sets a key; null takes it away.
    pub fn set(&mut self, key: Box<str>, value: RouteValue) {
        let place = self.keys.binary_search_by(|(known, _)| known.cmp(&key));
        match (place, value) {
            (Ok(at), RouteValue::Null) => drop(self.keys.remove(at)),
            (Err(_), RouteValue::Null) => {}
            (Ok(at), value) => {
                if let Some((_, place)) = self.keys.get_mut(at) {
                    *place = value;
                }
            }
            (Err(at), value) => self.keys.insert(at, (key, value)),
        }
    }

    /// Sets the keys that a router gave as columns of a row.
    ///
    /// # Errors
    /// A column holds bytes, which no key can be.
    pub fn apply(&mut self, patch: &Patch) -> Result<(), RouteError> {
        for column in patch.set() {
            let set = SetValue { column, row: patch.row };
            let value = RouteValue::of(set).ok_or_else(|| RouteError {
                field: column.name.clone(),
                message: "must not be bytes".to_owned(),
            })?;
            self.set(column.name.clone(), value);
        }
        Ok(())
    }

    /// Whether it says nothing: the message goes where the sink sends everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// What it takes in memory, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let of = |(key, value): &(Box<str>, RouteValue)| {
            let text = match value {
                RouteValue::Text(text) | RouteValue::Json(text) => text.len(),
                RouteValue::Null | RouteValue::Boolean(_) | RouteValue::Integer(_) => 0,
            };
            key.len() + text + size_of::<(Box<str>, RouteValue)>()
        };
        self.keys.iter().map(of).sum()
    }

    /// The keys with their values, by name.
    pub fn keys(&self) -> impl Iterator<Item = (&str, &RouteValue)> {
        self.keys.iter().map(|(key, value)| (&**key, value))
    }

    /// The value of a key, unless it is missing or null.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&RouteValue> {
        self.keys().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// The value of a key that must be a text.
    ///
    /// # Errors
    /// It is something else.
    pub fn text(&self, key: &str) -> Result<Option<&str>, RouteError> {
        match self.get(key) {
            None => Ok(None),
            Some(RouteValue::Text(text)) => Ok(Some(text)),
            Some(other) => {
                let message = format!("must be a text, not {}", other.describe());
                Err(RouteError { field: key.into(), message })
            }
        }
    }
}

impl RouteValue {
    /// A value that a router set; None for bytes.
    fn of(set: SetValue<'_>) -> Option<Self> {
        if set.is_null() {
            return Some(Self::Null);
        }
        let (data, row) = (&set.column.data, set.row);
        let mut text = String::new();
        Some(match data {
            Data::Booleans(values) => Self::Boolean(values.get(row).copied().unwrap_or_default()),
            Data::Integers(values) => Self::Integer(values.get(row).copied().unwrap_or_default()),
            Data::Texts(_) | Data::PackedTexts(_) => {
                set.write_text(&mut text);
                Self::Text(text.into())
            }
            Data::Floats(_) | Data::Json(_) | Data::PackedJson(_) => {
                set.write_json(&mut text);
                Self::Json(text.into())
            }
            Data::Bytes(_) => return None,
        })
    }

    /// What it is, with an article.
    #[must_use]
    pub const fn describe(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean(_) => "a boolean",
            Self::Integer(_) => "an integer",
            Self::Text(_) => "a text",
            Self::Json(_) => "JSON",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_name_counts_and_null_is_as_if_missing() {
        let text = |text: &str| RouteValue::Text(text.into());
        let keys = [("a", text("1")), ("b", text("2")), ("a", text("3")), ("c", RouteValue::Null)];
        let route = Route::new(keys.map(|(key, value)| (key.into(), value)));
        assert_eq!(route.text("a"), Ok(Some("3")));
        assert_eq!(route.text("c"), Ok(None));
        assert_eq!(route.keys().map(|(key, _)| key).collect::<Vec<_>>(), ["a", "b"]);
        let other = [("b", text("2")), ("a", text("3"))];
        assert_eq!(route, Route::new(other.map(|(key, value)| (key.into(), value))));
        let number = Route::new([("a".into(), RouteValue::Integer(1))]);
        let error = number.text("a").unwrap_err().to_string();
        assert_eq!(error, "`a` must be a text, not an integer");
    }

    #[test]
    fn columns_of_a_router_become_keys_and_the_later_router_wins() {
        use crate::plugin::{Presence, SetColumn};
        let column = |name: &str, presence, data| SetColumn {
            name: name.into(),
            presence: vec![Presence::Value, presence],
            data,
        };
        let patch = |columns: Vec<SetColumn>| Patch {
            columns: columns.into(),
            only: None,
            row: 1,
            below: None,
        };
        let texts = |text: &str| Data::Texts(vec!["other row".into(), text.into()]);
        let first = patch(vec![
            column("method", Presence::Value, texts("PUT")),
            column("expire_ms", Presence::Value, Data::Integers(vec![0, 5])),
            column("flag", Presence::Value, Data::Booleans(vec![false, true])),
            column("headers", Presence::Value, Data::Json(vec![String::new(), "{}".into()])),
            column("topic", Presence::Unchanged, texts("not said")),
        ]);
        let second = patch(vec![
            column("method", Presence::Value, texts("PATCH")),
            column("flag", Presence::Null, Data::Booleans(vec![true, true])),
        ]);
        let mut route = Route::default();
        route.apply(&first).unwrap();
        route.apply(&second).unwrap();
        let expected = [
            ("expire_ms", RouteValue::Integer(5)),
            ("headers", RouteValue::Json("{}".into())),
            ("method", RouteValue::Text("PATCH".into())),
        ];
        assert_eq!(route, Route::new(expected.map(|(key, value)| (key.into(), value))));
        let bytes =
            patch(vec![column("topic", Presence::Value, Data::Bytes(vec![vec![], vec![1]]))]);
        let error = route.apply(&bytes).unwrap_err();
        assert_eq!(error.to_string(), "`topic` must not be bytes");
    }
}
