//! `destination: {type: typesense}`: rows are documents of a Typesense collection.

use std::time::Duration;

use serde::Deserialize;

use crate::endpoint::{http_url, is_header_value};
use crate::{Address, Problem, Problems, Secret};

/// The predecessor's bounds.
const URL_BYTES_MAX: usize = 4096;
const COLLECTION_BYTES_MAX: usize = 1024;
const BATCH_SIZE_MAX: i64 = 10_000;
const TIMEOUT_SECONDS_MAX: i64 = 3600;

/// A collection as a user writes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// May hold a user and a password, for a proxy in front of the server.
    pub endpoint_url: Secret,
    pub collection_name: String,
    pub api_key: Secret,
    /// Documents of one request. Wins over the sink's `batch_size`.
    #[serde(default = "batch_size")]
    pub batch_size: i64,
    /// For one request, from connecting to the last byte of the answer. The default is that of the
    /// predecessor's code; its documentation said 5.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: i64,
    /// Ours: the predecessor always did what `emplace` does.
    #[serde(default)]
    pub action: Action,
    /// What becomes of a value that does not fit its field's type. Ours; left out, the server's own
    /// default holds.
    pub dirty_values: Option<DirtyValues>,
}

/// What an existing document, or its absence, means to a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Create it, or change the fields that are given.
    #[default]
    Emplace,
    /// Create it, or replace it as a whole.
    Upsert,
    /// Create it, or leave the existing one alone.
    Create,
    /// Change the fields that are given, or do nothing if it does not exist.
    Update,
}

impl Action {
    /// As Typesense calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Emplace => "emplace",
            Self::Upsert => "upsert",
            Self::Create => "create",
            Self::Update => "update",
        }
    }
}

/// What becomes of a value that does not fit its field's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DirtyValues {
    /// Make it fit, or leave the field out.
    CoerceOrDrop,
    /// Make it fit, or refuse the document.
    CoerceOrReject,
    /// Leave the field out.
    Drop,
    /// Refuse the document.
    Reject,
}

impl DirtyValues {
    /// As Typesense calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CoerceOrDrop => "coerce_or_drop",
            Self::CoerceOrReject => "coerce_or_reject",
            Self::Drop => "drop",
            Self::Reject => "reject",
        }
    }
}

/// A collection that documents can be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    pub url: Address,
    /// Neither empty nor dots: a URL path would not say it.
    pub collection_name: String,
    pub api_key: Secret,
    /// 1 or more.
    pub batch_size: usize,
    pub timeout: Duration,
    pub action: Action,
    pub dirty_values: Option<DirtyValues>,
}

fn batch_size() -> i64 {
    40
}

fn timeout_seconds() -> i64 {
    10
}

impl Options {
    /// # Errors
    /// Everything that is wrong with it.
    pub fn validate(&self) -> Result<Ready, Vec<Problem>> {
        let mut problems = Problems::default();
        let url = problems.keep(address(self.endpoint_url.reveal()));
        let name = self.collection_name.as_str();
        if let Err(message) = check_collection(name) {
            problems.push(Problem::new("collection_name", message));
        }
        if self.api_key.reveal().is_empty() || !is_header_value(&self.api_key) {
            problems.push(Problem::new("api_key", "is empty or has control characters"));
        }
        if !(1..=BATCH_SIZE_MAX).contains(&self.batch_size) {
            let message = format!("must be between 1 and {BATCH_SIZE_MAX}");
            problems.push(Problem::new("batch_size", message));
        }
        if !(1..=TIMEOUT_SECONDS_MAX).contains(&self.timeout_seconds) {
            let message = format!("must be between 1 and {TIMEOUT_SECONDS_MAX}");
            problems.push(Problem::new("timeout_seconds", message));
        }
        problems.or(url.map(|url| Ready {
            url,
            collection_name: name.to_owned(),
            api_key: self.api_key.clone(),
            batch_size: usize::try_from(self.batch_size).unwrap_or(1),
            timeout: Duration::from_secs(self.timeout_seconds.unsigned_abs()),
            action: self.action,
            dirty_values: self.dirty_values,
        }))
    }
}

/// Whether a collection can have this name. Dots alone are directions to a URL.
///
/// # Errors
/// Why not, to follow the field in a sentence.
pub fn check_collection(name: &str) -> Result<(), &'static str> {
    if matches!(name, "" | "." | "..") || name.len() > COLLECTION_BYTES_MAX {
        return Err("must be a name of 1 to 1024 bytes");
    }
    Ok(())
}

fn address(text: &str) -> Result<Address, Problem> {
    let field = "endpoint_url";
    if text.len() > URL_BYTES_MAX {
        return Err(Problem::new(field, format!("is longer than {URL_BYTES_MAX} bytes")));
    }
    let url = http_url(field, text)?;
    if url.query().is_some() {
        return Err(Problem::new(field, "must not have a query"));
    }
    if url.fragment().is_some() {
        return Err(Problem::new(field, "must not have a fragment"));
    }
    Ok(Address::new(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            endpoint_url: Secret::new("http://search.test:8108"),
            collection_name: "poi".to_owned(),
            api_key: Secret::new("hunter2"),
            batch_size: 40,
            timeout_seconds: 10,
            action: Action::Emplace,
            dirty_values: None,
        }
    }

    #[test]
    fn good_options_are_ready() {
        let ready = options().validate().unwrap();
        assert_eq!(ready.batch_size, 40);
        assert_eq!(ready.timeout, Duration::from_secs(10));
    }

    #[test]
    fn b237_secrets_never_show() {
        let options = Options {
            endpoint_url: Secret::new("http://u:hunter2@search.test?hunter2"),
            ..options()
        };
        assert!(!format!("{options:?}").contains("hunter2"));
        assert!(!format!("{:?}", options.validate()).contains("hunter2"));
        assert!(!format!("{:?}", self::options().validate()).contains("hunter2"));
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let problems = Options {
            endpoint_url: Secret::new("search.test"),
            collection_name: "..".to_owned(),
            api_key: Secret::new(""),
            batch_size: 0,
            timeout_seconds: 3601,
            action: Action::Update,
            dirty_values: None,
        }
        .validate()
        .unwrap_err();
        let fields: Vec<_> = problems.iter().map(|problem| problem.field).collect();
        assert_eq!(
            fields,
            ["endpoint_url", "collection_name", "api_key", "batch_size", "timeout_seconds"]
        );
    }

    #[test]
    fn bad_urls_are_refused() {
        for url in ["redis://a", "http://", "http://a.test?q=1", "http://a.test#f", "/x"] {
            let options = Options { endpoint_url: Secret::new(url), ..options() };
            assert_eq!(options.validate().unwrap_err().len(), 1, "{url}");
        }
    }
}
