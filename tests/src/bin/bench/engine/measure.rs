//! One engine reads the log to its end, and what it and the walsender use.

use std::fs::{read_dir, read_to_string};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::{Sequin, until};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::way::Way;
use crate::proc;
use crate::server::{Log, Server};

const SLOT: &str = "bench_engine";

/// Until the engine streams; a component may have to be compiled.
const START: Duration = Duration::from_secs(60);

/// Typesense takes thousands of documents a second.
const RUN_MAX: Duration = Duration::from_secs(900);

/// Between two looks at its metrics: often enough for seconds, seldom enough to cost nothing.
const TICK: Duration = Duration::from_millis(20);

/// What a run took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) rows: u64,
    /// From the start of the stream until every sink has settled every row.
    pub(crate) seconds: f64,
    pub(crate) stages: Stages,
    pub(crate) sender_ns: u64,
    pub(crate) rss_kib: u64,
}

/// CPU time by the engine's threads, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stages {
    /// Reads the slot and decodes.
    pub(crate) reader: u64,
    /// Runs plugins.
    pub(crate) plugins: u64,
    /// Writes progress.
    pub(crate) store: u64,
    /// Fan-out, encoding, lanes, requests.
    pub(crate) rest: u64,
}

impl Run {
    pub(crate) fn rows_per_second(&self) -> f64 {
        self.rows as f64 / self.seconds
    }

    /// Microseconds a row.
    pub(crate) fn us(&self, ns: u64) -> f64 {
        ns as f64 / self.rows as f64 / 1_000.0
    }
}

impl Stages {
    /// Of a process, so far.
    fn of(pid: u32) -> Result<Self> {
        let mut stages = Self::default();
        for task in read_dir(format!("/proc/{pid}/task")).context("look at the engine's threads")? {
            let task = task?.path();
            // One that has just ended has used little.
            let Ok(name) = read_to_string(task.join("comm")) else { continue };
            let Ok(used) = read_to_string(task.join("schedstat")) else { continue };
            let used = used.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
            match name.trim() {
                name if name.starts_with("slot-") => stages.reader += used,
                name if name.starts_with("plugin-") => stages.plugins += used,
                "store" => stages.store += used,
                _ => stages.rest += used,
            }
        }
        Ok(stages)
    }

    fn since(self, before: Self) -> Self {
        Self {
            reader: self.reader.saturating_sub(before.reader),
            plugins: self.plugins.saturating_sub(before.plugins),
            store: self.store.saturating_sub(before.store),
            rest: self.rest.saturating_sub(before.rest),
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.reader + self.plugins + self.store + self.rest
    }
}

pub(crate) async fn run(server: &Server, log: &Log, way: Way) -> Result<Run> {
    let to = way.destination().await?;
    server.copy_slot(SLOT).await?;
    let mut sequin = way.engine(server, SLOT, &to).prepare()?;
    // The log has the marks of the engines that were measured before.
    std::fs::create_dir_all(sequin.data_dir())?;
    let accepted = sequin.command(&["accept-loss", SLOT]).await?;
    ensure!(accepted.status.success(), "{}", String::from_utf8_lossy(&accepted.stderr));
    sequin.launch()?;
    let pid = sequin.pid().context("the engine runs")?;
    let sender = until("the engine to stream", START, async || {
        if let Some(status) = sequin.exited()? {
            anyhow::bail!("the engine ended with {status}:\n{}", sequin.log());
        }
        Ok(server.sender(SLOT).await?.ok_or_else(|| "nobody reads the slot".to_owned()))
    })
    .await?;
    let began = Instant::now();
    let before = Stages::of(pid)?;
    let sender_before = proc::cpu_ns(sender).unwrap_or(0);
    let wanted = log.rows * way.sinks() as u64;
    let mut sender_ns = 0;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        sender_ns = proc::cpu_ns(sender).unwrap_or(sender_ns);
        if settled(&sequin).await? >= wanted as f64 {
            break;
        }
        ensure!(began.elapsed() < RUN_MAX, "{} has not come to the log's end", way.name());
    }
    let seconds = began.elapsed().as_secs_f64();
    let stages = Stages::of(pid)?.since(before);
    let rss_kib = proc::rss_peak_kib(pid).unwrap_or(0);
    let status = sequin.terminate().await?;
    ensure!(status.success(), "the engine stopped with {status}:\n{}", sequin.log());
    server.drop_slot(SLOT).await?;
    let sender_ns = sender_ns.saturating_sub(sender_before);
    Ok(Run { rows: log.rows, seconds, stages, sender_ns, rss_kib })
}

/// Messages that its sinks have delivered or filtered.
async fn settled(sequin: &Sequin) -> Result<f64> {
    let buried = sequin.metric("sequin_messages_buried_count", &[]).await.unwrap_or(0.0);
    ensure!(buried == 0.0, "{buried} messages were put aside:\n{}", sequin.log());
    let delivered = sequin.metric("sequin_message_deliver_success_count", &[]).await.unwrap_or(0.0);
    let filtered = sequin.metric("sequin_messages_filtered_count", &[]).await.unwrap_or(0.0);
    Ok(delivered + filtered)
}
