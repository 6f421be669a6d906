//! `sequin plugin rollout` and `sequin plugin top`.

use clap::{Args, Subcommand};

/// What is done with other versions of a function while the engine runs.
#[derive(Debug, Subcommand)]
pub(crate) enum RolloutCommand {
    /// Show another version what passes, compare its outputs, and deliver nothing of them.
    Shadow(BeginArguments),
    /// Let another version have a share of the rows, by their keys.
    Canary(CanaryArguments),
    /// Change the share of a rollout; a shadow becomes a canary.
    Share {
        #[command(flatten)]
        which: WhichArguments,
        /// Of a hundred groups of rows.
        #[arg(value_parser = clap::value_parser!(u8).range(0..=100))]
        percent: u8,
    },
    /// List the rollouts of a sink, the newest first.
    List {
        /// The name or the id of the sink.
        sink: String,
        /// As JSON, one a line.
        #[arg(long)]
        json: bool,
    },
    /// Tell what both versions did, and where their outputs differ.
    Report {
        #[command(flatten)]
        which: WhichArguments,
        /// All of it, as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Let the version have all rows from the next one on, until the configuration names it.
    Promote(WhichArguments),
    /// End a rollout: from the next row on none takes the version.
    Abort {
        #[command(flatten)]
        which: WhichArguments,
        /// Why: it is kept with it.
        #[arg(long, default_value = "by hand")]
        reason: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct WhichArguments {
    /// The name or the id of the sink.
    pub(crate) sink: String,
    /// The id of the rollout; by default the newest of the sink.
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CanaryArguments {
    #[command(flatten)]
    pub(crate) begin: BeginArguments,
    /// Of a hundred groups of rows.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) percent: u8,
    /// Promote it by itself after so many rows without a broken rule.
    #[arg(long, value_name = "ROWS", requires = "promote_after_seconds")]
    pub(crate) promote_after_rows: Option<u64>,
    /// And after so long.
    #[arg(long, value_name = "SECONDS", requires = "promote_after_rows")]
    pub(crate) promote_after_seconds: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct BeginArguments {
    /// The name or the id of the sink.
    pub(crate) sink: String,
    /// The function, by its name in the configuration.
    pub(crate) function: String,
    /// The version: NAME@VERSION or sha256:…, pushed or of the plugin directory.
    pub(crate) plugin: String,
    /// Judge nothing before the version has had so many rows in the window.
    #[arg(long, value_name = "ROWS")]
    pub(crate) min_rows: Option<u64>,
    /// What is looked at, in seconds.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) window_seconds: Option<u64>,
    /// More rows that trap, or use too much time or memory, take it back; by default any.
    #[arg(long, value_name = "PERCENT")]
    pub(crate) max_trap_percent: Option<f64>,
    /// More rows that fail otherwise than in the version in use take it back; by default 1.
    #[arg(long, value_name = "PERCENT")]
    pub(crate) max_error_percent: Option<f64>,
    /// More or fewer dropped rows take it back, in percentage points.
    #[arg(long, value_name = "POINTS")]
    pub(crate) max_drop_change: Option<f64>,
    /// A larger 99th percentile of the time for a row takes it back.
    #[arg(long, value_name = "US")]
    pub(crate) max_p99_us: Option<f64>,
    /// The same, as a multiple of the version in use.
    #[arg(long, value_name = "FACTOR")]
    pub(crate) max_p99_factor: Option<f64>,
    /// Larger outputs take it back, as a multiple of the version in use.
    #[arg(long, value_name = "FACTOR")]
    pub(crate) max_output_factor: Option<f64>,
}

#[derive(Debug, Args)]
pub(crate) struct TopArguments {
    /// As JSON, one a line.
    #[arg(long)]
    pub(crate) json: bool,
}
