//! `bench engine`: the whole way of a row, from the slot through the engine into a sink, beside
//! `pg_recvlogical`, which does nothing with it.
//!
//! The engine is the real program with a configuration of its own for each way, on a copy of one slot,
//! so that all read the same log. Its CPU time is told by its threads: the one that reads the slot, the
//! ones that run plugins, the one that writes its state, and the rest, which is fan-out, encoding,
//! lanes and requests. What a destination uses shares the machine with it and is not counted.

mod latency;
mod measure;
mod target;
mod way;

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::backlog::Transactions;
use crate::server::{Log, Server, Transport};
use crate::table::{Figure, align};
use crate::{proc, say, source, watch};
use measure::Run;
use way::Way;

const BASE: &str = source::BASE;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Row changes, in 1,000-row transactions.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    rows: u64,
    /// Rounds.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repeats: u32,
    /// Only these ways.
    #[arg(long, value_delimiter = ',', value_parser = Way::ALL.map(Way::name))]
    only: Vec<String>,
    /// Rows that are timed one by one, in each of the two parts of the latency; 0 leaves it out.
    #[arg(long, default_value_t = 400)]
    probes: usize,
    /// Postgres 16, 17 or 18 instead of the first one found.
    #[arg(long)]
    major: Option<u32>,
    /// Where `pg_recvlogical` is.
    #[arg(long, env = "PG_RECVLOGICAL", default_value = "pg_recvlogical")]
    pg_recvlogical: PathBuf,
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let server = Server::start(arguments.major).await?;
    say(&format!("machine: {}", proc::machine()));
    say(&format!("server: PostgreSQL {}, on the same machine", server.version));
    let log = server.write(arguments.rows, Transactions::Batched).await?;
    say(&format!("1,000-row transactions, {} rows, log to {}", log.rows, log.end));
    let named = |way: &Way| arguments.only.iter().any(|only| only == way.name());
    let ways: Vec<Way> =
        Way::ALL.into_iter().filter(|way| arguments.only.is_empty() || named(way)).collect();
    let (base, lines) = rounds(&arguments, &server, &log, ways).await?;
    say(&show(&base, &lines));
    if arguments.probes > 0 {
        say("\ncommit to webhook received, through a filter and a transform, ms:");
        say(&latency::run(&server, arguments.probes).await?);
    }
    say(&format!("\nload at the end: {}", proc::load()));
    Ok(())
}

/// All rounds: in each, every way reads the same log.
async fn rounds(
    arguments: &Arguments,
    server: &Server,
    log: &Log,
    ways: Vec<Way>,
) -> Result<(Vec<watch::Run>, Vec<(Way, Vec<Run>)>)> {
    let version = Command::new(&arguments.pg_recvlogical).arg("--version").output();
    let has_base = version.is_ok_and(|output| output.status.success());
    if !has_base {
        say("pg_recvlogical is left out: install PostgreSQL's client programs");
    }
    let mut base = Vec::new();
    let mut lines: Vec<(Way, Vec<Run>)> = Vec::new();
    for way in ways {
        match way.is_possible().await {
            Ok(()) => lines.push((way, Vec::new())),
            Err(error) => say(&format!("{} is left out: {error:#}", way.name())),
        }
    }
    let ways = lines.len();
    for round in 0..arguments.repeats {
        if has_base {
            let slot = "bench_base";
            let url = server.url(Transport::Tcp);
            let mut command = source::pg_recvlogical(&arguments.pg_recvlogical, &url, slot, log);
            base.push(watch::run(server, log, slot, &mut command).await?);
        }
        // Nobody is always first.
        for turn in 0..ways {
            if let Some((way, runs)) = lines.get_mut((turn + round as usize) % ways) {
                runs.push(measure::run(server, log, *way).await?);
            }
        }
    }
    Ok((base, lines))
}

/// The ways, each beside `pg_recvlogical` in the same round.
fn show(base: &[watch::Run], lines: &[(Way, Vec<Run>)]) -> String {
    let head = [
        "way",
        "k rows/s",
        &format!("x {BASE}"),
        "engine us/row",
        "reader",
        "plugins",
        "store",
        "rest",
        "walsender",
        "RSS peak MiB",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    if !base.is_empty() {
        let figure = |value: &dyn Fn(&watch::Run) -> f64| Figure::of(base.iter().map(value));
        let mut row: [String; 10] = std::array::from_fn(|_| "-".to_owned());
        row[0] = BASE.to_owned();
        row[1] = figure(&watch::Run::rows_per_second).show(1_000.0, 0);
        row[2] = "1".to_owned();
        row[3] = figure(&watch::Run::client_us).show(1.0, 2);
        row[8] = figure(&watch::Run::sender_us).show(1.0, 2);
        row[9] = figure(&|run| run.rss_kib as f64).show(1_024.0, 0);
        rows.push(row);
    }
    for (way, runs) in lines {
        let figure = |value: &dyn Fn(&Run) -> f64| Figure::of(runs.iter().map(value));
        let ratios = base.iter().zip(runs);
        let ratios = ratios.map(|(base, run)| run.rows_per_second() / base.rows_per_second());
        let us = |value: &dyn Fn(&Run) -> u64| figure(&|run| run.us(value(run))).show(1.0, 2);
        rows.push([
            way.name().to_owned(),
            figure(&Run::rows_per_second).show(1_000.0, 0),
            Figure::of(ratios).show(1.0, 2),
            us(&|run| run.stages.total()),
            us(&|run| run.stages.reader),
            us(&|run| run.stages.plugins),
            us(&|run| run.stages.store),
            us(&|run| run.stages.rest),
            us(&|run| run.sender_ns),
            figure(&|run| run.rss_kib as f64).show(1_024.0, 0),
        ]);
    }
    align(&rows)
}
