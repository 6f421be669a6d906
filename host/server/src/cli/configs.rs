//! The configuration of an engine on the command line: `sequin config plan` and the like, and bundles.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What an engine is to run.
#[derive(Debug, Args)]
pub(crate) struct Proposed {
    /// The configuration or a bundle; `-` is standard input.
    #[arg(default_value = "sequin.yaml")]
    pub(crate) file: PathBuf,
    /// Delete what was applied before by the same owner and is not in the file any more.
    #[arg(long)]
    pub(crate) prune: bool,
    /// Databases too: what their slots hold is lost.
    #[arg(long, requires = "prune")]
    pub(crate) prune_databases: bool,
    /// Whose file it is, where several are applied to one engine.
    #[arg(long, value_name = "NAME")]
    pub(crate) owner: Option<String>,
    /// Who does it, for the record; by default the user of this system.
    #[arg(long, value_name = "WHO")]
    pub(crate) by: Option<String>,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArguments {
    #[command(flatten)]
    pub(crate) proposed: Proposed,
    /// Print the plan as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Exit status: 0 nothing is other, 2 something is.
    #[arg(long)]
    pub(crate) detailed_exitcode: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ApplyArguments {
    #[command(flatten)]
    pub(crate) proposed: Proposed,
    /// Print what was done as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Do not ask.
    #[arg(long)]
    pub(crate) auto_approve: bool,
    /// Wait so long for the databases and sinks that were changed to be well, and tell each; exit status 1
    /// if one is not.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) wait: Option<u64>,
    /// Do the plan of this hash or nothing, without asking.
    #[arg(long, value_name = "HASH")]
    pub(crate) plan: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// Write secrets out.
    #[arg(long)]
    pub(crate) show_sensitive: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DriftArguments {
    /// Print it as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Exit status: 0 nothing is other, 2 something is.
    #[arg(long)]
    pub(crate) detailed_exitcode: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BundleCommand {
    /// Put a configuration and the components and SQL that it names into one file.
    ///
    /// Variables of the environment stay; `sequin config apply BUNDLE` fills them in. The same content
    /// gives the same bytes. A component that the configuration names and that is not here must be known
    /// to the engine by then.
    Build {
        /// The configuration.
        #[arg(default_value = "sequin.yaml")]
        file: PathBuf,
        /// The bundle.
        #[arg(short, long, value_name = "FILE", default_value = "sequin.bundle.tar")]
        output: PathBuf,
    },
    /// Print what is in a bundle, as JSON.
    Inspect {
        /// The bundle; `-` is standard input.
        file: PathBuf,
    },
    /// Check that a bundle is whole, and that its components are plugins which this program can run.
    ///
    /// Exit status: 0 it is, 64 it is not.
    Verify {
        /// The bundle; `-` is standard input.
        file: PathBuf,
    },
}
