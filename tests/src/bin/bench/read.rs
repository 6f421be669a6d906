//! One reader of ours, as a process: reads a slot to the end of the log and says what it cost.

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use model::change::Operation;
use model::envelope::{Consumer, Database, Envelope};
use model::lsn::Lsn;
use model::source::{Changes, Connect as _, Event, Missing};
use postgres::{Connector, Options, measure};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use crate::say;

/// Room for a message, so that its buffer does not grow while it is measured.
const MESSAGE_BYTES: usize = 1 << 16;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How far to go.
    #[arg(long)]
    mode: Mode,
    /// Of the database.
    #[arg(long)]
    url: String,
    #[arg(long)]
    slot: String,
    /// Where the log ends.
    #[arg(long)]
    end: String,
}

/// How far a row is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Frames are read and forgotten.
    Drain,
    /// To changes, as the engine gets them.
    Decode,
    /// To the JSON of a message, in a buffer.
    Json,
}

/// What was read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

/// Reads, and prints a line of JSON: `rows`, `bytes`, `cpu_ns` (of the whole process).
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut options = Options::from_url(&arguments.url)?;
    options.slot.clone_from(&arguments.slot);
    "bench".clone_into(&mut options.publication);
    let end: Lsn = arguments.end.parse().context("read --end")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tally = runtime.block_on(async {
        match arguments.mode {
            Mode::Drain => drain(options, end).await,
            mode @ (Mode::Decode | Mode::Json) => stream(options, end, mode).await,
        }
    })?;
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu_ns = cpu.tv_sec * 1_000_000_000 + cpu.tv_nsec;
    say(&json!({"rows": tally.rows, "bytes": tally.bytes, "cpu_ns": cpu_ns}).to_string());
    Ok(())
}

async fn drain(options: Options, end: Lsn) -> Result<Tally> {
    let mut rows = 0;
    let drained = measure::drain(options, end, |frame| rows += u64::from(is_row(frame))).await?;
    Ok(Tally { rows, bytes: drained.bytes })
}

/// Whether a frame holds a row: 5 bytes of the frame and 25 of the log before pgoutput's own.
pub(crate) fn is_row(frame: &[u8]) -> bool {
    matches!(frame.get(30), Some(b'I' | b'U' | b'D'))
}

async fn stream(options: Options, end: Lsn, mode: Mode) -> Result<Tally> {
    let mut source = Connector::new(options).connect(Missing::Refuse).await?;
    let mut writer = Writer::default();
    let mut tally = Tally::default();
    loop {
        let reached = match source.next().await? {
            Event::Changes(changes) => {
                tally.rows += changes.changes.len() as u64;
                if mode == Mode::Json {
                    tally.bytes += writer.write(&changes);
                }
                changes.commits.last().map(|commit| commit.end_lsn)
            }
            Event::Idle(position) => Some(position),
        };
        let Some(reached) = reached else { continue };
        source.confirm(reached);
        if reached >= end {
            return Ok(tally);
        }
    }
}

/// Writes the messages of changes into one buffer, as a sink would send them.
pub(crate) struct Writer {
    envelope: Envelope,
    buffer: String,
}

impl Default for Writer {
    fn default() -> Self {
        let consumer = Consumer { id: "poi-search", name: "poi-search", annotations: "{}" };
        let database = Database {
            id: "camp",
            name: "camp",
            annotations: "{}",
            database: "postgres",
            hostname: "localhost",
        };
        let envelope = Envelope::new(&consumer, &database);
        Self { envelope, buffer: String::with_capacity(MESSAGE_BYTES) }
    }
}

impl Writer {
    /// The bytes of the messages.
    pub(crate) fn write(&mut self, changes: &Changes) -> u64 {
        let mut bytes = 0;
        for change in &changes.changes {
            self.buffer.clear();
            self.envelope.write(&mut self.buffer, change, None, &[]);
            bytes += std::hint::black_box(&self.buffer).len() as u64;
        }
        bytes
    }

    /// The last message is one: JSON with the row of an insert.
    pub(crate) fn check(&self) -> Result<()> {
        let message: serde_json::Value = serde_json::from_str(&self.buffer)?;
        let named = message["action"] == Operation::Insert.as_str();
        ensure!(named && message["record"]["features"].is_array(), "no message: {}", self.buffer);
        Ok(())
    }
}
