//! `bench source`: from the slot to a message, beside `pg_recvlogical`, which does nothing with it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::ValueEnum as _;

use crate::backlog::Transactions;
use crate::read::Mode;
use crate::server::{Log, Server, Transport};
use crate::table::{self, Line};
use crate::{offline, proc, say, watch};

/// What the others are compared with.
const BASE: &str = "pg_recvlogical";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Row changes in 1,000-row transactions; of one-row transactions a fifth of it.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    rows: u64,
    /// Rounds.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repeats: u32,
    /// Only these: batched, single; unix, tcp, tls; pg_recvlogical, drain, decode, json; offline.
    /// Of a group that none is named of, all run.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Postgres 16, 17 or 18 instead of the first one found.
    #[arg(long)]
    major: Option<u32>,
    /// Where `pg_recvlogical` is.
    #[arg(long, env = "PG_RECVLOGICAL", default_value = "pg_recvlogical")]
    pg_recvlogical: PathBuf,
}

impl Arguments {
    /// Those of a group that are to run.
    fn pick<T: Copy>(&self, all: &[T], name: impl Fn(T) -> &'static str) -> Vec<T> {
        let named = |item: &T| self.only.iter().any(|only| only == name(*item));
        if all.iter().any(named) {
            all.iter().copied().filter(named).collect()
        } else {
            all.to_vec()
        }
    }
}

/// One of those that are measured; none of ours is `pg_recvlogical`.
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
    let offline_alone = arguments.only.iter().all(|only| only == "offline");
    let offline_alone = offline_alone && !arguments.only.is_empty();
    let offline_too = arguments.only.is_empty() || arguments.only.iter().any(|o| o == "offline");
    for by in arguments.pick(&Transactions::ALL, Transactions::name) {
        let rows = match by {
            Transactions::Batched => arguments.rows,
            Transactions::Single => arguments.rows.div_ceil(5),
        };
        let log = server.write(rows, by).await?;
        say(&format!("\n{} transactions, {rows} rows, log to {}", by.name(), log.end));
        if offline_too {
            say(&offline::run(&server, &log, arguments.repeats.max(5)).await?);
        }
        if offline_alone {
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
    let all = [None, Some(Mode::Drain), Some(Mode::Decode), Some(Mode::Json)];
    let readers = arguments.pick(&all, reader_name);
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
                    None => pg_recvlogical(arguments, &url, &slot, log),
                    Some(mode) => ours(mode, &url, &slot, log)?,
                };
                lines[at].runs.push(watch::run(server, log, &slot, &mut command).await?);
            }
        }
    }
    Ok(measured)
}

fn pg_recvlogical(arguments: &Arguments, url: &str, slot: &str, log: &Log) -> Command {
    let mut command = Command::new(&arguments.pg_recvlogical);
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
