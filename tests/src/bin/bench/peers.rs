//! `bench peers`: other engines on the same log, beside ours.
//!
//! Each does what it does by itself, to JSON in memory and nowhere else: Debezium's embedded engine,
//! and psycopg2, which brings the frames (`raw`) or is given a decoder of a page (`json`). All go over
//! TCP without TLS, which all of them can.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::backlog::Transactions;
use crate::read::Mode;
use crate::server::{Log, Server, Transport};
use crate::table::{self, Line};
use crate::{proc, say, source, watch};

/// What the others are compared with.
const BASE: &str = "ours";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Row changes, in 1,000-row transactions.
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(1..))]
    rows: u64,
    /// Rounds.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repeats: u32,
    /// Postgres 16, 17 or 18 instead of the first one found.
    #[arg(long)]
    major: Option<u32>,
    /// The directory with Debezium's jars; without it Debezium is left out.
    #[arg(long, env = "DEBEZIUM_LIBS")]
    debezium: Option<PathBuf>,
    /// The directory with psycopg2; without it psycopg2 is left out.
    #[arg(long, env = "PSYCOPG2_PATH")]
    psycopg2: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug)]
enum Reader {
    Ours,
    Psycopg2(&'static str),
    Debezium,
}

impl Reader {
    fn name(self) -> String {
        match self {
            Self::Ours => BASE.to_owned(),
            Self::Psycopg2(mode) => format!("psycopg2 {mode}"),
            Self::Debezium => "debezium".to_owned(),
        }
    }
}

/// What the peers need that is made for this run.
struct Programs {
    classes: tempfile::TempDir,
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let mut readers = vec![Reader::Ours];
    let directory = Programs { classes: tempfile::tempdir()? };
    match &arguments.psycopg2 {
        Some(_) => {
            std::fs::write(directory.script(), include_str!("peers/psycopg2_reader.py"))?;
            readers.extend([Reader::Psycopg2("raw"), Reader::Psycopg2("json")]);
        }
        None => say("psycopg2 is left out: `cargo x bench peers` says why"),
    }
    match &arguments.debezium {
        Some(libs) => {
            directory.compile(libs)?;
            readers.push(Reader::Debezium);
        }
        None => say("Debezium is left out: `cargo x bench peers` says why"),
    }
    let server = Server::start(arguments.major).await?;
    say(&format!("machine: {}", proc::machine()));
    say(&format!("server: PostgreSQL {}, on the same machine, over TCP", server.version));
    let log = server.write(arguments.rows, Transactions::Batched).await?;
    say(&format!("\n{} rows in 1,000-row transactions, log to {}", log.rows, log.end));
    let mut lines: Vec<_> =
        readers.iter().map(|reader| Line { name: reader.name(), runs: vec![] }).collect();
    for _ in 0..arguments.repeats {
        for (reader, line) in readers.iter().zip(&mut lines) {
            let slot = format!("bench_{}", line.name.replace(' ', "_"));
            let mut command = directory.command(*reader, &arguments, &server, &log, &slot)?;
            line.runs.push(watch::run(&server, &log, &slot, &mut command).await?);
        }
    }
    say(&table::show(&lines, BASE));
    say("\nCPU of Debezium is counted from its first event on, of the others from the start.");
    say(&format!("load at the end: {}", proc::load()));
    Ok(())
}

impl Programs {
    fn script(&self) -> PathBuf {
        self.classes.path().join("reader.py")
    }

    fn compile(&self, libs: &Path) -> Result<()> {
        let source = self.classes.path().join("Debezium.java");
        std::fs::write(&source, include_str!("peers/Debezium.java"))?;
        let mut javac = Command::new("javac");
        javac.arg("-cp").arg(libs.join("*")).arg("-d").arg(self.classes.path()).arg(&source);
        let output = javac.output().context("start javac")?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "javac failed: {}", complaint.trim());
        Ok(())
    }

    fn command(
        &self,
        reader: Reader,
        arguments: &Arguments,
        server: &Server,
        log: &Log,
        slot: &str,
    ) -> Result<Command> {
        let rows = log.rows.to_string();
        Ok(match reader {
            Reader::Ours => source::ours(Mode::Json, &server.url(Transport::Tcp), slot, log)?,
            Reader::Psycopg2(mode) => {
                let mut command = Command::new("python3");
                command.args([self.script().as_os_str(), server.url(Transport::Tcp).as_ref()]);
                command.args([slot, &rows, mode]);
                command.env("PYTHONPATH", arguments.psycopg2.as_deref().context("psycopg2")?);
                command
            }
            Reader::Debezium => {
                let libs = arguments.debezium.as_deref().context("Debezium's jars")?;
                let mut path = self.classes.path().as_os_str().to_owned();
                path.push(":");
                path.push(libs.join("*"));
                let mut command = Command::new("java");
                // It logs each step at INFO to its output.
                command.args(["-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"]);
                command.arg(path).arg("Debezium").args([&server.port().to_string(), slot, &rows]);
                command
            }
        })
    }
}
