//! `sequin plugin`: looks into components, and runs them over recorded messages in the sandbox that
//! the engine runs them in.

mod bench;
mod build;
mod dev;
pub(crate) mod gate;
mod inspect;
mod lines;
mod new;
mod project;
pub(crate) mod push;
mod record;
mod registry;
mod rollouts;
mod run;
mod test;

pub(crate) use inspect::told;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use model::plugin::Plugin;
use plugin::trial::Outside;
use plugin::{Host, Limits, Program, Role};

use crate::cli::{PluginArguments, PluginCommand, RoleName};
use crate::settings::{Settings, environment};
use crate::{Failure, telemetry};

pub(crate) fn run(command: &PluginCommand) -> Result<(), Failure> {
    // Lines of the guest are of interest here; of the host, only what is wrong.
    let quiet = |name: &str| {
        environment(name).or_else(|| (name == "LOG_LEVEL").then(|| "warn,plugin=info".to_owned()))
    };
    let mut settings = Settings::read(&quiet).map_err(Failure::Usage)?;
    telemetry::start(&mut settings);
    match command {
        PluginCommand::New(arguments) => new::run(arguments),
        PluginCommand::Build(arguments) => build::run(arguments),
        PluginCommand::Inspect(arguments) => inspect::run(arguments),
        PluginCommand::Run(arguments) => run::run(arguments),
        PluginCommand::Record(arguments) => record::run(arguments),
        PluginCommand::Dev(arguments) => dev::run(arguments),
        PluginCommand::Test(arguments) => test::run(arguments),
        PluginCommand::Bench(arguments) => bench::run(arguments),
        PluginCommand::Rollout(command) => rollouts::run(command),
        PluginCommand::Top(arguments) => rollouts::top(arguments),
        PluginCommand::Push(arguments) => push::push(arguments),
        PluginCommand::Publish(arguments) => registry::publish(arguments),
        PluginCommand::Pull(arguments) => registry::pull(arguments),
        PluginCommand::List => push::list(),
        PluginCommand::Show { version } => push::show(version),
        PluginCommand::Delete { version } => push::delete(version),
        PluginCommand::Collect => push::collect(),
        PluginCommand::Bindings => push::bindings(),
        PluginCommand::History { sink } => push::history(sink),
        PluginCommand::Promote(arguments) => push::promote(arguments),
        PluginCommand::Rollback(arguments) => push::rollback(arguments),
        PluginCommand::Release(by_hand) => push::release(by_hand),
        PluginCommand::Audit { below, limit } => push::audit(*below, *limit),
        PluginCommand::DescribeUpload => crate::platform::upload::run(&settings),
    }
}

/// A plugin that is ready to run.
struct Ready {
    host: Host,
    program: Arc<Program>,
    plugin: Arc<dyn Plugin>,
    role: Role,
}

impl Ready {
    fn new(arguments: &PluginArguments, limits: Limits) -> Result<Self, Failure> {
        let host = host(limits)?;
        let program = host.load(&read(&arguments.file)?).map_err(usage)?;
        let role = role(&program, arguments.role)?;
        let config = config(arguments)?;
        let name = arguments.file.file_stem().unwrap_or_default().to_string_lossy();
        let outside = arguments.outside.as_deref().map(Outside::read).transpose();
        let grants = outside.map_err(usage)?.unwrap_or_default().grants();
        let sink = &*arguments.sink;
        let bound = host.bind_granted(&name, &program, role, sink, &config, grants);
        let plugin = bound.map_err(|error| unbound(&error, "`--outside FILE`"))?.plugin;
        Ok(Self { host, program, plugin, role })
    }
}

/// A host that keeps what it compiled in the user's cache: a component with an interpreter takes
/// seconds to compile, and commands are called again and again.
fn host(limits: Limits) -> Result<Host, Failure> {
    let fresh = |limits| Host::new(limits).context("start the plugin host");
    let home = || Some(PathBuf::from(environment("HOME")?).join(".cache"));
    let Some(cache) = environment("XDG_CACHE_HOME").map(PathBuf::from).or_else(home) else {
        return Ok(fresh(limits)?);
    };
    match fresh(limits.clone())?.with_cache(&cache.join("sequin/compiled-plugins")) {
        Ok(host) => Ok(host),
        Err(error) => {
            tracing::debug!(%error, "compiled each time");
            Ok(fresh(limits)?)
        }
    }
}

/// What the plugin says of a configuration begins with its field; that it is JSON is said here, with
/// the file.
fn config(arguments: &PluginArguments) -> Result<String, Failure> {
    let (name, text) = match &arguments.config_file {
        None => ("--config".to_owned(), arguments.config.clone()),
        Some(file) => {
            let text = std::fs::read_to_string(file);
            let name = file.display().to_string();
            (name.clone(), text.map_err(|error| usage(format_args!("{name}: {error}")))?)
        }
    };
    match serde_json::from_str::<&serde_json::value::RawValue>(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(usage(format_args!("{name} is no JSON: {error}"))),
    }
}

fn role(program: &Program, asked: Option<RoleName>) -> Result<Role, Failure> {
    if let Some(asked) = asked {
        return Ok(match asked {
            RoleName::Filter => Role::Filter,
            RoleName::Route => Role::Route,
            RoleName::Transform => Role::Transform,
        });
    }
    let roles: Vec<Role> = program.roles().collect();
    match roles[..] {
        [role] => Ok(role),
        _ => {
            let names: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
            Err(usage(format_args!(
                "the plugin can be {}: choose with --role {}",
                names.join(" and "),
                names.join("|")
            )))
        }
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|error| usage(format_args!("{}: {error}", file.display())))
}

/// Writes to standard output; false if whoever read it has enough.
pub(crate) fn print(text: &str) -> anyhow::Result<bool> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("write to standard output"),
    }
}

/// Here nothing outside answers but what a file says.
fn unbound(error: &plugin::Error, file: &str) -> Failure {
    match error {
        plugin::Error::Capabilities { .. } => {
            usage(format_args!("{error}\nhint: here {file} says what answers for it"))
        }
        _ => usage(error),
    }
}

pub(crate) fn usage(error: impl std::fmt::Display) -> Failure {
    Failure::Usage(format!("error: {error}"))
}
