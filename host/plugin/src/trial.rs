//! Plugins over recorded messages: what the command line, the server and the console try them with.
//!
//! A fixture is a directory: `messages.jsonl` (as `sequin tail --types` and `sequin plugin record`
//! write them), `outcomes.jsonl` (what is expected, a line for each message), `config.json` (else
//! `{}`), `fixture.json` with `role` and `sink` if the component has several roles or routes for
//! another kind of sink, and `outside.json` with what stands for all that it is granted.
//!
//! Nothing has an effect outside: a plugin runs in the same sandbox as in a sink, and there is no
//! destination.

mod diff;
mod fixture;
mod outcome;
mod outside;
mod round;

pub use diff::{Difference, differences};
pub use fixture::{Fixture, FixtureError, find};
pub use outcome::{judge, line};
pub use outside::Outside;
pub use round::{Carried, Report, Wrong, check, outcomes};
