//! The engine as a whole, over a scripted world, under paused time.

mod backfills;
mod backfills_seeded;
mod batches;
mod chains;
mod complete;
mod delivery;
mod edits;
mod edits_seeded;
mod enrich;
mod grouping;
mod kills;
mod outputs;
mod payload;
mod pull;
mod retries;
mod routes;
mod simulation;
mod slot;
mod state;
mod tables;
mod truncate;
