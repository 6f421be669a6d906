//! `sequin plugin build`: from the crate of a plugin to a component.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use component::{Error, Module, TARGET};
use plugin::{Inspection, Limits};

use super::{inspect, project, usage};
use crate::Failure;
use crate::cli::BuildArguments;
use crate::settings::environment;

/// The crate that plugins in Rust are written with.
pub(super) const SDK: &str = "sequin-plugin";

pub(super) fn run(arguments: &BuildArguments) -> Result<(), Failure> {
    let dir = arguments
        .dir
        .canonicalize()
        .map_err(|error| usage(format_args!("{}: {error}", arguments.dir.display())))?;
    if dir.join(project::FILE).is_file() {
        return project::build(&dir, arguments.output.as_deref());
    }
    let (metadata, packages) =
        component::plugins(&mut Command::new("cargo"), &dir).map_err(failure)?;
    if let (Some(_), [_, _, ..]) = (&arguments.output, &packages[..]) {
        let names: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
        return Err(usage(format_args!(
            "--output is one file, and there are several plugins ({}): name the directory of one",
            names.join(", ")
        )));
    }
    let mut cargo = Command::new("cargo");
    // Beside the flags of the author's own configuration, which `RUSTFLAGS` would put out of force.
    let root = metadata.workspace_root.as_std_path();
    let home = cargo_home();
    let mut dirs: Vec<(&Path, &str)> = vec![(root, "plugin")];
    // Such as a copy of the SDK.
    let beside = packages.iter().flat_map(|package| &package.dependencies);
    let beside = beside.filter_map(|other| Some((other.path.as_ref()?, other.name.as_str())));
    dirs.extend(beside.map(|(path, name)| (path.as_std_path(), name)));
    dirs.extend(home.as_deref().map(|home| (home, "cargo")));
    let flags = component::remap_flags(dirs);
    let flags = serde_json::to_string(&flags).context("write the flags")?;
    cargo.arg("--config").arg(format!("target.{TARGET}.rustflags={flags}"));
    for module in component::modules(&mut cargo, &dir, &packages).map_err(failure)? {
        let name = module.package.name.as_str();
        let file = match &arguments.output {
            Some(file) => std::path::absolute(file).context("find the working directory")?,
            None => dir.join(format!("{name}.wasm")),
        };
        one(&module, root, &file)?;
    }
    Ok(())
}

/// Makes the component of one module. One that no host would take is not written.
fn one(module: &Module, root: &Path, file: &Path) -> Result<(), Failure> {
    let name = module.package.name.as_str();
    let bytes =
        std::fs::read(&module.file).with_context(|| format!("read the module of {name}"))?;
    let lock = root.join("Cargo.lock");
    let mut sources: Vec<&Path> = module.sources.iter().map(PathBuf::as_path).collect();
    sources.push(&lock);
    let revision = component::revision(root, &sources, &[file]);
    let component = component::encode(&bytes, &module.package, revision).map_err(failure)?;
    let found = check(module, &component)?;
    let written = component::write_if_changed(file, &component).map_err(failure)?;
    super::print(&told(file, written, &found))?;
    Ok(())
}

/// As `sequin plugin inspect`, which it must stand.
fn check(module: &Module, component: &[u8]) -> Result<Inspection, Failure> {
    let name = module.package.name.as_str();
    if let Err(error) = plugin::inspect(component, &Limits::default()) {
        let sdk = module.package.dependencies.iter().any(|dependency| dependency.name == SDK);
        return Err(match error {
            plugin::Error::NoRole { .. } if !sdk => usage(format_args!(
                "{name} is no plugin: it does not depend on {SDK}, and exports nothing of \
                 sequin:plugin (`sequin plugin new` begins one)"
            )),
            plugin::Error::NoRole { missing } => usage(format_args!(
                "{name} exports {missing}: export it with the macros of {SDK} (`filter!`, \
                 `transform!`, `route!`, or `export_filter!` and so on)"
            )),
            other => usage(format_args!("{name}: {other}")),
        });
    }
    let (_, found) = inspect::look(component, name, true)?;
    inspect::granted(&found)?;
    Ok(found)
}

pub(super) fn told(file: &Path, written: bool, found: &Inspection) -> String {
    let roles: Vec<&str> = found.roles.iter().map(|role| role.as_str()).collect();
    let text = |text: &Option<String>, otherwise: &str| {
        text.clone().unwrap_or_else(|| otherwise.to_owned())
    };
    format!(
        "{}{}\n  {} {}, {}, {} bytes\n  {}\n  revision {}\n",
        file.display(),
        if written { "" } else { " (unchanged)" },
        text(&found.name, ""),
        text(&found.version, ""),
        roles.join(", "),
        found.bytes,
        found.digest,
        text(&found.revision, "none: its sources are not, or not all, committed"),
    )
}

fn cargo_home() -> Option<PathBuf> {
    let default = || Some(PathBuf::from(environment("HOME")?).join(".cargo"));
    environment("CARGO_HOME").map(PathBuf::from).or_else(default)
}

/// What an author can do something about is no failure of ours.
pub(super) fn failure(error: Error) -> Failure {
    match error {
        Error::Io { .. } => Failure::Failed(error.into()),
        other => usage(other),
    }
}
