//! Recorded messages, in batches of one table: from a file or from standard input.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::Context as _;
use model::change::Change;
use model::recorded::Reader;

use super::usage;
use crate::{Failure, tell};

/// Blocks of lines that are read ahead; a block is what a read gave, 8 KiB or one long line.
const AHEAD: usize = 4;

/// Rows of a batch, as the engine hands them over.
const ROWS_MAX: usize = 256;

/// Text of a batch, in bytes; the host cuts it further.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// One message: four times the largest row that a plugin is handed (16 MiB), since texts are longer
/// in JSON, and a message may have columns that the plugin does not read.
const LINE_BYTES_MAX: usize = 64 << 20;

/// Lines, or why there are no more.
type Block = Result<Vec<Vec<u8>>, String>;

/// Reads lines on a thread of its own, so that a live stream is answered as it comes: a batch is
/// what is there by now.
pub(super) struct Lines {
    /// What errors call the place.
    name: String,
    blocks: Receiver<Block>,
    lines: VecDeque<Vec<u8>>,
    reader: Reader,
    number: u64,
    /// A change of another table than those before it, or what is wrong behind them.
    next: Option<Result<Change, Failure>>,
}

impl Lines {
    pub(super) fn start(file: Option<&Path>) -> Result<Self, Failure> {
        let file = file.filter(|file| file.as_os_str() != "-");
        let (name, input): (_, Box<dyn BufRead + Send>) = match file {
            Some(path) => {
                let name = path.display().to_string();
                let file =
                    File::open(path).map_err(|error| usage(format_args!("{name}: {error}")))?;
                (name, Box::new(BufReader::new(file)))
            }
            None => {
                if io::stdin().is_terminal() {
                    tell(
                        "reading messages from the terminal, one a line (Ctrl-D ends): to have some, \
                         `sequin tail --types --table NAME`",
                    );
                }
                ("standard input".to_owned(), Box::new(BufReader::new(io::stdin())))
            }
        };
        let (sender, blocks) = sync_channel(AHEAD);
        let thread = std::thread::Builder::new().name("messages".to_owned());
        thread
            .spawn(move || read(input, &sender))
            .context("start the thread that reads messages")?;
        let (lines, reader) = (VecDeque::new(), Reader::default());
        Ok(Self { name, blocks, lines, reader, number: 0, next: None })
    }

    /// The next changes of one table: at least one, and none at the end. What is wrong with a line
    /// is told after the changes before it.
    pub(super) fn batch(&mut self) -> Result<Vec<Change>, Failure> {
        let mut batch: Vec<Change> = self.next.take().transpose()?.into_iter().collect();
        let mut bytes = 0;
        while batch.len() < ROWS_MAX && bytes < BATCH_BYTES_MAX {
            match self.change(batch.is_empty()) {
                Ok(None) => break,
                Ok(Some((change, length)))
                    if batch.last().is_none_or(|last| last.relation == change.relation) =>
                {
                    bytes += length;
                    batch.push(change);
                }
                Ok(Some((change, _))) => {
                    self.next = Some(Ok(change));
                    break;
                }
                Err(error) if batch.is_empty() => return Err(error),
                Err(error) => {
                    self.next = Some(Err(error));
                    break;
                }
            }
        }
        Ok(batch)
    }

    /// The next change and the length of its line; none at the end, or if it would have to wait and
    /// may not.
    fn change(&mut self, wait: bool) -> Result<Option<(Change, usize)>, Failure> {
        loop {
            let Some(line) = self.lines.pop_front() else {
                let block =
                    if wait { self.blocks.recv().ok() } else { self.blocks.try_recv().ok() };
                let Some(block) = block else { return Ok(None) };
                self.lines = block.map_err(|reason| self.wrong(self.number + 1, &reason))?.into();
                continue;
            };
            self.number += 1;
            let text = str::from_utf8(&line).map_err(|_| self.wrong(self.number, &"no UTF-8"))?;
            if text.trim().is_empty() {
                continue;
            }
            let change = self.reader.read(text);
            let change = change.map_err(|error| self.wrong(self.number, &error))?;
            return Ok(Some((change, line.len())));
        }
    }

    fn wrong(&self, line: u64, reason: &dyn std::fmt::Display) -> Failure {
        usage(format_args!("{}:{line}: {reason}", self.name))
    }
}

/// Sends the lines that each read completes, until nobody wants more.
fn read(mut input: Box<dyn BufRead + Send>, sender: &SyncSender<Block>) {
    let mut rest = Vec::new();
    loop {
        let (lines, read) = match input.fill_buf() {
            // The last line may lack its end.
            Ok([]) => {
                sender.send(Ok(vec![rest])).ok();
                return;
            }
            Ok(bytes) => (split(&mut rest, bytes), bytes.len()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                sender.send(Err(error.to_string())).ok();
                return;
            }
        };
        input.consume(read);
        if !lines.is_empty() && sender.send(Ok(lines)).is_err() {
            return;
        }
        if rest.len() > LINE_BYTES_MAX {
            let reason = format!("a line of more than {} MiB", LINE_BYTES_MAX >> 20);
            sender.send(Err(reason)).ok();
            return;
        }
    }
}

/// The lines that end in these bytes; `rest` is what began before them, and then what goes on.
fn split(rest: &mut Vec<u8>, bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    for part in bytes.split_inclusive(|byte| *byte == b'\n') {
        rest.extend_from_slice(part);
        if part.ends_with(b"\n") {
            lines.push(std::mem::take(rest));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = r#"{"record": {"id": 1}, "action": "insert",
        "metadata": {"table_schema": "public", "table_name": "TABLE"}}"#;

    /// The lengths of the batches, and how it ends.
    fn batches(text: String) -> (Vec<usize>, String) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let Ok(mut lines) = Lines::start(Some(file.path())) else { panic!("the file is there") };
        let mut lengths = Vec::new();
        loop {
            match lines.batch() {
                Ok(batch) if batch.is_empty() => return (lengths, String::new()),
                Ok(batch) => lengths.push(batch.len()),
                Err(Failure::Usage(text)) => {
                    return (lengths, text.replace(&file.path().display().to_string(), "FILE"));
                }
                Err(_) => panic!("another failure"),
            }
        }
    }

    fn line(table: &str) -> String {
        MESSAGE.replace('\n', " ").replace("TABLE", table) + "\n"
    }

    #[test]
    fn a_batch_is_of_one_table_and_nothing_is_lost_before_a_wrong_line() {
        // That a line is not there yet ends a batch too, so only tables and sums are certain.
        let (lengths, wrong) =
            batches(line("a").repeat(3) + "\n" + &line("b") + "{\n" + &line("b"));
        assert_eq!(lengths.iter().sum::<usize>(), 4);
        assert!(lengths.len() >= 2 && lengths.last() == Some(&1), "{lengths:?}");
        assert!(wrong.contains("FILE:6: this is no message of a change"), "{wrong}");
        let (lengths, wrong) = batches(line("a").repeat(ROWS_MAX * 2).trim_end().to_owned());
        assert_eq!((lengths.iter().sum::<usize>(), wrong.as_str()), (ROWS_MAX * 2, ""));
        assert!(lengths.iter().all(|length| *length <= ROWS_MAX), "{lengths:?}");
    }

    #[test]
    fn a_line_without_end_is_not_read_to_its_end() {
        let (sender, blocks) = sync_channel(AHEAD);
        // Would never end.
        read(Box::new(BufReader::new(io::repeat(b'x'))), &sender);
        assert!(blocks.recv().unwrap().unwrap_err().contains("more than 64 MiB"));
    }
}
