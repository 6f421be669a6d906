//! Real components in a real host: what plugins can do, and what hostile ones cannot.
//!
//! One binary, as each links wasmtime. The components are built by `cargo x plugins`.

mod behave;
mod bind;
mod hostile;
mod split;
mod support;
