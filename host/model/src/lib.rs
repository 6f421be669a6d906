//! The words of the engine: what a change is, where it stands, how it groups, and the ports
//! through which the engine meets the world.
//!
//! Everything here is plain data and pure logic. This crate knows no I/O, no async runtime, no
//! Postgres and no WebAssembly; the adapters that do depend on it and never on each other.
#![warn(missing_docs)]

pub mod acks;
pub mod applied;
pub mod backfill;
pub mod backoff;
pub mod batch;
pub mod change;
pub mod chunk;
pub mod conditions;
pub mod document;
pub mod enrich;
pub mod envelope;
pub mod grants;
pub mod groups;
pub mod json;
pub mod lookup;
pub mod lsn;
pub mod message;
pub mod outgoing;
pub mod page;
pub mod path;
pub mod plugin;
pub mod position;
pub mod pull;
pub mod recorded;
pub mod relation;
pub mod rollout;
pub mod route;
pub mod scrub;
pub mod seen;
pub mod sent;
pub mod sink;
pub mod source;
pub mod store;
pub mod tokens;
pub mod versions;

#[cfg(test)]
mod sample;

use std::future::Future;
use std::pin::Pin;

/// The future that a port returns. Ports are called once per batch, so one allocation is nothing.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
