//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Postgres change data capture: rows change, and search indexes, queues and services follow.
#[derive(Debug, Parser)]
#[command(name = "sequin", version, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the engine with a sequin.yaml until SIGTERM or SIGINT.
    Serve(ServeArguments),
    /// Print messages that were put aside (dead letters), one JSON object a line.
    Letters(LettersArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    /// The configuration.
    #[arg(long, env = "CONFIG_FILE_PATH", value_name = "FILE")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct LettersArguments {
    /// Of this sink only.
    #[arg(long, value_name = "NAME")]
    pub(crate) sink: Option<String>,
}
