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
mod isolation;
mod kills;
mod outages;
mod outputs;
mod payload;
mod pull;
mod refusals;
mod retries;
mod routes;
mod simulation;
mod slot;
mod spool;
mod state;
mod tables;
mod trips;
mod truncate;
