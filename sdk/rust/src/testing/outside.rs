//! What is outside of a plugin in a unit test: the stand-ins of what it would be granted.
//!
//! ```
//! use sequin_plugin::capabilities::{clock, http};
//! use sequin_plugin::testing::outside::Outside;
//!
//! let outside = Outside { clock: Some(1_700_000_000_000_000), ..Outside::default() }
//!     .answer("GET", "https://api.test/rate", 200, "1.25");
//! outside.during(|| {
//!     assert_eq!(clock::now(), Ok(1_700_000_000_000_000));
//!     assert_eq!(http::get("https://api.test/rate").unwrap().body, b"1.25");
//!     assert!(http::get("https://api.test/other").is_err());
//! });
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::capabilities::{CallError, Failure};

thread_local! {
    static OUTSIDE: RefCell<Outside> = RefCell::default();
}

/// What answers. Nothing does that is not here, as nothing does that is not granted.
#[derive(Clone, Debug, Default)]
pub struct Outside {
    /// The time, in microseconds since 1970: it stands.
    pub clock: Option<i64>,
    /// Where random bytes begin: the same bytes each time.
    pub random: Option<u64>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, String>,
    /// What the store holds; None if it is not granted.
    pub kv: Option<BTreeMap<String, Vec<u8>>>,
    /// Answers by method and URL.
    pub http: BTreeMap<(String, String), http::Response>,
    /// Rows by table: values by column.
    pub lookup: BTreeMap<String, Vec<BTreeMap<String, Option<String>>>>,
}

impl Outside {
    /// With an answer to requests of this method for this URL.
    #[must_use]
    pub fn answer(mut self, method: &str, url: &str, status: u16, body: &str) -> Self {
        let response = http::Response { status, headers: Vec::new(), body: body.into() };
        self.http.insert((method.to_owned(), url.to_owned()), response);
        self
    }

    /// With a secret.
    #[must_use]
    pub fn secret(mut self, name: &str, value: &str) -> Self {
        self.secrets.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Runs `test` on this thread with it, and hands back what it gives.
    pub fn during<T>(self, test: impl FnOnce() -> T) -> T {
        /// Puts back what was there, also after a failed assertion.
        struct Back(Option<Outside>);
        impl Drop for Back {
            fn drop(&mut self) {
                let before = self.0.take().unwrap_or_default();
                OUTSIDE.with(|outside| outside.replace(before));
            }
        }
        let _back = Back(Some(OUTSIDE.with(|outside| outside.replace(self))));
        test()
    }
}

fn with<T>(ask: impl FnOnce(&mut Outside) -> Result<T, String>) -> Result<T, CallError> {
    OUTSIDE
        .with(|outside| ask(&mut outside.borrow_mut()))
        .map_err(|message| CallError::new(Failure::Denied, message))
}

pub(crate) mod clock {
    use super::{CallError, with};

    pub(crate) fn now() -> Result<i64, CallError> {
        with(|outside| outside.clock.ok_or_else(|| "no stand-in for the clock".to_owned()))
    }
}

pub(crate) mod random {
    use super::{CallError, with};

    pub(crate) fn bytes(count: u32) -> Result<Vec<u8>, CallError> {
        with(|outside| {
            let state = outside.random.as_mut();
            let state = state.ok_or_else(|| "no stand-in for randomness".to_owned())?;
            // Knuth's; all that matters is that it is the same each time.
            let next = |_| {
                *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_be_bytes()[0]
            };
            Ok((0..count).map(next).collect())
        })
    }
}

pub(crate) mod secrets {
    use super::{CallError, with};

    pub(crate) fn get(name: &str) -> Result<String, CallError> {
        let missing = || format!("no stand-in for the secret `{name}`");
        with(|outside| outside.secrets.get(name).cloned().ok_or_else(missing))
    }
}

pub(crate) mod kv {
    use super::{BTreeMap, CallError, with};

    fn store<T>(ask: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> T) -> Result<T, CallError> {
        with(|outside| {
            outside.kv.as_mut().map(ask).ok_or_else(|| "no stand-in for the store".to_owned())
        })
    }

    pub(crate) fn get(key: &str) -> Result<Option<Vec<u8>>, CallError> {
        store(|store| store.get(key).cloned())
    }

    pub(crate) fn put(key: &str, value: &[u8]) -> Result<(), CallError> {
        store(|store| drop(store.insert(key.to_owned(), value.to_vec())))
    }

    pub(crate) fn delete(key: &str) -> Result<(), CallError> {
        store(|store| drop(store.remove(key)))
    }
}

pub(crate) mod http {
    use super::{CallError, with};

    pub(crate) use crate::capabilities::http::Response;

    pub(crate) struct Request {
        pub(crate) method: String,
        pub(crate) url: String,
        #[expect(dead_code, reason = "an answer goes by method and URL")]
        pub(crate) headers: Vec<(String, String)>,
        #[expect(dead_code, reason = "as above")]
        pub(crate) body: Vec<u8>,
        #[expect(dead_code, reason = "as above")]
        pub(crate) timeout_ms: Option<u32>,
    }

    pub(crate) fn send(request: &Request) -> Result<Response, CallError> {
        let Request { method, url, .. } = request;
        let missing = || format!("no stand-in for {method} {url}");
        with(|outside| {
            outside.http.get(&(method.clone(), url.clone())).cloned().ok_or_else(missing)
        })
    }
}

pub(crate) mod lookup {
    use super::{CallError, with};
    use crate::capabilities::lookup::Found;

    pub(crate) struct Query {
        pub(crate) table: String,
        pub(crate) columns: Vec<String>,
        pub(crate) key: Vec<String>,
        pub(crate) keys: Vec<Vec<String>>,
    }

    pub(crate) fn rows(query: &Query) -> Result<Vec<Option<Found>>, CallError> {
        let Query { table, columns, key, keys } = query;
        with(|outside| {
            let rows = outside.lookup.get(table);
            let rows = rows.ok_or_else(|| format!("no stand-in for the table {table}"))?;
            let find = |wanted: &Vec<String>| {
                let row = rows.iter().find(|row| {
                    let mut pairs = key.iter().zip(wanted);
                    pairs.all(|(name, value)| {
                        row.get(name).is_some_and(|it| it.as_ref() == Some(value))
                    })
                })?;
                Some(columns.iter().map(|name| row.get(name).cloned().flatten()).collect())
            };
            Ok(keys.iter().map(find).collect())
        })
    }
}
