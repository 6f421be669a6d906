//! The task runner, `cargo x …`: everything a developer or CI does that one cargo command does not.
//!
//! One command per file. It runs on any machine with a Rust toolchain and finds or installs the rest
//! itself; it knows the layout of the repository, and nothing of what the engine does.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool talks to its user"
)]

mod authoring;
mod bench;
mod chaos;
mod command;
mod demo;
mod env;
mod fixtures;
mod fuzz;
mod guests;
mod plugins;
mod repository;
mod services;
mod step;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo x", about = "Tasks of this repository", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Check everything: format, rules of the house, lints, and every test against real servers.
    Test {
        /// Passed to `cargo nextest run`.
        #[arg(last = true)]
        nextest: Vec<String>,
    },
    /// Run the engine against private servers and show what it does.
    Demo {
        /// End by itself after so many seconds.
        #[arg(long)]
        seconds: Option<u64>,
    },
    /// Let everything go wrong under load, and check that nothing is lost or out of order.
    Chaos {
        /// How long things go wrong.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// The faults and the load of an earlier campaign.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Hunt for inputs that source or sandbox do not survive, with libFuzzer.
    Fuzz {
        /// One target only, or `record`.
        what: Option<fuzz::What>,
        /// For each target.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Measure: `source` beside pg_recvlogical, `peers` beside other engines, `engine` the whole way,
    /// `delivery` what its promises cost, `plugin` the sandbox; each has `--help`.
    Bench {
        /// Passed to the benchmarks.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        arguments: Vec<String>,
    },
    /// Record the fixtures of the first-party plugins anew, from a real server.
    Fixtures,
    /// Build the plugins into WebAssembly components.
    Plugins,
    /// Build the conformance suite's plugins in C and in JavaScript, if what they are made of changed.
    Guests,
    /// Find or install the servers and tools that tests and demo need.
    Services,
    /// Check the rules of the house that no compiler knows.
    Tidy,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Test { nextest } => test::run(&nextest),
        Task::Demo { seconds } => demo::run(seconds),
        Task::Chaos { seconds, seed } => chaos::run(seconds, seed),
        Task::Fuzz { what, seconds } => fuzz::run(what, seconds),
        Task::Bench { arguments } => bench::run(&arguments),
        Task::Fixtures => fixtures::record(),
        Task::Plugins => plugins::build(),
        Task::Guests => guests::ensure(),
        Task::Services => services::run(),
        Task::Tidy => tidy::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
