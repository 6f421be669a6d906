//! The harness: starts real servers and the real engine as child processes, and watches them from
//! outside, as a user would.
//!
//! Used by the tests in `it/` and by the demo. Guarantees that what a value started ends, and that its
//! files are gone, when the value is dropped, also when the test panics; that two values never share
//! a port or a directory; and that every wait has a deadline and says what it waited for.
//!
//! It knows no crate of the engine (the benchmarks in `bin/bench` do): only its command line, its `sequin.yaml`, its ports and its log.

pub mod checker;
mod env;
pub mod http;
mod metrics;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod receiver;
pub mod redis;
pub mod registry;
pub mod sample;
pub mod sequin;
mod tail;
pub mod typesense;
mod until;

pub use env::{authoring, find_executable, schemathesis, search_path_behind};
pub use postgres::{Cluster, is_root};
pub use proxy::{Harm, Proxy, Way};
pub use receiver::{Behaviour, Receiver};
pub use redis::Redis;
pub use sequin::Sequin;
pub use tail::Tail;
pub use until::until;

/// Whether `cargo x fixtures` asks for the fixtures of plugins to be written anew.
#[must_use]
pub fn records_fixtures() -> bool {
    env::path("SEQUIN_FIXTURES").is_some()
}

/// The root of the repository: where the plugins and the sample configuration are.
pub fn repository() -> &'static std::path::Path {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}
