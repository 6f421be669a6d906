//! The name of a collection, and the URLs made of it.

use options::Address;
use options::typesense::{Action, DirtyValues};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

/// Everything but the unreserved characters of RFC 3986.
const PATH_SEGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The query of imports, the same for all collections of a sink.
pub(super) struct Imports {
    /// The configured action.
    whole: String,
    /// Completes documents that exist. One that does not must not come to be from a part: it would
    /// lack what was not sent, and nobody would know.
    partial: String,
    /// Makes documents that do not exist.
    new: String,
}

impl Imports {
    pub(super) fn new(action: Action, dirty_values: Option<DirtyValues>) -> Self {
        let dirty = dirty_values.map(|dirty| format!("&dirty_values={}", dirty.name()));
        let dirty = dirty.unwrap_or_default();
        let query = |action: Action| format!("action={}{dirty}", action.name());
        let (partial, new) = (query(Action::Update), query(Action::Create));
        Self { whole: query(action), partial, new }
    }
}

/// A collection's name and URLs.
pub(super) struct Collection {
    pub(super) name: String,
    pub(super) url: Url,
    pub(super) whole: Url,
    pub(super) partial: Url,
    pub(super) new: Url,
}

impl Collection {
    /// None if no URL can be made.
    pub(super) fn new(address: &Address, name: &str, imports: &Imports) -> Option<Self> {
        let base = address.reveal().as_str().trim_end_matches('/');
        let path = utf8_percent_encode(name, PATH_SEGMENT);
        let url = Url::parse(&format!("{base}/collections/{path}")).ok()?;
        let import = |query: &str| Url::parse(&format!("{url}/documents/import?{query}")).ok();
        let (whole, partial) = (import(&imports.whole)?, import(&imports.partial)?);
        let new = import(&imports.new)?;
        Some(Self { name: name.to_owned(), url, whole, partial, new })
    }

    /// A document of it. `.` and `..` are no documents to a URL.
    pub(super) fn document(&self, id: &str) -> Option<Url> {
        let id = utf8_percent_encode(id, PATH_SEGMENT);
        Url::parse(&format!("{}/documents/{id}?ignore_not_found=true", self.url)).ok()
    }

    /// All documents that pass a filter.
    pub(super) fn filtered(&self, filter: &str) -> Option<Url> {
        let mut url = Url::parse(&format!("{}/documents", self.url)).ok()?;
        url.query_pairs_mut().append_pair("filter_by", filter);
        Some(url)
    }
}
