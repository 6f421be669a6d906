//! A running `sequin tail`, with what it printed.

use std::fs::File;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::process::{Process, Signal};
use crate::sequin::{Builder, Sequin};
use crate::until;

/// It logs in twice, and creates a slot.
const START: Duration = Duration::from_secs(60);

/// What it says once it reads.
const READING: &str = "reading the changes of";

/// Running unless it was ended.
pub struct Tail {
    // Before the directory: the process must be gone when that is removed.
    process: Process,
    /// Its directory, in which both outputs are.
    home: Sequin,
}

impl Tail {
    /// Starts it with these arguments and waits until it reads.
    pub async fn start(database_url: &str, arguments: &[&str]) -> Result<Self> {
        let mut tail = Self::spawn(database_url, arguments, None)?;
        tail.reading().await?;
        Ok(tail)
    }

    /// Starts it with these arguments. Its standard output is a file unless another is given.
    pub fn spawn(database_url: &str, arguments: &[&str], output: Option<Stdio>) -> Result<Self> {
        let home = Builder::default().prepare()?;
        let file = |name: &str| File::create(home.config_path().with_file_name(name));
        let mut command = home.executable();
        // Where a password does not show in the list of processes.
        command.arg("tail").args(arguments).env("DATABASE_URL", database_url);
        let output = match output {
            Some(output) => output,
            None => file("stdout")?.into(),
        };
        command.stdin(Stdio::null()).stdout(output).stderr(file("stderr")?);
        let process = Process::spawn("sequin tail", &mut command, Signal::KILL)?;
        Ok(Self { process, home })
    }

    /// Waits until it reads.
    pub async fn reading(&mut self) -> Result<()> {
        until("sequin tail to read", START, async || {
            let said = self.stderr()?;
            if said.contains(READING) {
                return Ok(Ok(()));
            }
            ensure!(self.process.exited()?.is_none(), "it ended: {said}");
            Ok(Err(said))
        })
        .await
    }

    /// What it said beside the changes.
    pub fn stderr(&self) -> Result<String> {
        self.read("stderr")
    }

    /// The lines that are complete, as they were printed.
    pub fn lines(&self) -> Result<String> {
        let mut text = self.read("stdout")?;
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        Ok(text)
    }

    /// The messages of the lines that are complete.
    pub fn messages(&self) -> Result<Vec<Value>> {
        let complete = self.lines()?;
        let parsed = complete.lines().map(serde_json::from_str);
        parsed.collect::<Result<_, _>>().with_context(|| format!("parse {complete}"))
    }

    /// Waits for so many messages, and returns all there are.
    pub async fn until_messages(&self, count: usize, deadline: Duration) -> Result<Vec<Value>> {
        until(&format!("{count} messages of sequin tail"), deadline, async || {
            let messages = self.messages()?;
            let state = || format!("{} messages; it said: {:?}", messages.len(), self.stderr());
            Ok(if messages.len() >= count { Ok(messages) } else { Err(state()) })
        })
        .await
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Waits until it ends.
    pub async fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.process.wait(deadline).await
    }

    fn read(&self, name: &str) -> Result<String> {
        let path = self.home.config_path().with_file_name(name);
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }
}
