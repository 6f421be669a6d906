//! The sandbox: runs WebAssembly components as plugins.
//!
//! A [`Host`] loads components ([`Program`]) and binds them to a name, a role and a configuration,
//! which makes a [`model::plugin::Plugin`] for the engine.
//!
//! Guarantees:
//! - A component is granted a line in the log, and what the owner of the engine grants it by name;
//!   one that imports anything else is refused by the import's name. What waits outside is given up
//!   with the guest's time.
//! - It can exhaust only its own [`Limits`]: CPU time, memory, stack, output, log lines.
//! - Each batch runs in a fresh instance, so that nothing is carried from batch to batch; a plugin
//!   may promise that nothing it carries matters, and is then kept warm. An instance that failed is
//!   never used again.
//! - Each row gets an outcome of its own. When a batch as a whole fails, its rows are run again one
//!   by one, so only the guilty ones fail.
//! - Guests run on threads of their own; nothing here blocks a task of the runtime but
//!   [`Host::load`] and [`Host::bind`], which say so.
//!
//! This is the only crate that knows wasmtime. It knows no Postgres, no sink and no configuration
//! file.
#![warn(missing_docs)]

mod bindings;
mod bound;
mod budget;
mod cache;
mod calls;
mod convert;
mod cut;
mod engine;
mod error;
mod fault;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
mod inspect;
mod instance;
mod limits;
mod lines;
mod linker;
mod memory;
mod pool;
mod program;
mod reads;
mod reply;
mod schema;
pub mod trial;
mod usage;
mod worlds;

#[doc(hidden)]
pub use bound::measure;
pub use engine::{Granted, Host};
pub use error::Error;
pub use inspect::{Inspection, inspect};
pub use limits::{Limits, Metering, Own, Terms};
pub use program::{Description, Program, Role};
pub use usage::{Totals, Usage};
pub use worlds::contracts;
