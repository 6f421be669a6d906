//! What a process says, while it runs.

use std::io::{BufRead as _, BufReader, PipeWriter};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};

/// Lines of `tail`: enough for an error and what led to it.
const TAIL: usize = 60;

/// Collects the output of one process after another.
pub(super) struct Log {
    text: Arc<Mutex<String>>,
    echo: bool,
    reader: Option<JoinHandle<()>>,
}

impl Log {
    /// With `echo`, every line also goes to standard error.
    pub(super) fn new(echo: bool) -> Self {
        Self { text: Arc::default(), echo, reader: None }
    }

    /// A pipe for the output of the next process.
    pub(super) fn follow(&mut self) -> Result<PipeWriter> {
        self.finish();
        let (reader, writer) = std::io::pipe().context("create a pipe")?;
        let (text, echo) = (Arc::clone(&self.text), self.echo);
        self.reader = Some(std::thread::spawn(move || {
            // By line, and any bytes: what a broken process says may not be text.
            for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line);
                if echo {
                    eprintln!("sequin | {line}");
                }
                let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
                text.push_str(&line);
                text.push('\n');
            }
        }));
        Ok(writer)
    }

    /// Waits for the rest of the output of a process that has ended.
    pub(super) fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().ok();
        }
    }

    pub(super) fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn tail(&self) -> String {
        let text = self.text();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}
