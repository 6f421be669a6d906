//! `sequin plugin` on the command line.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{rollouts, versions};

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Begin a plugin in a directory of its own: with a test, fixtures and a workflow for CI.
    New(NewArguments),
    /// Build a plugin to a component, and tell what it is.
    ///
    /// Of a crate it runs cargo, optimised, for wasm32-unknown-unknown; of a workspace all plugins are
    /// built. In a directory with a plugin.json it runs the tools of its language: jco for JavaScript
    /// and TypeScript, componentize-py for Python, zig or a WASI SDK for C.
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
    /// Run a plugin over its fixtures, and compare what it makes of them with what is expected.
    ///
    /// A fixture is a directory with messages.jsonl, outcomes.jsonl (as `sequin plugin run` prints
    /// them), and if need be config.json, fixture.json (`role`, `sink`) and outside.json, which says
    /// what answers for what the plugin wants granted: `clock` (microseconds since 1970), `random` (a
    /// number that the bytes are made from), `secrets`, `kv`, `http` (`method`, `url`, `status`,
    /// `headers`, `body`, or a `failure`), `lookup` (rows by table). What is not in it is not granted.
    ///
    /// Each fixture is also run one by one, in other batches and in another order: an outcome that
    /// differs then depends on state that the plugin keeps, which makes it another one after a
    /// restart.
    ///
    /// Exit status: 0 all is as expected, 1 something differs, 2 it cannot be tested: no component,
    /// no fixtures, a configuration that is refused.
    Test(TestArguments),
    /// Record the next rows that a sink's functions are asked about: the input of fixtures.
    ///
    /// It asks the engine on this machine, where `sequin serve` would listen with the same
    /// SERVER_PORT and SEQUIN_BIND, with SEQUIN_API_TOKEN if that is set. The sink goes on as it does.
    /// With rules, what they forbid never leaves the engine: null, hash (another value, the same for
    /// the same one), fake (the same shape) per column of `schema.table`, or of `*` for all others:
    /// {"public.users": {"email": "hash", "name": "fake"}}. Enrichment and annotations of such tables
    /// go too, but for "@enrichment": "keep".
    ///
    /// Exit status: 0 some were recorded, 1 none came, 64 something given is wrong.
    Record(RecordArguments),
    /// Build a plugin and run it over its fixtures whenever a file of it is saved, until Ctrl-C.
    ///
    /// With --sink it records messages of a sink of the engine on this machine once, and shows after
    /// each build what becomes of them otherwise than with the build before.
    Dev(DevArguments),
    /// Measure a plugin over messages of one table.
    ///
    /// With --base it is compared with another version over the same messages: by fuel, which is the
    /// same on every machine, and by the bytes that go on.
    ///
    /// Exit status: 0, or with --base 1 if a message costs more than it may, 2 if there is no such
    /// base; 64 something given is wrong.
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
    Push(versions::PushArguments),
    /// Put a component into an OCI registry or image layout, as all tools of WebAssembly keep them.
    ///
    /// The registry is asked as who `docker login` left behind, or as SEQUIN_REGISTRY_USERNAME with
    /// SEQUIN_REGISTRY_PASSWORD. A signature beside the file, FILE.sig, goes with it. Prints what
    /// `plugins.versions` of sequin.yaml needs to name it.
    Publish(versions::PublishArguments),
    /// Fetch a component from an OCI registry or image layout.
    Pull(versions::PullArguments),
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
    Promote(versions::PromoteArguments),
    /// Let a sink run again what it ran before, and hold it there. Asks the engine.
    Rollback(versions::RollbackArguments),
    /// Let sequin.yaml decide again what a sink runs. Asks the engine.
    Release(versions::ByHandArguments),
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
pub(crate) struct NewArguments {
    /// The directory to make; its last part is the name of the plugin.
    pub(crate) path: PathBuf,
    /// What it is to do.
    #[arg(long, value_name = "ROLE", default_value = "transform")]
    pub(crate) role: RoleName,
    /// In which language.
    #[arg(long, value_name = "LANGUAGE", default_value = "rust")]
    pub(crate) lang: Language,
    /// For Rust, a copy of the SDK (sdk/rust in the repository of sequin) instead of the one in git.
    #[arg(long, value_name = "DIR")]
    pub(crate) sdk: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BuildArguments {
    /// The directory of the plugin, with its Cargo.toml or plugin.json.
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

#[derive(Clone, Debug, Args)]
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
    /// A file that says what answers for what it wants granted, as outside.json of a fixture:
    /// nothing outside is asked here.
    #[arg(long, value_name = "FILE")]
    pub(crate) outside: Option<PathBuf>,
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
    /// A version to compare with: a file, or NAME@VERSION of the plugin directory
    /// (SEQUIN_PLUGIN_DIR, else `plugins`).
    #[arg(long, value_name = "FILE|NAME@VERSION")]
    pub(crate) base: Option<String>,
    /// How much more than the base a message may cost.
    #[arg(long, value_name = "PERCENT", default_value = "10%", value_parser = crate::plugin::gate::percent, requires = "base")]
    pub(crate) max_regression: f64,
}

#[derive(Debug, Args)]
pub(crate) struct DevArguments {
    /// The directory of the plugin.
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// A sink of which messages are recorded to show differences with: its name or id.
    #[arg(long, value_name = "SINK")]
    pub(crate) sink: Option<String>,
    /// So many messages of it.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) count: u64,
    /// A file with rules for what is not to be recorded, see `sequin plugin record`.
    #[arg(long, value_name = "FILE")]
    pub(crate) scrub: Option<PathBuf>,
    /// The configuration for the recorded messages; by default that of the first fixture.
    #[arg(long, value_name = "FILE")]
    pub(crate) config_file: Option<PathBuf>,
}

/// What a plugin can be run as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RoleName {
    Filter,
    Route,
    Transform,
}

impl RoleName {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Route => "route",
            Self::Transform => "transform",
        }
    }
}

/// What plugins are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Language {
    Rust,
    Js,
    Ts,
    Python,
    C,
}

impl Language {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Js => "js",
            Self::Ts => "ts",
            Self::Python => "python",
            Self::C => "c",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct RecordArguments {
    /// The name or the id of the sink.
    pub(crate) sink: String,
    /// So many messages.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) count: u64,
    /// End after so many seconds with what there is.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) seconds: u64,
    /// The file to write; without, standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// A file with rules for what is not to be recorded.
    #[arg(long, value_name = "FILE")]
    pub(crate) scrub: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct TestArguments {
    /// The component, or the directory of a project that holds one.
    #[arg(default_value = ".")]
    pub(crate) path: PathBuf,
    /// A fixture, or a directory of them; by default `fixtures` beside the component.
    #[arg(long, value_name = "DIR")]
    pub(crate) fixtures: Option<PathBuf>,
    /// Write what the plugin makes of the messages as what is expected from now on.
    #[arg(long)]
    pub(crate) update: bool,
    /// Tell it as JSON, on standard output.
    #[arg(long)]
    pub(crate) json: bool,
    /// What it is run as, in fixtures that do not say; needed if it can be more than one thing.
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: Option<RoleName>,
}
