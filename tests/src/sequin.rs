//! The engine: the real executable, as a child process with a configuration of its own.
//!
//! It sees only the environment it is given, so that variables of the developer's shell do not decide
//! a test. All it writes is in a directory that goes away with the value, except its log, which is
//! kept in memory and shown as it comes (nextest shows it for tests that fail).

mod log;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Process, Signal};
use crate::{env, http, metrics, ports, until};
use log::Log;

/// Until `/health` answers 200.
const START: Duration = Duration::from_secs(60);

/// A graceful stop has a deadline of its own, which is shorter.
const STOP: Duration = Duration::from_secs(30);

/// For a command that does one thing.
const COMMAND: Duration = Duration::from_secs(60);

/// What a program needs to run at all, and what developers set to see more.
const INHERITED: [&str; 11] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "LLVM_PROFILE_FILE",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "NO_COLOR",
    // Where Rust is, for what builds plugins.
    "CARGO_HOME",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
];

/// What an engine is started with.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    config: String,
    config_file: Option<PathBuf>,
    env: BTreeMap<String, String>,
    binary: Option<PathBuf>,
    quiet: bool,
    bare: bool,
}

impl Builder {
    /// It is started without a configuration: all that it runs is applied.
    #[must_use]
    pub fn without_config(mut self) -> Self {
        self.bare = true;
        self
    }

    /// The text of its `sequin.yaml`.
    #[must_use]
    pub fn config(mut self, yaml: &str) -> Self {
        yaml.clone_into(&mut self.config);
        self
    }

    /// A `sequin.yaml` that lies elsewhere, with what it refers to beside it, instead of a text.
    #[must_use]
    pub fn config_file(mut self, path: &Path) -> Self {
        self.config_file = Some(path.to_path_buf());
        self
    }

    /// A variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Another executable than `SEQUIN_BIN`, or the one that lies beside the test's.
    #[must_use]
    pub fn binary(mut self, path: &Path) -> Self {
        self.binary = Some(path.to_path_buf());
        self
    }

    /// Keeps its log from standard error.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Starts it and waits until it is healthy.
    pub async fn start(self) -> Result<Sequin> {
        let mut sequin = self.prepare()?;
        sequin.start().await?;
        Ok(sequin)
    }

    /// Starts it and waits until it ends by itself; its status, and all it said.
    pub async fn start_expecting_failure(self) -> Result<(ExitStatus, String)> {
        let mut sequin = self.prepare()?;
        sequin.spawn()?;
        let status = sequin.wait(STOP).await?;
        ensure!(!status.success(), "sequin ended with success:\n{}", sequin.log());
        Ok((status, sequin.log()))
    }

    /// Runs another of its commands to the end, in the environment of this engine. `{config}` in an
    /// argument stands for the path of the configuration.
    pub async fn command(self, arguments: &[&str]) -> Result<Output> {
        self.prepare()?.command(arguments).await
    }

    /// The same, with this text on its standard input.
    pub async fn command_over(self, arguments: &[&str], input: &str) -> Result<Output> {
        let sequin = self.prepare()?;
        let file = sequin.config_path().with_file_name("stdin");
        std::fs::write(&file, input)?;
        let mut command = sequin.executable();
        command.args(arguments).stdin(std::fs::File::open(&file)?);
        let output = tokio::process::Command::from(command).kill_on_drop(true).output();
        tokio::time::timeout(COMMAND, output)
            .await
            .with_context(|| format!("wait for sequin {arguments:?}"))?
            .with_context(|| format!("run sequin {arguments:?}"))
    }

    /// Makes its directory, and does not start it.
    pub fn prepare(self) -> Result<Sequin> {
        let binary = match &self.binary {
            Some(binary) => binary.clone(),
            None => find_binary()?,
        };
        let dir = tempfile::Builder::new().prefix("sequin-").tempdir()?;
        let sequin = Sequin {
            process: None,
            binary,
            env: self.env,
            server_port: ports::free()?,
            metrics_port: ports::free()?,
            client: http::client()?,
            log: Log::new(!self.quiet),
            bare: self.bare,
            config: self.config_file.unwrap_or_else(|| dir.path().join("sequin.yaml")),
            dir,
        };
        if !sequin.config.exists() {
            sequin.write_config(&self.config)?;
        }
        Ok(sequin)
    }
}

/// An engine, running unless it was stopped or killed.
pub struct Sequin {
    // Before the directory: the engine must be gone when that is removed.
    process: Option<Process>,
    binary: PathBuf,
    env: BTreeMap<String, String>,
    server_port: u16,
    metrics_port: u16,
    client: reqwest::Client,
    log: Log,
    bare: bool,
    config: PathBuf,
    dir: TempDir,
}

impl Sequin {
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The address of its API and console, without a slash at the end; the same after a restart.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.server_port)
    }

    /// The address of its metrics.
    pub fn metrics_url(&self) -> String {
        format!("http://127.0.0.1:{}/metrics", self.metrics_port)
    }

    /// Where it keeps its state; kept over restarts.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Its `sequin.yaml`.
    pub fn config_path(&self) -> PathBuf {
        self.config.clone()
    }

    /// Replaces its `sequin.yaml`.
    pub fn write_config(&self, yaml: &str) -> Result<()> {
        std::fs::write(self.config_path(), yaml).context("write sequin.yaml")
    }

    /// Sets a variable of its environment, from the next start on.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.env.insert(name.to_owned(), value.to_owned());
    }

    /// Starts it and does not wait until it is healthy.
    pub fn launch(&mut self) -> Result<()> {
        self.spawn()
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        self.process.as_mut().context("sequin is not running")?.exited()
    }

    /// All it has said so far, over all starts.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Kills it, as the kernel or a power cut would.
    pub async fn kill9(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.wait(STOP).await?;
        Ok(())
    }

    /// Asks it to stop (SIGTERM) and waits until it has.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(STOP).await
    }

    /// Starts it again, after stopping it gracefully if it runs, and waits until it is healthy.
    pub async fn restart(&mut self) -> Result<()> {
        if self.process.is_some() {
            let status = self.terminate().await?;
            ensure!(status.success(), "sequin did not stop well: {status}");
        }
        self.start().await
    }

    /// Sends any signal: `STOP` and `CONT` make it hang and go on.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.process.as_mut().context("sequin is not running")?.signal(signal)
    }

    /// Waits until it ends, for whatever reason.
    pub async fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let process = self.process.as_mut().context("sequin is not running")?;
        let status = process.wait(deadline).await?;
        self.process = None;
        self.log.finish();
        Ok(status)
    }

    /// The status and the body of `/health`; `Null` if that is not JSON.
    pub async fn health(&self) -> Result<(u16, Value)> {
        let (status, text) = self.get(&format!("{}/health", self.url())).await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    /// All metrics, as text.
    pub async fn metrics(&self) -> Result<String> {
        let (status, text) = self.get(&self.metrics_url()).await?;
        ensure!(status == 200, "metrics answer {status}: {text}");
        Ok(text)
    }

    /// The sum of the samples of a metric that carry these labels; an error if there is none.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        metrics::sum(&self.metrics().await?, name, labels)
            .with_context(|| format!("find the metric {name} with {labels:?}"))
    }

    /// Runs another of its commands to the end, in the environment of this engine. `{config}` in an
    /// argument stands for the path of the configuration.
    pub async fn command(&self, arguments: &[&str]) -> Result<Output> {
        let config = self.config_path().to_string_lossy().into_owned();
        let mut command = self.executable();
        command.args(arguments.iter().map(|argument| argument.replace("{config}", &config)));
        let output = tokio::process::Command::from(command).kill_on_drop(true).output();
        tokio::time::timeout(COMMAND, output)
            .await
            .with_context(|| format!("wait for sequin {arguments:?}"))?
            .with_context(|| format!("run sequin {arguments:?}"))
    }

    async fn start(&mut self) -> Result<()> {
        self.spawn()?;
        let mut exited = None;
        until("sequin to be healthy", START, async || {
            exited = self.process.as_mut().context("sequin is not running")?.exited()?;
            if exited.is_some() {
                return Ok(Ok(()));
            }
            let (status, body) = self.health().await?;
            Ok(if status == 200 { Ok(()) } else { Err(format!("{status} {body}")) })
        })
        .await
        .with_context(|| format!("start sequin; it said:\n{}", self.log.tail()))?;
        if let Some(status) = exited {
            self.process = None;
            self.log.finish();
            anyhow::bail!("sequin ended at its start: {status}; it said:\n{}", self.log.tail());
        }
        Ok(())
    }

    fn spawn(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "sequin is running");
        let mut command = self.executable();
        command.arg("serve");
        if !self.bare {
            command.arg("--config").arg(self.config_path());
        }
        let output = self.log.follow()?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        self.process = Some(Process::spawn("sequin", &mut command, Signal::KILL)?);
        Ok(())
    }

    /// The executable with its environment, for a command of it.
    pub fn executable(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.env_clear().current_dir(self.dir.path());
        // Not those of whoever runs this.
        command.env("SEQUIN_CONTEXTS", self.dir.path().join("contexts.json"));
        for name in INHERITED {
            if let Some(value) = env::path(name) {
                command.env(name, value);
            }
        }
        command
            .env("SERVER_PORT", self.server_port.to_string())
            .env("SEQUIN_METRICS_PORT", self.metrics_port.to_string())
            .env("SEQUIN_DATA_DIR", self.data_dir())
            .envs(&self.env);
        command
    }

    async fn get(&self, url: &str) -> Result<(u16, String)> {
        let response = self.client.get(url).send().await.with_context(|| format!("get {url}"))?;
        Ok((response.status().as_u16(), response.text().await?))
    }
}

/// `SEQUIN_BIN`, or what cargo has built into the target directory that this executable is in.
fn find_binary() -> Result<PathBuf> {
    if let Some(binary) = env::path("SEQUIN_BIN") {
        ensure!(binary.is_file(), "SEQUIN_BIN is {}, which is not a file", binary.display());
        return Ok(binary);
    }
    let this = std::env::current_exe().context("find the test's own executable")?;
    let candidates = this.ancestors().skip(1).take(2).map(|dir| dir.join("sequin"));
    candidates
        .into_iter()
        .find(|binary| binary.is_file())
        .context("find sequin: run `cargo x test`, or `cargo build -p server`, or set SEQUIN_BIN")
}
