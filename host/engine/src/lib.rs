//! The verbs of the engine: reading a slot, handing each change to the sinks that want it, running
//! plugins, keeping order, delivering, settling, confirming.
//!
//! It works on the ports of `model` alone and knows neither Postgres, WebAssembly, SQLite nor any
//! destination. Logic sits in plain state machines ([`lane`], [`confirm`], `model::acks`); tasks
//! only carry messages to them.
#![warn(missing_docs)]

pub mod backfill;
pub mod budget;
pub mod confirm;
pub mod costs;
pub mod desk;
pub mod grouping;
pub mod health;
pub mod lane;
pub mod moved;
pub mod replay;
pub mod rollout;
pub mod run;
pub mod select;
pub mod spec;
pub mod status;
pub mod supervise;
pub mod tap;
pub mod trace;
pub mod trip;

mod bury;
mod complete;
mod crew;
mod deliver;
mod derive;
mod encode;
mod enrich;
mod fan_out;
mod filter;
mod finish;
mod follow;
mod intake;
mod ledger;
mod lettered;
mod owner;
mod patience;
mod persist;
mod progress;
mod recorded;
mod refused;
mod router;
mod share;
mod slot;
mod slot_run;
mod spilled;
mod spool;
mod transform;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
