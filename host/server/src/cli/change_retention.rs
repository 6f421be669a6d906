//! `sequin change-retention`.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum ChangeRetentionCommand {
    /// Print them.
    List {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Print one, with its health, as JSON.
    Show {
        /// Its name or id.
        name: String,
    },
    /// Let it collect changes and write none.
    Pause {
        /// Its name or id.
        name: String,
    },
    /// Let it go on, also one that has stopped itself.
    Resume {
        /// Its name or id.
        name: String,
    },
    /// Print the statements that make the table which changes are kept in, for psql.
    Ddl(DdlArguments),
}

#[derive(Debug, Args)]
pub(crate) struct DdlArguments {
    /// The table of this one, by its name or id: the engine is asked.
    #[arg(required_unless_present = "table", conflicts_with = "table")]
    pub(crate) name: Option<String>,
    /// The schema of the table.
    #[arg(long, default_value = "public", conflicts_with = "name")]
    pub(crate) schema: String,
    /// The table; nobody is asked.
    #[arg(long)]
    pub(crate) table: Option<String>,
    /// Partitioned by the time of the commit, so that old changes go by dropping partitions.
    #[arg(long)]
    pub(crate) partitioned: bool,
}
