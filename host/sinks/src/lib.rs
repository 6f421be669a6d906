//! The destinations: one file each, with what is built once and what is sent per batch.
//!
//! A sink sends a batch once and judges each of its messages. It never retries, sleeps or spawns:
//! retry, order and backoff are the engine's. Every request has a deadline. No error carries a
//! secret or the data of a row.

mod benchmark;
#[cfg(test)]
mod conformance;
mod fetch;
mod file;
mod http;
mod lines;
mod redis;
mod redis_stream;
mod sequin_stream;
mod stdout;
mod typesense;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use model::sink::Sink;

pub use fetch::{Allows, Fetch};
pub use http::guard::Guard;

/// Builds the sinks, which share one HTTP client and its connections.
#[derive(Clone, Debug)]
pub struct Builder {
    http: reqwest::Client,
    guard: Guard,
}

/// What the engine's configuration says about the batches of a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// At most this many messages in a request, unless the destination has a number of its own.
    pub messages_max: usize,
    /// How long the first message of an incomplete batch waits for company.
    pub linger: Duration,
}

/// A sink cannot be built on this machine, or not with these options.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The system's certificates cannot be read, for example.
    #[error("cannot set up the HTTP client: {reason}")]
    Client { reason: String },
    /// A header that HTTP cannot carry.
    #[error("the header `{name}` cannot be sent")]
    Header { name: String },
    /// A URL that cannot be made.
    #[error("the address {address} cannot be extended by a path")]
    Url { address: options::Address },
    /// A certificate that cannot be read, or an address that is none.
    #[error("cannot set up the Redis client: {reason}")]
    Redis { reason: String },
    /// An address that the guard keeps requests from.
    #[error("requests to {address} are not allowed: {reason}")]
    Refused { address: options::Address, reason: String },
}

impl Builder {
    /// # Errors
    /// The machine lacks what an HTTP client needs.
    pub fn new(guard: Guard) -> Result<Self, BuildError> {
        Ok(Self { http: http::client(guard)?, guard })
    }

    /// # Errors
    /// The options cannot be expressed in HTTP, or the guard refuses the address.
    pub fn webhook(
        &self,
        options: options::webhook::Ready,
        batching: Batching,
    ) -> Result<Arc<dyn Sink>, BuildError> {
        self.guard.check_url(&options.endpoint_url)?;
        let client = self.http.clone();
        Ok(Arc::new(webhook::Webhook::new(client, self.guard, options, batching)?))
    }

    /// # Errors
    /// The options cannot be expressed in HTTP, or the guard refuses the address.
    pub fn typesense(
        &self,
        options: options::typesense::Ready,
        batching: Batching,
    ) -> Result<Arc<dyn Sink>, BuildError> {
        self.guard.check_url(&options.url)?;
        Ok(Arc::new(typesense::Typesense::new(self.http.clone(), options, batching)?))
    }
}

/// A Redis stream. It connects when there is something to send.
///
/// # Errors
/// A certificate cannot be read.
pub fn redis_stream(
    options: options::redis_stream::Ready,
    batching: Batching,
) -> Result<Arc<dyn Sink>, BuildError> {
    Ok(Arc::new(redis_stream::RedisStream::new(options, batching)?))
}

/// A stream that consumers fetch from. `seed` is a random number: with another one, the ids of its
/// leases are others.
#[must_use]
pub fn sequin_stream(options: &options::sequin_stream::Ready, seed: u64) -> Arc<dyn Sink> {
    Arc::new(sequin_stream::SequinStream::new(options, seed))
}

/// A file, which is not opened yet.
#[must_use]
pub fn file(options: options::file::Ready, batching: Batching) -> Arc<dyn Sink> {
    Arc::new(file::File::new(options, batching))
}

/// Standard output. Two sinks do not mix their lines.
#[must_use]
pub fn stdout(batching: Batching) -> Arc<dyn Sink> {
    Arc::new(stdout::Stdout::new(std::io::stdout(), batching))
}

/// A sink that takes everything and keeps nothing.
#[must_use]
pub fn benchmark(batching: Batching) -> Arc<dyn Sink> {
    Arc::new(benchmark::Benchmark::new(batching))
}
