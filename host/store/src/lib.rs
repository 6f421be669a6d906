//! What outlives a process, behind the store ports of `model`: on one machine, in one SQLite file.
//!
//! One thread owns the connection; callers send it work and await the answer, so no runtime thread
//! ever waits for the disk. The data directory is locked against a second process, and every write
//! shows the epoch that this process got when it opened the store.
#![warn(missing_docs)]

mod applied;
mod backfills;
mod change_log;
mod embedded;
mod forget;
mod health;
mod key_values;
mod letters;
mod moved;
mod owners;
mod progress;
mod rollouts;
mod schema;
mod scratch;
mod thread;
mod tokens;
mod versions;

pub use embedded::{Embedded, OpenError};
pub use forget::Forgotten;
pub use key_values::FunctionStore;
pub use letters::{Dropped, LetterFile, Retention};
pub use moved::{Rename, Renamed, Renames};
