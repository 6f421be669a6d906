//! Lists in pages. Without `limit` a list comes whole, as the predecessor's did.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::reply::{self, Refused};

/// Things of a page at most.
const LIMIT_MAX: usize = 1_000;

/// Which page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) struct Paged {
    /// Things of a page, 1,000 at most; without it, all.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
    /// What the page before gave as `next`.
    after: Option<String>,
}

/// `{"data": […], "next": …}`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Page<T> {
    data: Vec<T>,
    next: Option<String>,
}

impl Paged {
    pub(crate) fn new(limit: Option<usize>, after: Option<String>) -> Self {
        Self { limit, after }
    }

    /// The page of a list in which `key` tells its things apart.
    ///
    /// # Errors
    /// The page before ended with what is not in the list any more, or `limit` is none.
    pub(crate) fn of<T>(
        &self,
        mut data: Vec<T>,
        key: impl Fn(&T) -> &str,
    ) -> Result<Page<T>, Refused> {
        let wrong = |what: String| reply::error(StatusCode::UNPROCESSABLE_ENTITY, what);
        if let Some(after) = &self.after {
            let at = data.iter().position(|it| key(it) == after).ok_or_else(|| {
                wrong(format!("gone: `{after:.200}` is not in the list: begin with its first page"))
            })?;
            data.drain(..=at);
        }
        let Some(limit) = self.limit else { return Ok(Page { data, next: None }) };
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(wrong(format!("`limit` is 1 to {LIMIT_MAX}")));
        }
        let is_more = data.len() > limit;
        data.truncate(limit);
        let next = data.last().filter(|_| is_more).map(|it| key(it).to_owned());
        Ok(Page { data, next })
    }

    /// The answer to who asks for a list of objects that this field tells apart.
    pub(crate) fn answer(&self, data: Vec<Value>, key: &str) -> Response {
        self.answer_by(data, |it| text(it, key).to_owned())
    }

    /// Likewise, that this tells apart.
    pub(crate) fn answer_by(&self, data: Vec<Value>, key: impl Fn(&Value) -> String) -> Response {
        let data: Vec<Keyed> = data.into_iter().map(|it| Keyed(key(&it), it)).collect();
        match self.of(data, |Keyed(key, _)| key) {
            Ok(page) => Json(page).into_response(),
            Err(refused) => refused.into_response(),
        }
    }
}

/// A text field.
pub(crate) fn text<'a>(of: &'a Value, field: &str) -> &'a str {
    of.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// What `{"data": […]}` holds.
pub(crate) fn data(mut told: Value) -> Vec<Value> {
    match told.get_mut("data").map(Value::take) {
        Some(Value::Array(data)) => data,
        _ => Vec::new(),
    }
}

struct Keyed(String, Value);

impl Serialize for Keyed {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.1.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(limit: Option<usize>, after: Option<&str>) -> Result<(Vec<&'static str>, String), u16> {
        let paged = Paged { limit, after: after.map(str::to_owned) };
        let page = paged.of(vec!["a", "b", "c"], |it| it);
        page.map(|page| (page.data, page.next.unwrap_or_default()))
            .map_err(|refused| refused.status.as_u16())
    }

    #[test]
    fn a_list_comes_whole_or_in_pages() {
        assert_eq!(page(None, None).unwrap(), (vec!["a", "b", "c"], String::new()));
        assert_eq!(page(Some(2), None).unwrap(), (vec!["a", "b"], "b".to_owned()));
        assert_eq!(page(Some(2), Some("b")).unwrap(), (vec!["c"], String::new()));
        assert_eq!(page(Some(3), None).unwrap().1, "", "a page that is just full is the last one");
        assert_eq!(page(Some(1), Some("c")).unwrap().0.len(), 0);
        assert_eq!(page(Some(1), Some("d")), Err(422));
        assert_eq!(page(Some(0), None), Err(422));
        assert_eq!(page(Some(1_001), None), Err(422));
    }
}
