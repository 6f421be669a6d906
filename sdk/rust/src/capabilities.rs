//! What a plugin can be granted beside its rows: the time, randomness, secrets, a small store, HTTP,
//! and rows of the source.
//!
//! A plugin says what it wants in [`Plugin::CAPABILITIES`](crate::Plugin::CAPABILITIES), and the owner
//! of the engine grants it in `sequin.yaml`; without that it is not loaded. Calls have answers while
//! rows are judged ([`secrets`] also while the configuration is checked), and so many in a batch. In
//! unit tests nothing outside is asked: [`testing::outside`](crate::testing::outside) says what is
//! there.
//!
//! A plugin that is granted something is no longer deterministic: its outcomes are not shared between
//! sinks, and a replay may give others.

#![cfg_attr(
    not(target_arch = "wasm32"),
    expect(clippy::needless_question_mark, reason = "errors of the contract are converted")
)]

use std::fmt;

use crate::Error;

/// What can be wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// [`clock`].
    Clock,
    /// [`random`].
    Random,
    /// [`secrets`].
    Secrets,
    /// [`kv`].
    Kv,
    /// [`http`].
    Http,
    /// [`lookup`].
    Lookup,
}

impl Capability {
    /// Its name in the contract and in `sequin.yaml`.
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
}

/// What kind of failure a call had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Not granted, or not at this time.
    Denied,
    /// The question makes no sense.
    Invalid,
    /// Past a limit.
    TooLarge,
    /// No answer in time.
    Timeout,
    /// Nobody there who could answer, now.
    Unavailable,
    /// The calls of this batch are used up.
    Exhausted,
}

/// Why a call has no answer. With `?` it becomes the [`Error`] of the row, which says that the row may
/// succeed later if it was a matter of time.
// No `std::error::Error`, as that becomes an `Error` in another way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallError {
    /// Of which kind.
    pub failure: Failure,
    /// For people. It holds no secret.
    pub message: String,
}

impl CallError {
    /// A failure with its text.
    pub fn new(failure: Failure, message: impl Into<String>) -> Self {
        Self { failure, message: message.into() }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        let later = matches!(error.failure, Failure::Timeout | Failure::Unavailable);
        let failed = Self::new(error.message);
        if later { failed.retry() } else { failed }
    }
}

#[cfg(target_arch = "wasm32")]
impl From<crate::bindings::calls::CallError> for CallError {
    fn from(error: crate::bindings::calls::CallError) -> Self {
        use crate::bindings::calls::Failure as Wit;
        let failure = match error.failure {
            Wit::Denied => Failure::Denied,
            Wit::Invalid => Failure::Invalid,
            Wit::TooLarge => Failure::TooLarge,
            Wit::Timeout => Failure::Timeout,
            Wit::Unavailable => Failure::Unavailable,
            Wit::Exhausted => Failure::Exhausted,
        };
        Self { failure, message: error.message }
    }
}

#[cfg(target_arch = "wasm32")]
use crate::bindings as outside;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing::outside;

/// The time.
pub mod clock {
    use super::{CallError, outside};

    /// Microseconds since 1970, UTC, by the clock of the host.
    ///
    /// # Errors
    /// It is not granted.
    pub fn now() -> Result<i64, CallError> {
        Ok(outside::clock::now()?)
    }
}

/// Random bytes.
pub mod random {
    use super::{CallError, outside};

    /// So many bytes, fit for keys; at most 4096.
    ///
    /// # Errors
    /// It is not granted, or they are too many.
    pub fn bytes(count: u32) -> Result<Vec<u8>, CallError> {
        Ok(outside::random::bytes(count)?)
    }
}

/// Secrets by name.
pub mod secrets {
    use super::{CallError, outside};

    /// The secret that is granted under this name. Leave it out of errors and of the log.
    ///
    /// # Errors
    /// None is.
    pub fn get(name: &str) -> Result<String, CallError> {
        Ok(outside::secrets::get(name)?)
    }
}

/// A small store of the function's own, which outlives the process.
///
/// What a batch writes stays only if the whole batch was good, and a batch may come again: write what
/// is so, and count nothing.
pub mod kv {
    use super::{CallError, outside};

    /// What stands under a key.
    ///
    /// # Errors
    /// It is not granted, or the store does not answer.
    pub fn get(key: &str) -> Result<Option<Vec<u8>>, CallError> {
        Ok(outside::kv::get(key)?)
    }

    /// Writes a value: up to 64 KiB, under a key of up to 256 bytes.
    ///
    /// # Errors
    /// It is not granted, or too large.
    pub fn put(key: &str, value: &[u8]) -> Result<(), CallError> {
        Ok(outside::kv::put(key, value)?)
    }

    /// Takes a value away.
    ///
    /// # Errors
    /// It is not granted.
    pub fn delete(key: &str) -> Result<(), CallError> {
        Ok(outside::kv::delete(key)?)
    }
}

/// Requests to the hosts that are granted.
pub mod http {
    use std::time::Duration;

    use super::{CallError, outside};

    /// A request.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Request {
        /// `GET`, `POST` and so on.
        pub method: String,
        /// `https://…`.
        pub url: String,
        /// Names and values.
        pub headers: Vec<(String, String)>,
        /// May be empty.
        pub body: Vec<u8>,
        /// How long to wait for all of the answer; None: as long as the grant allows.
        pub timeout: Option<Duration>,
    }

    /// An answer, whatever its status. A redirect is one, and not followed.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Response {
        /// The status.
        pub status: u16,
        /// Names and values.
        pub headers: Vec<(String, String)>,
        /// May be empty.
        pub body: Vec<u8>,
    }

    impl Request {
        /// Of this method, for this URL.
        pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
            Self { method: method.into(), url: url.into(), ..Self::default() }
        }

        /// With one header more.
        #[must_use]
        pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
            self.headers.push((name.into(), value.into()));
            self
        }

        /// With a body.
        #[must_use]
        pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
            self.body = body.into();
            self
        }

        /// Sends it, once.
        ///
        /// # Errors
        /// There is no answer: the host is not granted, cannot be reached, takes too long or says
        /// too much.
        pub fn send(&self) -> Result<Response, CallError> {
            let timeout_ms =
                self.timeout.map(|timeout| u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX));
            let outside::http::Response { status, headers, body } =
                outside::http::send(&outside::http::Request {
                    method: self.method.clone(),
                    url: self.url.clone(),
                    headers: self.headers.clone(),
                    body: self.body.clone(),
                    timeout_ms,
                })?;
            Ok(Response { status, headers, body })
        }
    }

    impl Response {
        /// Whether the status is 200 to 299.
        #[must_use]
        pub fn is_success(&self) -> bool {
            (200..300).contains(&self.status)
        }
    }

    /// A `GET` without headers.
    ///
    /// # Errors
    /// As for [`Request::send`].
    pub fn get(url: &str) -> Result<Response, CallError> {
        Request::new("GET", url).send()
    }
}

/// Rows of the source as they are now, from the tables that are granted.
pub mod lookup {
    use super::{CallError, outside};

    /// A row that was found: Postgres' texts, in the order of the columns asked for.
    pub type Found = Vec<Option<String>>;

    /// For each key its row, or None; one query of the database for all of them. `table` is
    /// `schema.table`, and `key` the columns that tell a row.
    ///
    /// # Errors
    /// The table is not granted, has no such columns, or the database does not answer.
    pub fn rows(
        table: &str,
        columns: &[&str],
        key: &[&str],
        keys: &[Vec<String>],
    ) -> Result<Vec<Option<Found>>, CallError> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let query = outside::lookup::Query {
            table: table.to_owned(),
            columns: owned(columns),
            key: owned(key),
            keys: keys.to_vec(),
        };
        Ok(outside::lookup::rows(&query)?)
    }
}
