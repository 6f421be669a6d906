//! Who works on a slot: one of several nodes, whatever becomes of Redis.
//!
//! Two things are asked, and they are not equal. The *truth* is a row of the state store for each slot: its
//! epoch, its owner, and until when that owner has said that it lives. Only a compare-and-set there makes a
//! leader, and raises the epoch that every write shows. The *coordinator* (Redis, Dragonfly, Valkey) holds
//! the same in a key that expires: it is a second witness for a leader that cannot reach the truth, and
//! nothing else. Its absence makes nobody a leader and nobody less of one.
//!
//! [`Machine`] decides, and does nothing: events go in with the time, and what is to be done comes out. So
//! all of it can be tried from seeds.
#![warn(missing_docs)]

mod machine;
#[cfg(test)]
mod simulation;
mod timing;
mod words;

pub use machine::Machine;
pub use timing::Timing;
pub use words::{Action, Event, Look, Phase, Register, Taken, Told, Why};
