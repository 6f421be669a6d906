//! From a commit to the webhook that has the row, with nothing else to do and beside other rows.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::until;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_postgres::Client;

use super::target::Target;
use super::way::{Destination, Way};
use crate::server::Server;
use crate::table::align;

const SLOT: &str = "bench_latency";

/// Between two rows that are timed.
const PROBE: Duration = Duration::from_millis(20);

/// The load: so many rows, so often; 2,000 rows a second.
const LOAD_ROWS: i64 = 20;
const LOAD_TICK: Duration = Duration::from_millis(10);

/// The ids of timed rows, and of the load, begin here: above those of any log.
const PROBES_FROM: i64 = 1 << 40;
const LOAD_FROM: i64 = 1 << 41;

const ARRIVAL: Duration = Duration::from_secs(30);

/// A table of percentiles, in milliseconds.
pub(crate) async fn run(server: &Server, probes: usize) -> Result<String> {
    let target = Target::start_watching().await?;
    // The server of a benchmark does not wait for its disk, and then replication waits for the next
    // time that the log is written, which is every 200 ms.
    server.client.batch_execute("SET synchronous_commit = on").await?;
    let create = format!("SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')");
    server.client.batch_execute(&create).await?;
    let to = Destination::Webhook(target);
    let mut sequin = Way::Webhook.engine(server, SLOT, &to).start().await?;
    let Destination::Webhook(target) = &to else { anyhow::bail!("a webhook has a target") };
    until("the slot to stream", ARRIVAL, async || {
        Ok(server.sender(SLOT).await?.ok_or_else(|| "nobody reads the slot".to_owned()))
    })
    .await?;
    let mut rows = vec![["", "p50", "p90", "p99", "most"].map(str::to_owned)];
    let idle = probe(server, target, PROBES_FROM, probes).await?;
    rows.push(percentiles("idle", idle));
    let writer = server.another_client().await?;
    writer.batch_execute("SET synchronous_commit = on").await?;
    let loaded = tokio::select! {
        loaded = probe(server, target, PROBES_FROM + (1 << 20), probes) => loaded?,
        failed = load(&writer) => anyhow::bail!("the load ended: {failed:?}"),
    };
    rows.push(percentiles("beside 2,000 rows/s", loaded));
    let status = sequin.terminate().await?;
    ensure!(status.success(), "the engine stopped with {status}:\n{}", sequin.log());
    server.drop_slot(SLOT).await?;
    Ok(align(&rows))
}

/// Commits rows one by one and waits for each to arrive.
async fn probe(server: &Server, target: &Target, from: i64, count: usize) -> Result<Vec<Duration>> {
    let mut taken = Vec::with_capacity(count);
    let mut ticks = interval(PROBE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for id in (from..).take(count) {
        ticks.tick().await;
        insert(&server.client, id, 1).await?;
        let committed = Instant::now();
        let arrived = until("the row to arrive", ARRIVAL, async || {
            Ok(target.arrival(id).ok_or_else(|| format!("not row {id}")))
        })
        .await?;
        // It may be there before the client hears of its commit.
        taken.push(arrived.saturating_duration_since(committed));
    }
    Ok(taken)
}

/// Commits rows for ever.
async fn load(client: &Client) -> Result<()> {
    let mut ticks = interval(LOAD_TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next = LOAD_FROM;
    loop {
        ticks.tick().await;
        insert(client, next, LOAD_ROWS).await?;
        next += LOAD_ROWS;
    }
}

async fn insert(client: &Client, from: i64, count: i64) -> Result<()> {
    let statement = format!(
        "INSERT INTO poi SELECT i, md5(i::text)::uuid, 'Camping No. ' || i, 'de', 7, 4.5, 12.5, true,
            3, 45.5, 7.5, s.features, s.description, now(), now()
         FROM generate_series({from}, {from} + {count} - 1) i JOIN sample s ON s.n = i % 64"
    );
    client.batch_execute(&statement).await.context("write rows")
}

fn percentiles(name: &str, mut taken: Vec<Duration>) -> [String; 5] {
    taken.sort_unstable();
    let at = |percent: usize| {
        let index = (taken.len() * percent / 100).min(taken.len().saturating_sub(1));
        let taken = taken.get(index).copied().unwrap_or_default();
        format!("{:.1}", taken.as_secs_f64() * 1_000.0)
    };
    [name.to_owned(), at(50), at(90), at(99), at(100)]
}
