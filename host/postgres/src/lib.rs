//! The source: one logical replication slot of a Postgres server, read as changes.
//!
//! The only crate that knows the replication protocol, pgoutput and type ids. From outside it is a
//! [`Connector`] built from [`Options`]; all else is met through the ports of `model::source`.
//!
//! ```text
//! socket ─► wire (frames, login, CopyBoth) ─► pgoutput (messages) ─► decode (changes) ─► stream ─► Source
//!                                                                       ▲  value (text → canonical text)
//!                          SQL session: publication, slot, catalog ─────┘
//! ```
//!
//! `pgoutput`, `decode` and `value` are pure; `wire` and `stream` move the bytes. Nothing that a
//! server sends makes it panic: every read is checked.
//!
//! It knows nothing of sinks, of what is delivered, or of what is recorded where: it confirms what
//! it is told to confirm. One destination is here all the same, for the sake of its session: a table
//! that keeps changes ([`ChangeTable`]).

mod backfill;
mod catalog;
mod change_table;
mod decode;
mod enrichment;
mod error;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
mod inventory;
mod lineage;
mod lookup;
mod options;
mod pgoutput;
mod publication;
mod published;
mod relation;
mod retained;
mod rows;
mod slot;
mod sql;
mod stream;
mod temporary;
mod value;
mod wire;

pub use backfill::Tables;
pub use change_table::{ChangeTable, TableName, ddl};
pub use enrichment::Enrichment;
pub use inventory::{ColumnsOf, TableInfo, inventory};
pub use lookup::Lookup;
pub use options::{
    Address, ChannelBinding, ClientCertificate, Create, Keepalive, Options, Origin, Password,
    Roots, SslMode, Tls,
};
pub use published::Published;
pub use rows::Rows;
pub use stream::examine::{Finding, Outcome, examine};
pub use stream::{Connector, measure};
pub use temporary::{Subject, create_publication, drop_publication, drop_statement};
