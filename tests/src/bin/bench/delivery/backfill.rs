//! A backfill beside live traffic: what live rows take with and without it, and its pace beside
//! `COPY` of the same table to nowhere.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tests::{http, until};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::door::Door;
use super::engine::{Engine, LONG};
use super::{Arguments, Peaks, insert, percentile, write};
use crate::say;
use crate::server::Server;
use crate::table::align;

/// 500 rows a second, five at a time.
const LIVE_ROWS: i64 = 5;
const LIVE_TICK: Duration = Duration::from_millis(10);

/// Live rows begin here, above those of the table.
const LIVE_FROM: i64 = 1 << 40;

const ARRIVAL: Duration = Duration::from_secs(60);

pub(super) async fn run(server: &Server, arguments: &Arguments, peaks: &mut Peaks) -> Result<()> {
    let rows = arguments.rows;
    let table = "backfilled";
    super::table(server, table).await?;
    write(&server.client, table, 1, rows).await?;
    // Only what comes from now on is live.
    server.drop_slot(table).await?;
    super::slot(server, table).await?;
    server.client.batch_execute(&format!("VACUUM ANALYZE {table}")).await?;
    let copies = [copy(server, table).await?, copy(server, table).await?];
    let copied = rows as f64 / copies[1].min(copies[0]).as_secs_f64();

    let door = Door::start().await?;
    let urls = [door.url()];
    let mut engine = Engine::prepare(server, table, arguments.memory_mb, &urls)?;
    engine.start(server).await?;
    door.time_from(LIVE_FROM);
    let mut live = Live { server, door: &door, next: LIVE_FROM };
    let mut alone = live.rows(arguments.probes).await?;

    let began = Instant::now();
    let before = (door.count(), live.next);
    let backfill = match create(&engine, table).await {
        Ok(backfill) => backfill,
        Err(error) => {
            say(&format!("\nbackfills are left out: {error:#}"));
            return engine.stop(server, "live traffic", peaks).await;
        }
    };
    let mut beside = Vec::new();
    let state = loop {
        beside.append(&mut live.rows(LIVE_ROWS * 20).await?);
        let shown = show(&engine, &backfill).await?;
        engine.look();
        match shown["state"].as_str() {
            Some("active") if began.elapsed() < LONG => {}
            _ => break shown,
        }
    };
    let took = began.elapsed();
    let live_rows = (live.next - before.1).unsigned_abs();
    let read = door.count().saturating_sub(before.0 + live_rows);
    let mut after = live.rows(arguments.probes).await?;

    let pace = read as f64 / took.as_secs_f64();
    let line = |name: &str, taken: &mut Vec<u64>| {
        let count = taken.len().to_string();
        let cell = |percent, taken: &mut Vec<u64>| format!("{:.1}", percentile(taken, percent));
        [name.to_owned(), count, cell(50, taken), cell(99, taken)]
    };
    say(&format!(
        "\nlive rows at 500 rows/s, commit to received, beside a backfill of {rows} rows:"
    ));
    // Both slices without one: a machine has slow seconds before and after too.
    let mut without = [&alone[..], &after[..]].concat();
    let ratio = percentile(&mut beside, 99) / percentile(&mut without, 99);
    let lines = [
        ["live", "rows", "p50 ms", "p99 ms"].map(str::to_owned),
        line("alone", &mut alone),
        line("beside the backfill", &mut beside),
        line("alone again", &mut after),
    ];
    say(&align(&lines));
    say(&format!("  p99 beside / both alone: {ratio:.2}"));
    say(&format!(
        "  backfill: {} after {:.1} s, {read} rows came ({} read, {} superseded), {:.1} k rows/s; \
         COPY to nowhere {:.1} k rows/s; ratio {:.3}",
        state["state"].as_str().unwrap_or("unknown"),
        took.as_secs_f64(),
        state["rows_processed_count"],
        state["rows_evicted_count"],
        pace / 1_000.0,
        copied / 1_000.0,
        pace / copied,
    ));
    engine.stop(server, "a backfill beside live rows", peaks).await
}

async fn copy(server: &Server, table: &str) -> Result<Duration> {
    let began = Instant::now();
    let sql = format!("COPY {table} TO '/dev/null'");
    server.client.batch_execute(&sql).await.context("copy to nowhere")?;
    Ok(began.elapsed())
}

struct Live<'a> {
    server: &'a Server,
    door: &'a Door,
    next: i64,
}

impl Live<'_> {
    /// Commits so many rows at their pace; how long each took to arrive, in microseconds.
    async fn rows(&mut self, count: i64) -> Result<Vec<u64>> {
        let mut ticks = interval(LIVE_TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut written = 0;
        while written < count {
            ticks.tick().await;
            let last = self.next + LIVE_ROWS - 1;
            insert(&self.server.client, "backfilled", self.next, last).await?;
            self.next = last + 1;
            written += LIVE_ROWS;
        }
        let wanted = usize::try_from(written).unwrap_or(usize::MAX);
        until("the live rows", ARRIVAL, async || {
            let have = self.door.timed();
            Ok(if have >= wanted { Ok(()) } else { Err(format!("{have} of {wanted}")) })
        })
        .await?;
        Ok(self.door.taken_us())
    }
}

fn url(engine: &Engine) -> String {
    format!("{}/api/sinks/sink-0/backfills", engine.sequin.url())
}

/// Its id.
async fn create(engine: &Engine, table: &str) -> Result<String> {
    let body = json!({ "table": format!("public.{table}") }).to_string();
    let request = http::client()?.post(url(engine)).header("content-type", "application/json");
    let answer = request.body(body).send().await?;
    let (status, text) = (answer.status(), answer.text().await?);
    let shown: Value = serde_json::from_str(&text).unwrap_or_default();
    let id = shown["id"].as_str().with_context(|| format!("{status}: {text}"))?;
    Ok(id.to_owned())
}

async fn show(engine: &Engine, id: &str) -> Result<Value> {
    let answer = http::client()?.get(format!("{}/{id}", url(engine))).send().await?;
    Ok(serde_json::from_str(&answer.text().await?)?)
}
