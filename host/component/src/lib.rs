//! From the crate of a plugin to a component: cargo builds a module, and a component is made of it.
//!
//! Guarantees that a component's file is written only if its bytes changed, so that nothing which
//! embeds or watches it is disturbed, and that what is written is a valid component. Knows nothing
//! of worlds or roles: whether a host can use it is for the host to say.
//!
//! A component says what it is in the custom sections that all tools know (`wasm-tools metadata
//! show`): name, version, description, licence, and as its revision the commit of its sources; see
//! [`revision`].
#![warn(missing_docs)]

mod build;
mod encode;
mod error;
mod file;
mod revision;

pub use build::{Module, TARGET, modules, plugins, remap_flags};
pub use encode::{About, componentise, describe, encode};
pub use error::Error;
pub use file::write_if_changed;
pub use revision::revision;

/// The packages of a cargo workspace, as cargo tells them.
pub use cargo_metadata::{Metadata, Package};
