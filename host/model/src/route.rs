//! Where a router sends a message.

/// The routing keys that a router gave for one message. Which there are, and what they mean, depends
/// on the kind of sink; a key that is missing keeps the sink's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    keys: Vec<(Box<str>, RouteValue)>,
}

/// The value of a routing key.
#[derive(Clone, Debug, PartialEq, Eq)]
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

    /// Sets a key.
    pub fn set(&mut self, key: Box<str>, value: RouteValue) {
        match self.keys.iter_mut().find(|(known, _)| *known == key) {
            Some((_, place)) => *place = value,
            None => self.keys.push((key, value)),
        }
    }

    /// The keys with their values, in the order in which they were given, without those that are
    /// null.
    pub fn keys(&self) -> impl Iterator<Item = (&str, &RouteValue)> {
        let given = self.keys.iter().filter(|(_, value)| *value != RouteValue::Null);
        given.map(|(key, value)| (&**key, value))
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
        let number = Route::new([("a".into(), RouteValue::Integer(1))]);
        let error = number.text("a").unwrap_err().to_string();
        assert_eq!(error, "`a` must be a text, not an integer");
    }
}
