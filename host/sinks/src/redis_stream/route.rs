//! Where a router sends a message: `stream_key`, as in the predecessor.

use model::route::{Route, RouteError};
use options::redis::check_key;

/// The stream that a route names; None: the sink's own.
///
/// # Errors
/// The key that is wrong, and why.
pub(super) fn key(route: &Route) -> Result<Option<&str>, RouteError> {
    let wrong = |field: &str, message: &str| RouteError {
        field: field.into(),
        message: message.to_owned(),
    };
    if let Some((other, _)) = route.keys().find(|(key, _)| *key != "stream_key") {
        return Err(wrong(other, "is no routing key of a Redis stream: there is stream_key"));
    }
    let key = route.text("stream_key")?;
    if let Some(Err(why)) = key.map(check_key) {
        return Err(wrong("stream_key", why));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use model::route::RouteValue;

    use super::*;

    #[test]
    fn a_route_names_a_stream() {
        let route = |key: &str, value| Route::new([(key.into(), value)]);
        let text = |text: &str| RouteValue::Text(text.into());
        assert_eq!(key(&route("stream_key", text("a"))), Ok(Some("a")));
        assert_eq!(key(&Route::default()), Ok(None));
        for (name, value) in [
            ("stream_key", text("")),
            ("stream_key", text("a b")),
            ("stream_key", text(&"a".repeat(256))),
            ("stream_key", RouteValue::Integer(1)),
            ("topic", text("a")),
        ] {
            let route = route(name, value);
            assert_eq!(&*key(&route).unwrap_err().field, name);
        }
    }
}
