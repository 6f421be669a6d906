//! The benchmarks, on private servers: `cargo x bench` builds and starts this.
//!
//! `source` measures the way of a row from the slot to a message, beside `pg_recvlogical`; `peers`
//! sets other engines on the same log; `engine` measures the whole way into a sink; `delivery`
//! what its promises cost; `config` a plan and an apply of many sinks; `plugin` measures the sandbox,
//! which needs no server. Every reader is a process of its own (`read` is ours), so that
//! its CPU time and memory are its alone, and reads its own copy of one slot, so that all read the
//! same log. Rounds are interleaved and ratios are taken within a round: on a machine that does other
//! things too, those and CPU time hold where rows per second drift.

mod backlog;
mod config;
mod delivery;
mod engine;
mod guests;
mod offline;
mod peers;
mod proc;
mod read;
mod server;
mod source;
mod table;
mod watch;

use std::io::Write as _;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tests::process;

#[derive(Parser)]
#[command(name = "cargo x bench", about = "Benchmarks", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// From the slot to a message, beside `pg_recvlogical`.
    Source(source::Arguments),
    /// Other engines on the same log.
    Peers(peers::Arguments),
    /// The whole way of a row into a sink, beside `pg_recvlogical`.
    Engine(engine::Arguments),
    /// What a dead sink, the change log, a kill and a backfill cost the others.
    Delivery(delivery::Arguments),
    /// What a plan and an apply of many sinks take.
    Config(config::Arguments),
    /// What a row costs in a plugin, beside the same work without one.
    Plugin(guests::Arguments),
    /// One reader of ours, for the above.
    #[command(hide = true)]
    Read(read::Arguments),
}

fn main() -> Result<()> {
    match Arguments::parse().what {
        What::Read(arguments) => read::run(&arguments),
        What::Plugin(arguments) => guests::run(&arguments),
        What::Source(arguments) => measure(source::run(arguments)),
        What::Peers(arguments) => measure(peers::run(arguments)),
        What::Engine(arguments) => measure(engine::run(arguments)),
        What::Delivery(arguments) => measure(delivery::run(arguments)),
        What::Config(arguments) => measure(config::run(arguments)),
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn measure(work: impl Future<Output = Result<()>>) -> Result<()> {
    // Ctrl-C is for the benchmark: it stops its servers itself, in order.
    process::use_own_groups();
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => {
            say("stopping …");
            Ok(())
        }
    }
}

/// One line on the terminal. Where nobody reads any more there is nothing to say.
pub(crate) fn say(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}
