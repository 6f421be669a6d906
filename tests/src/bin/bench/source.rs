//! `bench source`: from the slot to a message, beside `pg_recvlogical`, which does nothing with it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::ValueEnum as _;

use crate::backlog::Transactions;
use crate::read::Mode;
use crate::server::{Log, Server, Transport};
use crate::table::{self, Line};
use crate::{offline, proc, say, watch};

/// What the others are compared with.
pub(crate) const BASE: &str = "pg_recvlogical";

/// What can be picked.
const WORDS: [&str; 10] =
    ["batched", "single", "unix", "tcp", "tls", BASE, "drain", "decode", "json", OFFLINE];

const OFFLINE: &str = "offline";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Row changes in 1,000-row transactions; of one-row transactions a fifth of it.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    rows: u64,
    /// Rounds.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repeats: u32,
    /// Only these: batched, single; unix, tcp, tls; pg_recvlogical, drain, decode, json; offline.
    /// Of a group that none is named of, all run; `offline` without a way or a reader runs alone.
    #[arg(long, value_delimiter = ',', value_parser = WORDS)]
    only: Vec<String>,
    /// Postgres 16, 17 or 18 instead of the first one found.
    #[arg(long)]
    major: Option<u32>,
    /// Where `pg_recvlogical` is.
    #[arg(long, env = "PG_RECVLOGICAL", default_value = "pg_recvlogical")]
    pg_recvlogical: PathBuf,
}

impl Arguments {
    fn names(&self, word: &str) -> bool {
        self.only.iter().any(|only| only == word)
    }

    /// Those of a group that are to run.
    fn pick<T: Copy>(&self, all: &[T], name: impl Fn(T) -> &'static str) -> Vec<T> {
        let named = |item: &T| self.names(name(*item));
        if all.iter().any(named) {
            all.iter().copied().filter(named).collect()
        } else {
            all.to_vec()
        }
    }
}

/// Those that are measured: `pg_recvlogical`, and ours.
const READERS: [Option<Mode>; 4] = [None, Some(Mode::Drain), Some(Mode::Decode), Some(Mode::Json)];

fn reader_name(reader: Option<Mode>) -> &'static str {
    match reader {
        None => BASE,
        Some(Mode::Drain) => "drain",
        Some(Mode::Decode) => "decode",
        Some(Mode::Json) => "json",
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let server = Server::start(arguments.major).await?;
    say(&format!("machine: {}", proc::machine()));
    say(&format!("server: PostgreSQL {}, on the same machine", server.version));
    let by_name = Transport::ALL.map(Transport::name).into_iter().chain(READERS.map(reader_name));
    let live = by_name.into_iter().any(|name| arguments.names(name));
    let offline = arguments.names(OFFLINE);
    for by in arguments.pick(&Transactions::ALL, Transactions::name) {
        let rows = match by {
            Transactions::Batched => arguments.rows,
            Transactions::Single => arguments.rows.div_ceil(5),
        };
        let log = server.write(rows, by).await?;
        say(&format!("\n{} transactions, {rows} rows, log to {}", by.name(), log.end));
        if offline || !live {
            say(&offline::run(&server, &log, arguments.repeats.max(5)).await?);
        }
        if offline && !live {
            continue;
        }
        for (transport, lines) in rounds(&arguments, &server, &log).await? {
            say(&format!("\n{} transactions, {}:", by.name(), transport.name()));
            say(&table::show(&lines, BASE));
        }
    }
    say(&format!("\nload at the end: {}", proc::load()));
    Ok(())
}

/// All rounds: in each, every reader reads the same log over every transport.
async fn rounds(
    arguments: &Arguments,
    server: &Server,
    log: &Log,
) -> Result<Vec<(Transport, Vec<Line>)>> {
    let mut readers = arguments.pick(&READERS, reader_name);
    let version = Command::new(&arguments.pg_recvlogical).arg("--version").output();
    if readers.contains(&None) && !version.is_ok_and(|output| output.status.success()) {
        say(
            "pg_recvlogical is left out: install PostgreSQL's client programs, or set PG_RECVLOGICAL",
        );
        readers.retain(Option::is_some);
    }
    let line = |reader: &Option<Mode>| Line { name: reader_name(*reader).into(), runs: vec![] };
    let transports = arguments.pick(&Transport::ALL, Transport::name);
    let mut measured: Vec<_> = transports
        .into_iter()
        .map(|transport| (transport, readers.iter().map(line).collect::<Vec<_>>()))
        .collect();
    for round in 0..arguments.repeats {
        for (transport, lines) in &mut measured {
            // Nobody is always first.
            for turn in 0..readers.len() {
                let at = (turn + round as usize) % readers.len();
                let slot = format!("bench_{}", reader_name(readers[at]));
                let url = server.url(*transport);
                let mut command = match readers[at] {
                    None => pg_recvlogical(&arguments.pg_recvlogical, &url, &slot, log),
                    Some(mode) => ours(mode, &url, &slot, log)?,
                };
                lines[at].runs.push(watch::run(server, log, &slot, &mut command).await?);
            }
        }
    }
    Ok(measured)
}

/// The base: it reads to the log's end and keeps nothing.
pub(crate) fn pg_recvlogical(program: &Path, url: &str, slot: &str, log: &Log) -> Command {
    let mut command = Command::new(program);
    command.args(["--start", "-f", "/dev/null", "--no-loop", "-d", url, "-S", slot]);
    command.args(["-E", &log.end, "-o", "proto_version=1", "-o", "publication_names=bench"]);
    command.args(["-o", "messages=true"]);
    command
}

/// A reader of ours.
pub(crate) fn ours(mode: Mode, url: &str, slot: &str, log: &Log) -> Result<Command> {
    let name = mode.to_possible_value().context("name the mode")?;
    let mut command = Command::new(std::env::current_exe().context("find this program")?);
    command.args(["read", "--mode", name.get_name(), "--url", url, "--slot", slot]);
    command.args(["--end", &log.end]);
    Ok(command)
}
