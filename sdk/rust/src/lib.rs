//! Write plugins for the Sequin change-data-capture engine.
//!
//! A plugin judges rows one at a time; this crate deals with the batches and columns in which they
//! cross the boundary. A filter decides which rows belong to the set, a transform changes what is
//! sent for a row, a router says where it goes. This file is a whole filter:
//!
//! ```
//! use sequin_plugin::prelude::*;
//!
//! sequin_plugin::filter! {
//!     /// Keeps the rows in which a boolean column is true.
//!     pub struct Public { column: String }
//!     reads(self) { Reads::columns([&self.column]) }
//!     filter(self, row) {
//!         let shown = row.bool(&self.column)?.sent(&self.column)?;
//!         Ok(Verdict::keep_if(shown == Some(true)))
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! # A complete plugin
//! `Cargo.toml`:
//!
//! ```toml
//! [package]
//! name = "price-with-tax"
//! version = "1.0.0"
//! license = "MIT"
//! edition = "2024"
//!
//! [lib]
//! crate-type = ["cdylib"]
//!
//! [dependencies]
//! sequin-plugin = "0.1"
//! ```
//!
//! `src/lib.rs`, with the traits instead of the macro, since it checks its configuration and reads
//! one table only:
//!
//! ```
//! use sequin_plugin::prelude::*;
//!
//! sequin_plugin::config! {
//!     /// Adds the price with tax, in cents.
//!     pub struct PriceWithTax {
//!         /// The table with prices, as `schema.table`.
//!         table: String,
//!         /// The tax in percent.
//!         percent: i64,
//!     }
//! }
//!
//! impl Plugin for PriceWithTax {
//!     fn reads(&self) -> Reads {
//!         Reads::columns(["price_cents"]).of_table(&self.table)
//!     }
//!
//!     fn check(&self) -> Vec<ConfigError> {
//!         let possible = (0..=100).contains(&self.percent);
//!         let wrong = || ConfigError::new("percent", "expected 0 to 100");
//!         if possible { Vec::new() } else { vec![wrong()] }
//!     }
//! }
//!
//! impl Transform for PriceWithTax {
//!     fn transform(&self, row: &Row<'_>, out: &mut Output) -> Result<(), Error> {
//!         match row.int("price_cents")? {
//!             Value::Known(cents) => {
//!                 let taxed = cents.checked_mul(100 + self.percent);
//!                 let taxed = taxed.ok_or_else(|| Error::column("price_cents", "too large"))?;
//!                 out.set_int("price_with_tax_cents", taxed / 100);
//!             }
//!             Value::Null => out.set_null("price_with_tax_cents"),
//!             // Not sent: what the destination has stays as it is.
//!             Value::Unchanged => {}
//!         }
//!         Ok(())
//!     }
//! }
//!
//! sequin_plugin::export_transform!(PriceWithTax);
//!
//! # fn main() {
//! // In a test:
//! use sequin_plugin::testing::{Outcome, row, transform};
//!
//! let rows = [row([("price_cents", 1000.into())]).of_table("public.item")];
//! let config = r#"{"table": "public.item", "percent": 19}"#;
//! let set = vec![("price_with_tax_cents".into(), 1190.into())];
//! assert_eq!(transform::<PriceWithTax>(config, &rows).unwrap(), [Ok(Outcome::Set(set))]);
//! # }
//! ```
//!
//! `sequin plugin build` makes a component of it; in the engine's own repository, `cargo x plugins`
//! does. In `sequin.yaml`:
//!
//! ```yaml
//! functions:
//!   - name: taxed
//!     type: transform
//!     file: price_with_tax.wasm
//!     config: {table: public.item, percent: 19}
//! ```
//!
//! # What to know
//! - **Not sent is not null.** Postgres leaves out large values that an update did not touch, and
//!   of deleted rows all but the key. That is [`Value::Unchanged`]; never guess at it.
//! - **No state.** There is no operating system to call, so a plugin gives the same answer to the
//!   same row wherever and whenever it runs, unless it wants [`capabilities`] and is granted them;
//!   keep nothing between rows either. Each batch meets a
//!   fresh instance unless [`Plugin::WARM`] says otherwise, and batches are cut anew each time.
//! - **One bad row fails alone**, by an [`Error`] that names the column and not the value. Of a
//!   panic, the message and place are logged, and the engine tries the rows one by one.
//! - [`testing`] runs a plugin over rows written down in a unit test, without WebAssembly.
//! - [`log!`] writes to the engine's log.
#![warn(missing_docs)]

#[doc(hidden)]
pub mod bindings;
pub mod capabilities;
mod error;
#[doc(hidden)]
pub mod export;
pub mod log;
mod output;
mod reads;
mod role;
mod row;
mod shape;
mod short;
pub mod testing;
mod text;
mod view;

// What `config!` expands to needs them, and a configuration of one's own does too.
pub use {schemars, serde, serde_json};

pub use capabilities::{CallError, Capability};
pub use error::{ConfigError, Error};
pub use output::{Effect, Output};
pub use reads::{COMMIT_TIMESTAMP, ENRICHMENT, IDEMPOTENCY_KEY, Reads, TRANSACTION_ANNOTATIONS};
pub use role::{Filter, Keys, Plugin, Route, Transform, Verdict};
pub use row::{Action, Datum, Field, Position, Row, Value};

/// All that most plugins use.
pub mod prelude {
    pub use crate::{
        Action, Capability, ConfigError, Datum, Effect, Error, Filter, Keys, Output, Plugin, Reads,
        Route, Row, Transform, Value, Verdict, log,
    };
}

/// The example of the author's guide compiles and does what it says.
#[cfg(doctest)]
#[doc = include_str!("../../../plugins/README.md")]
struct Guide;
