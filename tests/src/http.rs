//! The HTTP client of the harness and of tests.

use std::sync::Once;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Nothing that the harness asks takes this long.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A client that follows no redirect, and opens a connection per request: the servers it asks are
/// killed and come back.
pub fn client() -> Result<reqwest::Client> {
    static PROVIDER: Once = Once::new();
    // Required even to build a client that only speaks plain HTTP. Failing means it is there already.
    PROVIDER.call_once(|| {
        rustls::crypto::ring::default_provider().install_default().ok();
    });
    reqwest::Client::builder()
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .no_proxy()
        .build()
        .context("build an HTTP client")
}
