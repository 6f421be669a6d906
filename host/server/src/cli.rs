//! The command line.

mod change_retention;
pub(crate) mod configs;
mod plugin;
pub(crate) mod rollouts;
pub(crate) mod versions;

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};

use configs::{ApplyArguments, BundleCommand, DriftArguments, ExportArguments, PlanArguments};

pub(crate) use change_retention::{ChangeRetentionCommand, DdlArguments};
pub(crate) use plugin::{
    BenchArguments, BuildArguments, DevArguments, InspectArguments, Language, NewArguments,
    PluginArguments, PluginCommand, RecordArguments, RoleName, RunArguments, TestArguments,
};

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
    /// Look at a sequin.yaml; plan and apply it to an engine.
    ///
    /// An engine is asked where SEQUIN_URL says, else on this machine, with SEQUIN_API_TOKEN.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// A configuration and the components that it names as one file.
    #[command(subcommand)]
    Bundle(BundleCommand),
    /// Look at the sinks of an engine; let one wait, or go on.
    #[command(subcommand)]
    Sink(SinkCommand),
    /// Look at the change retentions of an engine; let one wait, or go on.
    #[command(subcommand)]
    ChangeRetention(ChangeRetentionCommand),
    /// Print what a shell completes commands with.
    ///
    /// For bash: `source <(sequin completions bash)`.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Tokens of the API, each for what its scopes say.
    #[command(subcommand)]
    Token(TokenCommand),
    /// The source databases of an engine.
    #[command(subcommand)]
    Database(DatabaseCommand),
    /// Messages that a sink has tried in vain and tries again.
    #[command(subcommand)]
    Messages(MessagesCommand),
    /// Engines by names: which one commands ask where SEQUIN_URL is not set.
    #[command(subcommand)]
    Context(ContextCommand),
    /// Look whether sources, tables, components and destinations of a configuration are as they must be.
    ///
    /// It reads, and creates and sends nothing. Exit status: 0 the engine can run it, 1 it cannot, 64 the
    /// configuration is wrong.
    Doctor(DoctorArguments),
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArguments {
    /// The configuration.
    #[arg(default_value = "sequin.yaml", env = "CONFIG_FILE_PATH")]
    pub(crate) file: PathBuf,
    /// Tell it as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make one; it is printed once.
    Create {
        /// What it is called.
        name: String,
        /// read, config, plugins, messages or admin; repeatable. Else all but admin.
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// What it is for: `sink:poi-*`, or a name of any kind; repeatable. Else everything.
        #[arg(long = "resource", value_name = "PATTERN")]
        resources: Vec<String>,
        /// After so many days it is refused.
        #[arg(long, value_name = "N")]
        days: Option<u32>,
    },
    /// Print them, one JSON object a line, without themselves.
    List,
    /// End one.
    Revoke {
        /// Its name or id.
        token: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// Print them, one JSON object a line, without tokens.
    List,
    /// Remember an engine. Where its token is, is said by one of the options; else SEQUIN_API_TOKEN counts.
    Add {
        /// What it is called.
        name: String,
        /// Where it is: https://sequin.example.com
        url: String,
        /// The variable of the environment that has its token.
        #[arg(long, value_name = "NAME", group = "token")]
        token_env: Option<String>,
        /// The file that has its token.
        #[arg(long, value_name = "FILE", group = "token")]
        token_file: Option<PathBuf>,
        /// Read its token from standard input, and keep it.
        #[arg(long, group = "token")]
        token_stdin: bool,
    },
    /// Ask this one from now on. SEQUIN_CONTEXT says another one for a command.
    Use {
        /// What it is called.
        name: String,
    },
    /// Forget one.
    Remove {
        /// What it is called.
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DatabaseCommand {
    /// Print them.
    List {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Print one, with its health, as JSON.
    Show {
        /// Its name or id.
        database: String,
    },
    /// Let the engine look whether it can read from it, part by part.
    ///
    /// Exit status: 0 it can, 1 it cannot.
    Test {
        /// Its name or id.
        database: String,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print its tables.
    Tables {
        /// Its name or id.
        database: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum MessagesCommand {
    /// Print them, one JSON object a line, the oldest first.
    List {
        /// The sink's name or id.
        sink: String,
    },
    /// Print one, with what is to be sent.
    Show {
        /// The sink's name or id.
        sink: String,
        /// Its id, or the number of a letter.
        message: String,
    },
    /// Send something else instead of one, now. Of a letter it is kept for its replay.
    Edit(EditMessageArguments),
    /// Send again what was put aside, all that is like this: as `letters replay`.
    Replay(ReplayLettersArguments),
    /// Try one now, or all of a sink.
    Retry {
        /// The sink's name or id.
        sink: String,
        /// Its id.
        message: Option<String>,
    },
    /// Put one aside as a letter, which is closed: it is not tried again.
    Discard {
        /// The sink's name or id.
        sink: String,
        /// Its id.
        message: String,
        /// Why; it is kept.
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SinkCommand {
    /// Print them.
    List {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Print one, with its health, as JSON.
    Show {
        /// Its name or id.
        sink: String,
    },
    /// Let it collect what comes and send nothing.
    Pause {
        /// Its name or id.
        sink: String,
    },
    /// Let it go on, also one that has stopped itself.
    Resume {
        /// Its name or id.
        sink: String,
    },
    /// Tell whether its destination can be reached and would take messages; nothing is sent.
    Test {
        /// Its name or id.
        sink: String,
    },
    /// Show what passes through it: rows, messages, requests and answers, one JSON object a line.
    Tail {
        /// Its name or id.
        sink: String,
        /// So many rows, 1000 at most.
        #[arg(long, value_name = "N", default_value_t = 100)]
        rows: u32,
        /// So long at most.
        #[arg(long, value_name = "N", default_value_t = 300)]
        seconds: u32,
    },
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
    /// Tell what an apply would do to the engine; nothing is written.
    Plan(PlanArguments),
    /// Make the engine run it: after a plan and a yes.
    ///
    /// What it names beside itself (components, SQL) is sent with it, and variables of the environment are
    /// filled in here. All of it is checked before anything is touched. What the engine runs and the file
    /// does not name stays, unless it is pruned.
    Apply(ApplyArguments),
    /// Print what the engine runs.
    Export(ExportArguments),
    /// Tell what the engine runs otherwise than its own file says.
    Drift(DriftArguments),
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
pub(crate) struct EditMessageArguments {
    /// The sink's name or id.
    pub(crate) sink: String,
    /// Its id, or the number of a letter.
    #[arg(value_name = "MESSAGE")]
    pub(crate) which: String,
    #[command(flatten)]
    pub(crate) instead: Instead,
}

#[derive(Debug, Args)]
pub(crate) struct EditLetterArguments {
    pub(crate) id: i64,
    #[command(flatten)]
    pub(crate) instead: Instead,
}

/// What is to be sent instead.
#[derive(Debug, Args)]
pub(crate) struct Instead {
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
