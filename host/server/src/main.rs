//! `sequin`: the engine as a program.
//!
//! Parses and checks everything before it binds anything, binds before it starts anything, and
//! stops in order within a deadline.

mod accept_loss;
mod alerts;
mod api;
mod arrivals;
mod audit;
mod backfills;
mod bindings;
mod bundles;
mod change_retention;
mod cli;
mod components;
mod config_source;
mod configuration;
mod configuring;
mod contexts;
mod database;
mod doctor;
mod grants;
mod health;
mod letters;
mod memory;
mod messages;
mod packing;
mod plan;
mod platform;
mod plugin;
mod reload;
mod retentions;
mod rollouts;
mod serve;
mod settings;
mod signatures;
mod sink;
mod table;
mod tables;
mod tail;
mod telemetry;
mod token;
mod tokens;
mod versions;
mod watch;
mod wiring;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

/// Why, and how it is set: Cargo.toml and .cargo/config.toml.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// `EX_USAGE` of sysexits(3): what was asked for cannot be done as it stands.
const USAGE: u8 = 64;
/// As for other tools that check something and find it wanting.
const ROWS_FAILED: u8 = 1;
/// What was to be checked cannot be: for tests that run elsewhere than at a prompt.
const BROKEN: u8 = 2;
/// `EX_SOFTWARE`: it ran and failed.
const FAILED: u8 = 70;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let asked_for = !error.use_stderr();
            // Where standard output is gone there is nobody to tell.
            drop(error.print());
            return if asked_for { ExitCode::SUCCESS } else { ExitCode::from(USAGE) };
        }
    };
    let done = match cli.command {
        cli::Command::Serve(arguments) => serve::run(&arguments),
        cli::Command::Tail(arguments) => tail::run(&arguments),
        cli::Command::Letters(arguments) => letters::run(&arguments),
        cli::Command::Backfills(command) => backfills::run(&command),
        cli::Command::Health => health::run(),
        cli::Command::AcceptLoss(arguments) => accept_loss::run(&arguments),
        cli::Command::Plugin(command) => plugin::run(&command),
        cli::Command::Config(command) => configuration::command::run(&command),
        cli::Command::Bundle(command) => bundles::run(&command),
        cli::Command::Sink(command) => sink::run(&command),
        cli::Command::ChangeRetention(command) => change_retention::run(&command),
        cli::Command::Completions { shell } => completions(shell),
        cli::Command::Token(command) => token::run(&command),
        cli::Command::Context(command) => contexts::run(&command),
        cli::Command::Database(command) => database::run(&command),
        cli::Command::Messages(command) => messages::run(&command),
        cli::Command::Doctor(arguments) => doctor::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => {
            tell(&text);
            ExitCode::from(USAGE)
        }
        Err(Failure::Broken(text)) => {
            tell(&text);
            ExitCode::from(BROKEN)
        }
        Err(Failure::Exit(code)) => code,
        Err(Failure::Rows) => ExitCode::from(ROWS_FAILED),
        Err(Failure::Failed(error)) => {
            tell(&format!("error: {error:#}"));
            ExitCode::from(FAILED)
        }
    }
}

fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::Cli::command(), "sequin", &mut script);
    plugin::print(&String::from_utf8_lossy(&script))?;
    Ok(())
}

/// Why a command ended without success.
enum Failure {
    /// The command line, a setting or the configuration is wrong; the text says what, fully.
    Usage(String),
    /// It worked, and its exit status says what was found.
    Exit(ExitCode),
    /// It worked, and rows failed in it, as was told with each.
    Rows,
    /// What was to be tested cannot be; the text says why, fully.
    Broken(String),
    /// It was right and did not work.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

fn tell(text: &str) {
    if text.is_empty() {
        return;
    }
    use std::io::Write as _;
    // Where standard error is gone there is nobody to tell.
    drop(writeln!(std::io::stderr(), "{}", text.trim_end()));
}
