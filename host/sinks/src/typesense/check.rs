//! Whether the collection is there, and if not, which may have been meant.

use model::sink::SinkError;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use tokio::time::Instant;

use super::{Typesense, answer};
use crate::http;

/// Of the list of collections, with their schemas.
const LIST_BYTES_MAX: usize = 4 << 20;

impl Typesense {
    /// A collection that messages are routed to is not known before they come.
    pub(super) async fn find(&self) -> Result<(), SinkError> {
        let deadline = Instant::now() + self.timeout;
        let name = &self.collection.name;
        let url = self.collection.url.clone();
        let mut response = self.send(Method::GET, url, None, deadline).await?;
        if response.status().is_success() {
            return Ok(());
        }
        let said = answer::said(&mut response).await;
        let mut error = self.explain(&response, &said, name);
        if response.status() == StatusCode::NOT_FOUND
            && let Some(names) = self.names(deadline).await
            && let Some(nearest) = nearest(name, &names)
        {
            error.message.push_str(&format!(": there is a `{nearest}`"));
        }
        Err(error)
    }

    /// The collections that are there, as far as the key may know.
    async fn names(&self, deadline: Instant) -> Option<Vec<String>> {
        #[derive(Deserialize)]
        struct Named {
            name: String,
        }
        let mut url = self.collection.url.clone();
        url.path_segments_mut().ok()?.pop();
        let mut response = self.send(Method::GET, url, None, deadline).await.ok()?;
        let (body, whole) = http::body(&mut response, LIST_BYTES_MAX).await.ok()?;
        let list: Vec<Named> = serde_json::from_slice(&body).ok().filter(|_| whole)?;
        Some(list.into_iter().map(|named| named.name).collect())
    }
}

/// The most alike of the names, if it is alike at all: at most a third of it differs.
fn nearest<'a>(name: &str, names: &'a [String]) -> Option<&'a str> {
    let distances = names.iter().map(|other| (distance(name, other), other));
    let (distance, other) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= name.chars().count().div_ceil(3)).then_some(other)
}

/// How many characters are to be inserted, removed or replaced (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, char) in from.chars().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        for (place, other) in row.iter_mut().zip(std::iter::once(None).chain(to.iter().map(Some))) {
            let above = *place;
            *place = match other {
                None => left,
                Some(other) => {
                    let replaced = diagonal + usize::from(char != *other);
                    replaced.min(above + 1).min(left + 1)
                }
            };
            (diagonal, left) = (above, *place);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_if_it_is_near() {
        for (from, to, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("poi", "poi", 0),
            ("poi", "pois", 1),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
        ] {
            assert_eq!(distance(from, to), expected, "{from} {to}");
        }
        let names = ["review", "poi_search"].map(str::to_owned);
        assert_eq!(nearest("poi-search", &names), Some("poi_search"));
        assert_eq!(nearest("users", &names), None);
        assert_eq!(nearest("users", &[]), None);
    }
}
