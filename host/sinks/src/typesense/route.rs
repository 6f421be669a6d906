//! Where a router sends a message: `collection_name` and `action`, as in the predecessor.

use model::route::{Route, RouteError};
use options::typesense::check_collection;

/// A route that can be followed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Routed<'a> {
    /// None: the sink's own.
    pub(super) collection: Option<&'a str>,
    /// None: as the change says.
    pub(super) action: Option<RoutedAction>,
}

/// What a route does with a document that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RoutedAction {
    Index,
    Delete,
}

impl<'a> Routed<'a> {
    /// # Errors
    /// The key that is wrong, and why.
    pub(super) fn of(route: &'a Route) -> Result<Self, RouteError> {
        let wrong = |field: &str, message: &str| RouteError {
            field: field.into(),
            message: message.to_owned(),
        };
        let mut routed = Self::default();
        for (key, _) in route.keys() {
            match key {
                "collection_name" => {
                    if let Some(name) = route.text(key)? {
                        check_collection(name).map_err(|why| wrong(key, why))?;
                        routed.collection = Some(name);
                    }
                }
                "action" => {
                    routed.action = match route.text(key)? {
                        None => None,
                        Some("index") => Some(RoutedAction::Index),
                        Some("delete") => Some(RoutedAction::Delete),
                        Some(_) => return Err(wrong(key, "must be index or delete")),
                    }
                }
                other => {
                    let message =
                        "is no routing key of Typesense: they are action and collection_name";
                    return Err(wrong(other, message));
                }
            }
        }
        Ok(routed)
    }
}

#[cfg(test)]
mod tests {
    use model::route::RouteValue;

    use super::*;

    fn route(key: &str, value: RouteValue) -> Route {
        Route::new([(key.into(), value)])
    }

    #[test]
    fn b109_b110_routes_are_checked_and_name_their_key() {
        let text = |text: &str| RouteValue::Text(text.into());
        let good = route("collection_name", text("poi_de"));
        assert_eq!(Routed::of(&good).unwrap().collection, Some("poi_de"));
        let good = route("action", text("delete"));
        assert_eq!(Routed::of(&good).unwrap().action, Some(RoutedAction::Delete));
        assert_eq!(Routed::of(&route("action", RouteValue::Null)).unwrap(), Routed::default());
        let long = "a".repeat(1025);
        for (key, value) in [
            ("collection_name", text("")),
            ("collection_name", text("..")),
            ("collection_name", text(&long)),
            ("collection_name", RouteValue::Integer(1)),
            ("action", text("upsert")),
            ("action", RouteValue::Boolean(true)),
            ("index_name", text("x")),
        ] {
            let error = Routed::of(&route(key, value)).unwrap_err();
            assert_eq!(&*error.field, key);
        }
    }
}
