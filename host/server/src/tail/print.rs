//! Changes as lines of JSON on standard output.

use std::io::{self, ErrorKind, Write as _};

use anyhow::Context as _;
use model::envelope::{Consumer, Database, Envelope};
use model::position::Position;
use model::source::Changes;
use postgres::Options;

use super::select::Choice;

/// Writes the messages, and knows which were written.
#[derive(Debug)]
pub(super) struct Printer {
    envelope: Envelope,
    /// How many more are wanted.
    left: Option<u64>,
    /// The last change that was written or not wanted.
    last: Option<Position>,
    /// Whether more of the last transaction is to come.
    open: bool,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Printed {
    /// All of it was written.
    All,
    /// As many as were wanted; not the change at this position, nor those behind it.
    UpTo(Position),
    /// Nobody reads any more: not all of it was written.
    Closed,
}

impl Printer {
    pub(super) fn new(options: &Options, count: Option<u64>, types: bool) -> Self {
        let consumer = Consumer { id: "tail", name: "tail", annotations: "{}" };
        let database = Database {
            id: &options.database,
            name: &options.database,
            annotations: "{}",
            database: &options.database,
            hostname: &options.host,
        };
        let envelope = Envelope::new(&consumer, &database);
        let envelope = if types { envelope.with_types() } else { envelope };
        Self { envelope, left: count, last: None, open: false }
    }

    /// Whether as many as were wanted are written.
    pub(super) fn is_done(&self) -> bool {
        self.left == Some(0)
    }

    /// Whether nothing more of the last transaction is to come.
    pub(super) fn between_transactions(&self) -> bool {
        !self.open
    }

    /// Writes a batch out; what was printed before a reconnect is not printed again.
    pub(super) async fn print(
        &mut self,
        batch: &Changes,
        choice: &Choice,
    ) -> anyhow::Result<Printed> {
        let (text, cut) = self.render(batch, choice);
        if !text.is_empty() {
            let written = tokio::task::spawn_blocking(move || write(&text)).await;
            match written.context("write the changes")? {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(Printed::Closed),
                Err(error) => return Err(error).context("write to standard output"),
            }
        }
        Ok(cut.map_or(Printed::All, Printed::UpTo))
    }

    /// The lines of a batch, and the first change that is one too many.
    fn render(&mut self, batch: &Changes, choice: &Choice) -> (String, Option<Position>) {
        let mut text = String::new();
        for change in &batch.changes {
            if self.last.is_some_and(|last| change.position <= last) {
                continue;
            }
            if self.is_done() {
                return (text, Some(change.position));
            }
            self.last = Some(change.position);
            if !choice.wants(change) {
                continue;
            }
            let first = text.len();
            self.envelope.write(&mut text, change, None, &[]);
            // A value of type json may hold line ends, between its tokens.
            if text.get(first..).is_some_and(|line| line.contains(['\n', '\r'])) {
                let line = text.split_off(first);
                text.push_str(&line.replace(['\n', '\r'], " "));
            }
            text.push('\n');
            self.left = self.left.map(|left| left.saturating_sub(1));
        }
        let ended = batch.commits.last().map(|commit| commit.commit_lsn);
        self.open = match batch.changes.last() {
            Some(change) => ended.is_none_or(|ended| ended < change.position.commit_lsn),
            None => self.open && ended.is_none(),
        };
        (text, None)
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
