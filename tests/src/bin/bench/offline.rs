//! The same work without a server: frames from memory, one thread, CPU time.

use anyhow::{Result, ensure};
use model::source::Changes;
use postgres::{Options, measure};
use rustix::time::{ClockId, clock_gettime};

use crate::read::{Writer, is_row};
use crate::server::{Log, Server, Transport};
use crate::table::Figure;

/// More rows do not tell more: this is far beyond any cache.
const RECORDING_BYTES_MAX: usize = 64 << 20;

const SLOT: &str = "bench_recording";

/// Frames as they came.
struct Recording {
    frames: Vec<u8>,
    rows: u64,
}

/// Prints what a row costs: to walk its frames, to decode them, and to write its message.
pub(crate) async fn run(server: &Server, log: &Log, repeats: u32) -> Result<String> {
    let recording = record(server, log).await?;
    let mut costs = [(); 3].map(|()| Vec::new());
    let mut writer = Writer::default();
    let mut decoded = 0;
    for _ in 0..repeats {
        costs[0].push(cost(recording.rows, || {
            std::hint::black_box(walk(&recording.frames));
            Ok(())
        })?);
        costs[1].push(cost(recording.rows, || {
            let count = |changes: Changes| decoded += changes.changes.len() as u64;
            Ok(measure::decode(&recording.frames, count)?)
        })?);
        costs[2].push(cost(recording.rows, || {
            let write = |changes: Changes| _ = writer.write(&changes);
            Ok(measure::decode(&recording.frames, write)?)
        })?);
    }
    writer.check()?;
    ensure!(decoded == recording.rows * u64::from(repeats), "{decoded} rows were decoded");
    let [walk, decode, json] = costs.map(|costs| Figure::of(costs.into_iter()).show(1.0, 3));
    Ok(format!(
        "  {} rows from memory, CPU us/row: walk frames {walk}; decode {decode}; decode + JSON {json}",
        recording.rows
    ))
}

async fn record(server: &Server, log: &Log) -> Result<Recording> {
    server.copy_slot(SLOT).await?;
    let mut options = Options::from_url(&server.url(Transport::Unix))?;
    SLOT.clone_into(&mut options.slot);
    "bench".clone_into(&mut options.publication);
    let mut recording = Recording { frames: Vec::new(), rows: 0 };
    let take = |frame: &[u8]| {
        if recording.frames.len() < RECORDING_BYTES_MAX {
            recording.frames.extend_from_slice(frame);
            recording.rows += u64::from(is_row(frame));
        }
    };
    measure::drain(options, log.end.parse()?, take).await?;
    server.drop_slot(SLOT).await?;
    Ok(recording)
}

/// Sums the lengths of frames: what it costs to touch them at all.
fn walk(frames: &[u8]) -> usize {
    let (mut rest, mut sum) = (frames, 0);
    while let Some((&[_, a, b, c, d], _)) = rest.split_first_chunk() {
        let len = u32::from_be_bytes([a, b, c, d]) as usize + 1;
        sum += usize::from(rest.get(30).copied().unwrap_or_default());
        rest = rest.get(len..).unwrap_or_default();
    }
    sum
}

/// CPU microseconds a row.
fn cost(rows: u64, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let before = now_ns();
    work()?;
    Ok((now_ns() - before) as f64 / rows as f64 / 1_000.0)
}

fn now_ns() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
