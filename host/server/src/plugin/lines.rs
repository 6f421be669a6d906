//! Messages from standard input, in batches of one table.

use std::io::BufRead as _;
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::Context as _;
use model::change::Change;
use model::recorded::Reader;

use crate::Failure;

/// Lines that are read ahead.
const AHEAD: usize = 1024;

/// Rows of a batch, as the engine hands them over.
const ROWS_MAX: usize = 256;

/// Reads lines on a thread of its own, so that a live stream is answered as it comes: a batch is
/// what is there by now.
pub(super) struct Lines {
    lines: Receiver<std::io::Result<String>>,
    reader: Reader,
    number: u64,
    /// A change of another table than those before it.
    next: Option<Change>,
}

impl Lines {
    pub(super) fn start() -> Result<Self, Failure> {
        let (sender, lines) = sync_channel(AHEAD);
        let read = move || {
            for line in std::io::stdin().lock().lines() {
                let failed = line.is_err();
                if sender.send(line).is_err() || failed {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("stdin".to_owned());
        thread.spawn(read).context("start the thread that reads standard input")?;
        Ok(Self { lines, reader: Reader::default(), number: 0, next: None })
    }

    /// The next changes of one table: at least one, and none at the end.
    pub(super) fn batch(&mut self) -> Result<Vec<Change>, Failure> {
        let mut batch: Vec<Change> = self.next.take().into_iter().collect();
        while batch.len() < ROWS_MAX {
            let line =
                if batch.is_empty() { self.lines.recv().ok() } else { self.lines.try_recv().ok() };
            let Some(line) = line else { break };
            let line = line.context("read standard input")?;
            self.number += 1;
            if line.trim().is_empty() {
                continue;
            }
            let read = self.reader.read(&line);
            let change =
                read.map_err(|error| super::usage(format_args!("line {}: {error}", self.number)))?;
            let same = batch.last().is_none_or(|last| last.relation == change.relation);
            if !same {
                self.next = Some(change);
                break;
            }
            batch.push(change);
        }
        Ok(batch)
    }
}
