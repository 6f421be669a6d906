//! Write plugins for the Sequin change-data-capture engine.
//!
//! A plugin judges rows one at a time; this crate deals with the batches and columns in which they
//! cross the boundary. A filter decides which rows belong to the set:
//!
//! ```
//! use sequin_plugin::{Error, Filter, Row, Value, Verdict};
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     column: String,
//! }
//!
//! struct Public;
//!
//! impl Filter for Public {
//!     type Config = Config;
//!
//!     fn columns(config: &Config) -> Vec<String> {
//!         vec![config.column.clone()]
//!     }
//!
//!     fn filter(config: &Config, row: &Row<'_>) -> Result<Verdict, Error> {
//!         match row.bool(&config.column)? {
//!             Value::Known(true) => Ok(Verdict::Keep),
//!             Value::Known(false) | Value::Null => Ok(Verdict::Evict),
//!             Value::Unchanged => Err(Error::unchanged(&config.column)),
//!         }
//!     }
//! }
//!
//! sequin_plugin::export_filter!(Public);
//! # fn main() {}
//! ```
//!
//! A transform sets columns through an [`Output`]; see [`Transform`]. Build with
//! `crate-type = ["cdylib"]` for `wasm32-unknown-unknown`: there is no operating system to call, so
//! a plugin gives the same answer to the same row wherever and whenever it runs. Keep no state
//! between rows: each batch meets a new instance, and batches are cut anew each time.
//!
//! [`testing`] runs a plugin over rows written down in a unit test, without WebAssembly.
#![warn(missing_docs)]

#[doc(hidden)]
pub mod bindings;
mod error;
#[doc(hidden)]
pub mod export;
pub mod log;
mod output;
mod role;
mod row;
mod shape;
pub mod testing;

pub use error::Error;
pub use output::Output;
pub use role::{Filter, Transform, Verdict};
pub use row::{Action, Datum, Position, Row, Value};
