//! The destinations: one file each, with what is built once and what is sent per batch.
//!
//! A sink sends a batch once and judges each of its messages. It never retries, sleeps or spawns:
//! retry, order and backoff are the engine's. Every request has a deadline. No error carries a
//! secret or the data of a row.

#[cfg(test)]
mod conformance;
mod http;
mod typesense;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use model::sink::Sink;

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
