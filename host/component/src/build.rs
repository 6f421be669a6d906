//! Runs cargo.

use std::io::{BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cargo_metadata::{Message, Metadata, MetadataCommand, Package, PackageId, TargetKind};

use crate::error::Error;

/// What plugins are built for: nothing of the operating system is there to be used.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// A module that cargo built.
#[derive(Clone, Debug)]
pub struct Module {
    /// The package that it is of.
    pub package: Package,
    /// The file.
    pub file: PathBuf,
    /// The directories of the packages on this machine that were built on the way: what the module
    /// is made of beside what comes from registries. They may be of other modules too.
    pub sources: Vec<PathBuf>,
}

/// The workspace of the crate in this directory, and of its packages those that are plugins: the
/// crate itself, or all members if the directory holds no more than a workspace. `cargo` is a
/// command without arguments.
///
/// # Errors
/// If there is no cargo, no manifest that it can read, or no plugin.
pub fn plugins(cargo: &mut Command, dir: &Path) -> Result<(Metadata, Vec<Package>), Error> {
    let manifest = dir.join("Cargo.toml");
    if !manifest.is_file() {
        return Err(Error::NoManifest { dir: dir.to_path_buf() });
    }
    let arguments = ["metadata", "--no-deps", "--format-version=1"];
    let output = cargo.current_dir(dir).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(no_cargo)?;
    let unreadable = |reason: String| Error::Manifest { dir: dir.to_path_buf(), reason };
    if !output.status.success() {
        return Err(unreadable(String::from_utf8_lossy(&output.stderr).trim_end().to_owned()));
    }
    let metadata = MetadataCommand::parse(String::from_utf8_lossy(&output.stdout));
    let metadata = metadata.map_err(|error| unreadable(error.to_string()))?;
    let manifest = manifest.canonicalize().unwrap_or(manifest);
    let own = |package: &&Package| package.manifest_path.as_std_path() == manifest;
    let mut packages: Vec<Package> = match metadata.packages.iter().find(own) {
        Some(package) => vec![package.clone()],
        None => metadata.packages.clone(),
    };
    packages.retain(|package| package.targets.iter().any(|target| is_module(&target.kind)));
    if packages.is_empty() {
        return Err(Error::NoCdylib { dir: dir.to_path_buf() });
    }
    Ok((metadata, packages))
}

/// Builds these packages of the workspace in this directory, optimised, and says what was made, by
/// name. What cargo says meanwhile goes to standard error. `cargo` is a command that may have options
/// of cargo's own.
///
/// # Errors
/// If it does not build.
pub fn modules(
    cargo: &mut Command,
    dir: &Path,
    packages: &[Package],
) -> Result<Vec<Module>, Error> {
    cargo
        .current_dir(dir)
        .args(["build", "--release", "--target", TARGET])
        .arg("--message-format=json-render-diagnostics")
        .args(packages.iter().flat_map(|package| ["--package", package.id.repr.as_str()]))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = cargo.spawn().map_err(no_cargo)?;
    let made = made(&mut child, packages);
    let status = child.wait().map_err(Error::io("wait for cargo"))?;
    let modules = made?;
    if !status.success() {
        let installed = has_target(dir);
        let dir = dir.to_path_buf();
        return Err(if installed { Error::Build { dir } } else { Error::NoTarget });
    }
    Ok(modules)
}

fn made(child: &mut Child, packages: &[Package]) -> Result<Vec<Module>, Error> {
    let Some(stdout) = child.stdout.take() else { return Ok(Vec::new()) };
    let mut modules = Vec::new();
    let mut sources: Vec<PathBuf> = Vec::new();
    for message in Message::parse_stream(BufReader::new(stdout)) {
        let message = message.map_err(Error::io("read what cargo says"))?;
        let Message::CompilerArtifact(artifact) = message else { continue };
        if is_here(&artifact.package_id)
            && let Some(source) = artifact.manifest_path.parent()
            && !sources.iter().any(|known| known == source.as_std_path())
        {
            sources.push(source.as_std_path().to_path_buf());
        }
        // Dependencies may make a module too.
        let package = packages.iter().find(|package| package.id == artifact.package_id);
        let file = artifact.filenames.iter().find(|file| file.extension() == Some("wasm"));
        if is_module(&artifact.target.kind)
            && let (Some(package), Some(file)) = (package, file)
        {
            let file = file.as_std_path().to_path_buf();
            modules.push(Module { package: package.clone(), file, sources: Vec::new() });
        }
    }
    for module in &mut modules {
        module.sources.clone_from(&sources);
    }
    modules.sort_by(|a, b| a.package.name.cmp(&b.package.name));
    Ok(modules)
}

/// Flags that take this machine's paths out of modules, where panic messages hold them: what each
/// directory is called instead.
pub fn remap_flags<'a>(dirs: impl IntoIterator<Item = (&'a Path, &'a str)>) -> Vec<String> {
    let flag =
        |(dir, name): (&Path, &str)| format!("--remap-path-prefix={}=/{name}", dir.display());
    dirs.into_iter().map(flag).collect()
}

fn is_module(kinds: &[TargetKind]) -> bool {
    kinds.contains(&TargetKind::CDyLib)
}

/// Whether a package is a directory of this machine, and not from a registry or from git.
fn is_here(package: &PackageId) -> bool {
    package.repr.starts_with("path+file://")
}

/// Whether the standard library of the target is installed, for the compiler that cargo uses there.
/// If that cannot be found out, it is not what is wrong.
fn has_target(dir: &Path) -> bool {
    let mut rustc = Command::new("rustc");
    rustc.current_dir(dir).args(["--print", "target-libdir", "--target", TARGET]);
    match rustc.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => {
            Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
        }
        Ok(_) | Err(_) => true,
    }
}

fn no_cargo(error: std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => Error::NoCargo,
        _ => Error::io("start cargo")(error),
    }
}
