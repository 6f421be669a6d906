//! Chunks of the change log: raw changes as bytes, each with the sinks that owe it.
//!
//! A chunk stands for itself but for the relation versions that its changes were made under: these
//! are kept beside the chunks, each once, by the hash of what they are. The format has a version in
//! its first byte; a fixture of each version is kept, and every one is read for ever.
//!
//! Numbers are unsigned LEB128 unless something else is said; texts are their length and UTF-8. After
//! the version: the names of the sinks; the hashes of the relations (16 bytes each); the transactions
//! (commit LSN, xid, time as zigzag); annotations; then the changes, each with its length in bytes
//! before it, so that those of other sinks are passed over unread.

mod bytes;
mod read;
mod relation;
mod renamed;
mod write;

use std::sync::Arc;

pub use read::{Chunk, Corrupt};
pub use relation::RelationHash;
pub use renamed::renamed;
pub use write::Writer;

use crate::relation::Relation;

/// The version that is written.
const VERSION: u8 = 1;

/// Bits of a change's flags: the operation is in the lowest three.
mod flag {
    pub(super) const OPERATION: u8 = 0b111;
    pub(super) const BEFORE: u8 = 1 << 3;
    pub(super) const BEFORE_IS_FULL: u8 = 1 << 4;
    pub(super) const AFTER: u8 = 1 << 5;
    pub(super) const AFTER_IS_FULL: u8 = 1 << 6;
    pub(super) const ANNOTATED: u8 = 1 << 7;
}

/// A chunk that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// What to keep.
    pub bytes: Vec<u8>,
    /// The relation versions that it needs to be read.
    pub relations: Vec<(RelationHash, Arc<Relation>)>,
    /// The first and the last position in it.
    pub span: (crate::position::Position, crate::position::Position),
}

#[cfg(test)]
mod tests;
