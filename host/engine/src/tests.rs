//! The engine as a whole, over a scripted world, under paused time.

mod delivery;
mod simulation;
mod slot;
mod state;
