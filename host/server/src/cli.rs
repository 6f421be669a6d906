//! The command line.

pub(crate) mod rollouts;

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};

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
    /// Print the changes of a database as they happen, one JSON message a line.
    ///
    /// Without --slot it reads from now on and leaves nothing behind. With --slot it goes on where
    /// that slot was confirmed, and confirms what it printed.
    Tail(TailArguments),
    /// Look at messages that were put aside (dead letters), edit them, send them again.
    ///
    /// Without a command it lists them, one JSON object a line.
    Letters(LettersArguments),
    /// Deliver whole tables to a sink, beside what changes: through the engine on this machine.
    ///
    /// It is asked where `sequin serve` would listen with the same SERVER_PORT and SEQUIN_BIND, with
    /// SEQUIN_API_TOKEN if that is set. Each backfill is printed as JSON, one a line.
    #[command(subcommand)]
    Backfills(BackfillCommand),
    /// Ask the engine on this machine whether it is up; for health checks.
    ///
    /// It asks /health where `sequin serve` would listen with the same SERVER_PORT and SEQUIN_BIND.
    /// Exit status: 0 it answered that it is, else 70.
    Health,
    /// Go on with a slot that lost changes, which the engine refuses by itself.
    ///
    /// For the states slot_missing, slot_lost, slot_moved and server_set_back, with the engine
    /// stopped. Letters are kept.
    AcceptLoss(AcceptLossArguments),
    /// Write plugins, look into them, and run them over recorded messages.
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Look at a sequin.yaml without running it.
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum BackfillCommand {
    /// Print the backfills of a sink, the newest first.
    List {
        /// The name or the id of the sink.
        sink: String,
    },
    /// Begin one. It runs in the engine.
    Start(BackfillStart),
    /// Let one wait; what was read is delivered.
    Pause(OneBackfill),
    /// Let one that was paused go on.
    Resume(OneBackfill),
    /// End one. What was delivered stays.
    Cancel(OneBackfill),
}

#[derive(Debug, Args)]
pub(crate) struct OneBackfill {
    /// The name or the id of the sink.
    pub(crate) sink: String,
    /// The id of the backfill.
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct BackfillStart {
    /// The name or the id of the sink.
    pub(crate) sink: String,
    /// `schema.table`, or a table of `public`; needed if the sink may have several.
    pub(crate) table: Option<String>,
    /// Read by this column, not by the key; rows where it is null are not read.
    #[arg(long, value_name = "COLUMN")]
    pub(crate) sort_column: Option<String>,
    /// Only rows in which the sort column is at least this.
    #[arg(long, value_name = "VALUE", requires = "sort_column")]
    pub(crate) start_position: Option<String>,
    /// Only rows of which this SQL condition is true.
    #[arg(long, value_name = "SQL")]
    pub(crate) condition: Option<String>,
    /// The server gives up a page after this time, and the next one is smaller.
    #[arg(long, value_name = "MS")]
    pub(crate) max_timeout_ms: Option<u64>,
    /// No more rows in a second, on average.
    #[arg(long, value_name = "ROWS")]
    pub(crate) max_rows_per_second: Option<u32>,
    /// Into about how many ranges the table is cut; up to three are read at once.
    #[arg(long, value_name = "COUNT")]
    pub(crate) ranges: Option<usize>,
    /// Read a table that has no key by the place of its rows on disk.
    #[arg(long)]
    pub(crate) by_place: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Tell everything that is wrong with a configuration, with file, line, column and help.
    ///
    /// It reads the file, the SQL files that it names and the environment; no component, database or
    /// destination is looked at. Exit status: 0 it is valid, 64 it is not.
    Validate(ValidateArguments),
    /// Print the configuration with environment variables, anchors and merge keys filled in.
    ///
    /// The output holds the secrets. Comments are gone.
    Interpolate(InterpolateArguments),
    /// Print the JSON schema of sequin.yaml, for editors.
    ///
    /// An editor with a YAML language server uses it through a first line
    /// `# yaml-language-server: $schema=sequin.schema.json`.
    Schema,
}

#[derive(Debug, Args)]
pub(crate) struct ValidateArguments {
    /// The configuration; `-` is standard input.
    #[arg(default_value = "sequin.yaml", env = "CONFIG_FILE_PATH")]
    pub(crate) file: PathBuf,
    /// Tell it as JSON, on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InterpolateArguments {
    /// The configuration; `-` is standard input.
    #[arg(default_value = "sequin.yaml", env = "CONFIG_FILE_PATH")]
    pub(crate) file: PathBuf,
    /// Write it there instead of to standard output.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Begin a plugin in a directory of its own: a crate with a unit test and a recorded message.
    New(NewArguments),
    /// Build the crate of a plugin to a component, and tell what it is.
    ///
    /// Runs cargo, optimised, for wasm32-unknown-unknown. Of a workspace all plugins are built.
    Build(BuildArguments),
    /// Tell what a component is: digest, roles, imports, metadata, configuration.
    Inspect(InspectArguments),
    /// Run a plugin over messages as `sequin tail --types` prints them; one outcome a line.
    ///
    /// It runs in the sandbox of the engine, with the engine's limits, as in a sink. The messages of
    /// webhooks will do too; without the types of their columns (`metadata.columns`), those are told
    /// by what their JSON looks like, and of a deleted row what was not sent counts as null.
    ///
    /// Exit status: 0 every row had an outcome, 1 some row failed, 64 something given is wrong, such
    /// as the configuration or a line that is no message.
    Run(RunArguments),
    /// Measure a plugin over messages of one table.
    Bench(BenchArguments),
    /// Bring another version of a function into use: in the shadow, for a share, for all.
    ///
    /// It is asked of the engine on this machine, where `sequin serve` would listen with the same
    /// SERVER_PORT and SEQUIN_BIND, with SEQUIN_API_TOKEN if that is set.
    #[command(subcommand)]
    Rollout(rollouts::RolloutCommand),
    /// Tell what the functions of the engine on this machine cost, who took most CPU time first.
    Top(rollouts::TopArguments),
    /// Upload a version, which deploys nothing. Asks the engine.
    ///
    /// NAME@VERSION is these bytes from then on, for good. Exit status: 0 it is there, 64 it was
    /// refused, with a code and the reason.
    Push(PushArguments),
    /// Print the versions that were pushed, one JSON object a line. Asks the engine.
    List,
    /// Print one version. Asks the engine.
    Show {
        /// NAME@VERSION.
        version: String,
    },
    /// Forget a version that no sink runs, ran before, or is held at. Asks the engine.
    Delete {
        /// NAME@VERSION.
        version: String,
    },
    /// Remove the bytes of components that no version and no generation names. Asks the engine.
    Collect,
    /// Print what the sinks run and what is held, one chain a line. Asks the engine.
    Bindings,
    /// Print what a sink ran, each generation a line, the newest first. Asks the engine.
    History {
        /// The name of the sink.
        sink: String,
    },
    /// Let a sink run another version from now on, and hold it there. Asks the engine.
    ///
    /// It is opened and checked first. What sequin.yaml says of this chain is not done until it says
    /// the same, or the hold is released.
    Promote(PromoteArguments),
    /// Let a sink run again what it ran before, and hold it there. Asks the engine.
    Rollback(RollbackArguments),
    /// Let sequin.yaml decide again what a sink runs. Asks the engine.
    Release(ByHandArguments),
    /// Print who did what to versions and bindings, the newest first. Asks the engine.
    Audit {
        /// Before this one.
        #[arg(long, value_name = "ID")]
        below: Option<i64>,
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
    },
    /// Compile a component from standard input and tell what it says of itself; what the engine does
    /// with an upload.
    #[command(hide = true)]
    DescribeUpload,
}

#[derive(Debug, Args)]
pub(crate) struct PushArguments {
    /// The component.
    pub(crate) file: PathBuf,
    /// Its name, if it does not say it itself.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Its version, likewise.
    #[arg(long)]
    pub(crate) version: Option<String>,
    /// What is to be remembered of it.
    #[arg(long, default_value = "")]
    pub(crate) comment: String,
    /// Who pushes it; by default the user of this system.
    #[arg(long, value_name = "WHO")]
    pub(crate) by: Option<String>,
    /// A detached signature of the file, in base64, as `cosign sign-blob` writes it; repeatable. Else
    /// FILE.sig, if it is there.
    #[arg(long = "signature", value_name = "FILE")]
    pub(crate) signatures: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ByHandArguments {
    /// The name or the id of the sink.
    pub(crate) sink: String,
    /// Which of its chains; needed if it has several.
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: Option<RoleName>,
    /// Why; it is kept, and told with the hold.
    #[arg(long, default_value = "")]
    pub(crate) reason: String,
    /// Who; by default the user of this system.
    #[arg(long, value_name = "WHO")]
    pub(crate) by: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PromoteArguments {
    #[command(flatten)]
    pub(crate) by_hand: ByHandArguments,
    /// NAME@VERSION or sha256:…
    #[arg(long, value_name = "VERSION")]
    pub(crate) to: String,
    /// Which function of the chain; needed if it has several.
    #[arg(long, value_name = "NAME")]
    pub(crate) function: Option<String>,
    /// Another configuration, too, as JSON.
    #[arg(long, value_name = "JSON")]
    pub(crate) config: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArguments {
    #[command(flatten)]
    pub(crate) by_hand: ByHandArguments,
    /// The generation; without, the newest that was other than what runs.
    #[arg(long, value_name = "GENERATION")]
    pub(crate) to: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct NewArguments {
    /// The directory to make; its last part is the name of the plugin.
    pub(crate) path: PathBuf,
    /// What it is to do.
    #[arg(long, value_name = "ROLE", default_value = "transform")]
    pub(crate) role: RoleName,
    /// A copy of the SDK (sdk/rust in the repository of sequin) instead of the one in git.
    #[arg(long, value_name = "DIR")]
    pub(crate) sdk: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BuildArguments {
    /// The directory of the crate, with its Cargo.toml.
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// The component to write; by default NAME.wasm in the directory, with the name of the package.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArguments {
    /// The component.
    pub(crate) file: PathBuf,
    /// Do not start it, and read only what its bytes say.
    #[arg(long)]
    pub(crate) no_start: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PluginArguments {
    /// The component.
    pub(crate) file: PathBuf,
    /// Its configuration, as JSON.
    #[arg(long, value_name = "JSON", default_value = "{}", conflicts_with = "config_file")]
    pub(crate) config: String,
    /// A file with its configuration.
    #[arg(long, value_name = "FILE")]
    pub(crate) config_file: Option<PathBuf>,
    /// What it is run as; needed if it can be more than one thing (see `sequin plugin inspect`).
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: Option<RoleName>,
    /// The kind of sink that a router works for.
    #[arg(long, value_name = "KIND", default_value = "webhook")]
    pub(crate) sink: String,
}

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    pub(crate) plugin: PluginArguments,
    /// Tell at the end what the plugin used: calls, CPU time, fuel and memory.
    #[arg(long)]
    pub(crate) stats: bool,
    /// A file of messages, one a line; without, or with `-`, standard input.
    pub(crate) messages: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    #[command(flatten)]
    pub(crate) plugin: PluginArguments,
    /// A file of messages, one a line; without, or with `-`, standard input.
    pub(crate) messages: Option<PathBuf>,
    /// For each batch size.
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    pub(crate) seconds: f64,
    /// Rows of a call; repeatable.
    #[arg(long = "batch", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) batches: Vec<u16>,
}

/// What a plugin can be run as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleName {
    Filter,
    Route,
    Transform,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    /// The configuration. Else CONFIG_FILE_YAML (its text in base64) or CONFIG_FILE_PATH is.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct TailArguments {
    /// The database, e.g. postgres://user:password@host:5432/name; the role needs REPLICATION.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) database_url: String,
    /// This table only, as schema.table or table (in schema public); repeatable.
    #[arg(long = "table", value_name = "TABLE")]
    pub(crate) tables: Vec<TableName>,
    /// This action only; repeatable.
    #[arg(long = "action", value_name = "ACTION")]
    pub(crate) actions: Vec<Action>,
    /// A publication that exists. Without, one is made for the run and dropped at its end.
    #[arg(long, value_name = "NAME")]
    pub(crate) publication: Option<String>,
    /// A slot that exists: what is new since its confirmed position, confirmed as it is printed.
    /// Changes older than a publication cannot be decoded, so it takes one that exists too.
    #[arg(long, value_name = "NAME", requires = "publication")]
    pub(crate) slot: Option<String>,
    /// From now on, with a slot that ends with the run: what is done without --slot.
    #[arg(long, conflicts_with = "slot")]
    pub(crate) from_now: bool,
    /// End after so many seconds.
    #[arg(long, value_name = "N")]
    pub(crate) seconds: Option<u64>,
    /// End after so many messages. A slot stays before a transaction that was cut by it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Tell the types of the columns in each message (`metadata.columns`), for recorded messages
    /// that plugins are tested with.
    #[arg(long)]
    pub(crate) types: bool,
}

/// What happens to rows and tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Action {
    Insert,
    Update,
    Delete,
    Truncate,
}

/// A table by name, as it is in the catalog: not quoted, and upper case is upper case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableName {
    pub(crate) schema: String,
    pub(crate) table: String,
}

impl FromStr for TableName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (schema, table) = text.split_once('.').unwrap_or(("public", text));
        if schema.is_empty() || table.is_empty() || text.contains(['"', '\0']) {
            return Err("a table is schema.table, or table in schema public, without quotes");
        }
        Ok(Self { schema: schema.to_owned(), table: table.to_owned() })
    }
}

#[derive(Debug, Args)]
pub(crate) struct AcceptLossArguments {
    /// The slot's name on the server.
    pub(crate) slot: String,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct LettersArguments {
    #[command(subcommand)]
    pub(crate) command: Option<LettersCommand>,
    #[command(flatten)]
    pub(crate) list: LettersFilter,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LettersCommand {
    /// Print letters, one JSON object a line. Reads the data directory, also beside an engine.
    List(LettersFilter),
    /// Print one letter. Reads the data directory, also beside an engine.
    Show { id: i64 },
    /// Count letters by sink, state and reason, with what retention removed.
    Counts,
    /// Change what a replay of a letter sends; the original is kept beside it. Asks the engine.
    Edit(EditLetterArguments),
    /// Send letters again, each by its number. Asks the engine.
    Retry {
        #[arg(required = true)]
        ids: Vec<i64>,
    },
    /// Close letters that nobody needs. Asks the engine.
    Discard {
        #[arg(required = true)]
        ids: Vec<i64>,
        /// Why: it is kept with them.
        #[arg(long)]
        reason: String,
    },
    /// Send the open letters of a sink again, all that are like this. Asks the engine.
    Replay(ReplayLettersArguments),
}

#[derive(Debug, Args)]
pub(crate) struct EditLetterArguments {
    pub(crate) id: i64,
    /// The row's message as it came, as JSON; `-` is standard input.
    #[arg(long, value_name = "JSON", required_unless_present = "message")]
    pub(crate) input: Option<String>,
    /// What is to be sent, past the functions, as JSON; `-` is standard input.
    #[arg(long, value_name = "JSON", conflicts_with = "input")]
    pub(crate) message: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayLettersArguments {
    /// The sink, by its name or id.
    #[arg(long, value_name = "NAME")]
    pub(crate) sink: String,
    /// Only tell what would be sent.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// With this reason, e.g. plugin_trap.
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Of this table, as schema.table.
    #[arg(long)]
    pub(crate) table: Option<String>,
    /// With this text in input, message or error.
    #[arg(long)]
    pub(crate) text: Option<String>,
    /// Through another version of this function of the sink.
    #[arg(long, requires = "plugin")]
    pub(crate) function: Option<String>,
    /// The version: NAME@VERSION or sha256:… of the plugin directory.
    #[arg(long, requires = "function")]
    pub(crate) plugin: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LettersFilter {
    /// Of this sink only.
    #[arg(long, value_name = "NAME")]
    pub(crate) sink: Option<String>,
    /// open, superseded, replayed or discarded; without, what is open.
    #[arg(long)]
    pub(crate) state: Option<String>,
    /// With this reason, e.g. plugin_trap.
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Of this table, as schema.table.
    #[arg(long)]
    pub(crate) table: Option<String>,
    /// With this text in input, message or error.
    #[arg(long)]
    pub(crate) text: Option<String>,
    /// Behind this letter.
    #[arg(long, value_name = "ID", default_value_t = 0)]
    pub(crate) after: i64,
    /// At most so many.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// As JSON, which is the one form there is: for scripts that ask for it everywhere.
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_its_schema_or_is_public() {
        let name = |schema: &str, table: &str| {
            Ok(TableName { schema: schema.to_owned(), table: table.to_owned() })
        };
        assert_eq!("poi".parse(), name("public", "poi"));
        assert_eq!("Camp.poi.x".parse(), name("Camp", "poi.x"));
        for bad in ["", ".", "a.", ".b", "\"a\".b"] {
            assert!(bad.parse::<TableName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_url_of_the_environment_is_not_shown() {
        use clap::CommandFactory as _;
        let command = Cli::command();
        let tail = command.find_subcommand("tail").unwrap();
        let url = tail.get_arguments().find(|a| a.get_id() == "database_url").unwrap();
        assert!(url.is_hide_env_values_set());
    }
}
