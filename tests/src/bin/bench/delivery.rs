//! `bench delivery`: what the promises of delivery cost. A dead sink beside healthy ones, changes
//! through the change log and back, the way back after a kill, a backfill beside live traffic; and
//! memory under its cap throughout.
//!
//! What is compared is measured in turns, a slice of each: a machine that does other things too slows
//! both. Every engine has a slot and a table of its own, so that one idles while the other is measured.

mod backfill;
mod door;
mod engine;
mod isolation;
mod spool;

use anyhow::{Context as _, Result};
use tokio_postgres::Client;

use crate::server::Server;
use crate::{proc, say};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Changes that go through the log, and rows of the table that is backfilled.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(i64).range(1_000..))]
    rows: i64,
    /// Pairs of slices.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    slices: u32,
    /// `SEQUIN_MEMORY_MB` of every engine.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(4..))]
    memory_mb: u32,
    /// Rows that are timed in a slice, at 500 a second.
    #[arg(long, default_value_t = 5_000)]
    probes: i64,
    /// Postgres 16, 17 or 18 instead of the first one found.
    #[arg(long)]
    major: Option<u32>,
}

/// The most memory that the engine of a part had, in KiB.
type Peaks = Vec<(&'static str, u64)>;

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let server = Server::start(arguments.major).await?;
    say(&format!("machine: {}", proc::machine()));
    say(&format!("server: PostgreSQL {}, on the same machine", server.version));
    // Without it replication waits for the next time that the log is written, every 200 ms.
    server.client.batch_execute("SET synchronous_commit = on").await?;
    let mut peaks = Peaks::new();
    isolation::run(&server, &arguments, &mut peaks).await?;
    spool::run(&server, &arguments, &mut peaks).await?;
    backfill::run(&server, &arguments, &mut peaks).await?;
    let cap = arguments.memory_mb;
    say(&format!("\nmost memory resident, SEQUIN_MEMORY_MB={cap}, of the whole process, MiB:"));
    for (part, kib) in peaks {
        let mib = kib as f64 / 1_024.0;
        say(&format!("  {part:<40} {mib:.0}  (x {:.2})", mib / f64::from(cap)));
    }
    say(&format!("load at the end: {}", proc::load()));
    Ok(())
}

/// A table, its publication, and a slot that stands before its first row.
async fn table(server: &Server, name: &str) -> Result<()> {
    let sql = format!(
        "CREATE TABLE {name} (id bigint PRIMARY KEY, at bigint NOT NULL, name text, description text);
         CREATE PUBLICATION {name} FOR TABLE {name}"
    );
    server.client.batch_execute(&sql).await.with_context(|| format!("make {name}"))?;
    slot(server, name).await
}

/// A slot that stands here.
async fn slot(server: &Server, name: &str) -> Result<()> {
    let sql = format!("SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')");
    server.client.batch_execute(&sql).await.with_context(|| format!("make the slot {name}"))
}

/// Commits rows, each with the time at which it was written, 1,000 to a transaction.
async fn write(client: &Client, table: &str, from: i64, count: i64) -> Result<()> {
    let mut next = from;
    while next < from + count {
        let last = (next + 1_000).min(from + count) - 1;
        insert(client, table, next, last).await?;
        next = last + 1;
    }
    Ok(())
}

async fn insert(client: &Client, table: &str, first: i64, last: i64) -> Result<()> {
    let sql = format!(
        "INSERT INTO {table}
         SELECT i, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, 'Camping No. ' || i,
             repeat('A quiet place by the lake, family run. ', 5) || md5(i::text)
         FROM generate_series({first}, {last}) i"
    );
    client.batch_execute(&sql).await.context("write rows")
}

/// The value at so many percent of the way through, in milliseconds.
fn percentile(taken_us: &mut [u64], percent: usize) -> f64 {
    taken_us.sort_unstable();
    let index = (taken_us.len() * percent / 100).min(taken_us.len().saturating_sub(1));
    taken_us.get(index).map_or(f64::NAN, |us| *us as f64 / 1_000.0)
}
