//! The engine as a whole, over a scripted world, under paused time.

mod complete;
mod delivery;
mod edits;
mod edits_seeded;
mod outputs;
mod simulation;
mod slot;
mod state;
mod tables;
mod truncate;
