//! The ports to what a plugin may be granted beside its rows: capabilities.
//!
//! A call that waits is a future, which whoever waits may drop at its own deadline; what was begun
//! outside then ends by itself. Errors go to the plugin, so none of them holds a secret.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::BoxFuture;

/// What can be granted, by the names of the interfaces of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// The time.
    Clock,
    /// Random bytes.
    Random,
    /// Secrets by name.
    Secrets,
    /// A small store.
    Kv,
    /// Requests over HTTP.
    Http,
    /// Rows of the source.
    Lookup,
}

impl Capability {
    /// All there are.
    pub const ALL: [Self; 6] =
        [Self::Clock, Self::Random, Self::Secrets, Self::Kv, Self::Http, Self::Lookup];

    /// Its name in the contract and in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::Random => "random",
            Self::Secrets => "secrets",
            Self::Kv => "kv",
            Self::Http => "http",
            Self::Lookup => "lookup",
        }
    }

    /// The capability of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }

    /// Whether an answer may have to be waited for.
    #[must_use]
    pub const fn waits(self) -> bool {
        matches!(self, Self::Kv | Self::Http | Self::Lookup)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What kind of failure a call had: as in the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Not granted, or not now.
    Denied,
    /// The question makes no sense.
    Invalid,
    /// Past a limit.
    TooLarge,
    /// No answer in time.
    Timeout,
    /// Nobody there who could answer.
    Unavailable,
    /// The calls are used up.
    Exhausted,
}

/// Why a call has no answer. For the plugin, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CallError {
    /// Of which kind.
    pub failure: Failure,
    /// For people.
    pub message: String,
}

impl CallError {
    /// A failure with its text.
    #[must_use]
    pub fn new(failure: Failure, message: impl Into<String>) -> Self {
        Self { failure, message: message.into() }
    }
}

/// The time.
pub trait Clock: Send + Sync {
    /// Microseconds since 1970.
    ///
    /// # Errors
    /// There is no time to tell.
    fn now_us(&self) -> Result<i64, CallError>;
}

/// Random bytes.
pub trait Random: Send + Sync {
    /// Fills `bytes`.
    ///
    /// # Errors
    /// There is no randomness.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), CallError>;
}

/// Secrets by name.
pub trait Secrets: Send + Sync {
    /// The secret that is granted under `name`.
    ///
    /// # Errors
    /// None is.
    fn get(&self, name: &str) -> Result<String, CallError>;
}

/// What a batch wrote: a value, or None for what it deleted, by key.
pub type Writes = BTreeMap<String, Option<Vec<u8>>>;

/// A small store of one function.
pub trait KeyValue: Send + Sync {
    /// What stands under `key`.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, CallError>>;

    /// Writes all of it, or nothing.
    fn write(&self, writes: Writes) -> BoxFuture<'_, Result<(), CallError>>;
}

/// A request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpRequest {
    /// As it is sent.
    pub method: String,
    /// Whole.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// May be empty.
    pub body: Vec<u8>,
    /// How long to wait for all of the answer, if it is less than the grant's limit.
    pub timeout: Option<Duration>,
}

/// An answer, whatever its status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpResponse {
    /// The status.
    pub status: u16,
    /// Names and values; a value that is no text is left out.
    pub headers: Vec<(String, String)>,
    /// May be empty.
    pub body: Vec<u8>,
}

/// Requests to the hosts that are granted.
pub trait Http: Send + Sync {
    /// Sends it once; a redirect is an answer.
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, CallError>>;
}

/// A question for rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowsQuery {
    /// `schema.table`.
    pub table: String,
    /// What to read.
    pub columns: Vec<String>,
    /// What tells a row.
    pub key: Vec<String>,
    /// For each row that is wanted, as many values as `key` has columns.
    pub keys: Vec<Vec<String>>,
}

/// The values of one row, in the order of the columns that were asked for.
pub type FoundRow = Vec<Option<String>>;

/// Rows of the source as they are now.
pub trait ReadRows: Send + Sync {
    /// As many answers as keys, in their order.
    fn rows(&self, query: RowsQuery) -> BoxFuture<'_, Result<Vec<Option<FoundRow>>, CallError>>;
}

/// What a function is granted. Nothing, by default.
#[derive(Clone, Default)]
pub struct Grants {
    /// The time.
    pub clock: Option<Arc<dyn Clock>>,
    /// Random bytes.
    pub random: Option<Arc<dyn Random>>,
    /// Secrets.
    pub secrets: Option<Arc<dyn Secrets>>,
    /// A store.
    pub kv: Option<Arc<dyn KeyValue>>,
    /// Requests.
    pub http: Option<Arc<dyn Http>>,
    /// Rows.
    pub lookup: Option<Arc<dyn ReadRows>>,
}

impl Grants {
    /// Whether it is granted.
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        match capability {
            Capability::Clock => self.clock.is_some(),
            Capability::Random => self.random.is_some(),
            Capability::Secrets => self.secrets.is_some(),
            Capability::Kv => self.kv.is_some(),
            Capability::Http => self.http.is_some(),
            Capability::Lookup => self.lookup.is_some(),
        }
    }

    /// What is granted.
    pub fn list(&self) -> impl Iterator<Item = Capability> + '_ {
        Capability::ALL.into_iter().filter(|capability| self.has(*capability))
    }

    /// Those of them that are wanted.
    #[must_use]
    pub fn only(mut self, wanted: &[Capability]) -> Self {
        for capability in Capability::ALL {
            if wanted.contains(&capability) {
                continue;
            }
            match capability {
                Capability::Clock => self.clock = None,
                Capability::Random => self.random = None,
                Capability::Secrets => self.secrets = None,
                Capability::Kv => self.kv = None,
                Capability::Http => self.http = None,
                Capability::Lookup => self.lookup = None,
            }
        }
        self
    }
}

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.list()).finish()
    }
}
