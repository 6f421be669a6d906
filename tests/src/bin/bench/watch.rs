//! Runs one reader to its end and watches what it and its walsender use.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde_json::Value as Json;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::proc;
use crate::server::{Log, Server};

/// Between two looks. What a walsender uses after the last one is not counted: at most so much.
const TICK: Duration = Duration::from_millis(2);

/// A million rows take the slowest reader about a minute.
const RUN_MAX: Duration = Duration::from_secs(900);

/// What a run took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) rows: u64,
    /// From the start of the stream to the reader's end.
    pub(crate) seconds: f64,
    pub(crate) client_ns: u64,
    pub(crate) sender_ns: u64,
    pub(crate) rss_kib: u64,
}

impl Run {
    pub(crate) fn rows_per_second(&self) -> f64 {
        self.rows as f64 / self.seconds
    }

    pub(crate) fn client_us(&self) -> f64 {
        self.client_ns as f64 / self.rows as f64 / 1_000.0
    }

    pub(crate) fn sender_us(&self) -> f64 {
        self.sender_ns as f64 / self.rows as f64 / 1_000.0
    }
}

/// Ends with its value, whatever becomes of the run.
struct Reader(Child);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Reader {
    /// Whether it has ended. It stays a zombie: the kernel then still knows what it used.
    fn has_ended(&self) -> Result<bool> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(Pid::from_child(&self.0)), options)?.is_some())
    }
}

/// Runs a reader on a slot of its own. A reader may print a line of JSON with `rows` and `cpu_ns`
/// (without what it took to start); else it is taken to have read all, and to have one thread.
pub(crate) async fn run(
    server: &Server,
    log: &Log,
    slot: &str,
    command: &mut Command,
) -> Result<Run> {
    server.copy_slot(slot).await?;
    // Files, not pipes: nobody empties those while it runs.
    let (mut output, mut errors) = (tempfile::tempfile()?, tempfile::tempfile()?);
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(errors.try_clone()?);
    let child = command.spawn().with_context(|| format!("start {:?}", command.get_program()))?;
    let mut reader = Reader(child);
    let pid = reader.0.id();

    let began = Instant::now();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stream: Option<(u32, Instant, u64)> = None;
    let (mut sender_ns, mut rss_kib) = (0, 0);
    let ended = loop {
        if reader.has_ended()? {
            break Instant::now();
        }
        match stream {
            None => {
                let sender = server.sender(slot).await?;
                stream =
                    sender.and_then(|sender| Some((sender, Instant::now(), proc::cpu_ns(sender)?)));
            }
            Some((sender, ..)) => sender_ns = proc::cpu_ns(sender).unwrap_or(sender_ns),
        }
        rss_kib = proc::rss_peak_kib(pid).unwrap_or(rss_kib);
        ensure!(began.elapsed() < RUN_MAX, "the reader of {slot} has not come to the log's end");
        ticks.tick().await;
    };
    let single_thread_ns = proc::cpu_ns(pid);
    let status = reader.0.wait()?;
    if !status.success() {
        bail!("the reader of {slot} failed ({status}): {}", text(&mut errors)?.trim());
    }
    let said = text(&mut output)?;
    let report = said.lines().rev().find_map(|line| serde_json::from_str::<Json>(line).ok());
    let told = |name: &str| report.as_ref().and_then(|report| report[name].as_u64());
    let rows = told("rows").unwrap_or(log.rows);
    ensure!(rows == log.rows, "the reader of {slot} saw {rows} of {} rows", log.rows);
    let client_ns = told("cpu_ns").or(single_thread_ns).context("read its CPU time")?;
    server.drop_slot(slot).await?;
    // One that is done before it was looked at twice is too short to measure, but not wrong.
    let (since, before_ns) = stream.map_or((began, 0), |(_, since, before)| (since, before));
    Ok(Run {
        rows,
        seconds: (ended - since).as_secs_f64(),
        client_ns,
        sender_ns: sender_ns.saturating_sub(before_ns),
        rss_kib,
    })
}

fn text(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
