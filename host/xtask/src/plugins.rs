//! `cargo x plugins`: builds `plugins/` and turns each crate into a component.
//!
//! Guarantees that a component's file is written only if its bytes changed, so that nothing which
//! embeds or watches it is disturbed, and that what is written is a valid component. The hostile
//! ones and those of the conformance suite are kept apart from those a user would run. Knows nothing
//! of worlds or roles: a plugin that no host can use is found by the tests.
//!
//! A component says what it is in the custom sections that all tools know (`wasm-tools metadata
//! show`): name, version, description, licence, and as its revision the commit of its sources. That
//! is the last commit that touched what it is built of, and not the one that is checked out, because
//! the revision is part of the digest: a commit to anything else must not look like a new plugin.
//! With changes that are not committed, or in a shallow clone, which does not know when a file was
//! last touched, there is no revision rather than a wrong one.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use cargo_metadata::{Artifact, Message, Metadata, Package, TargetKind};
use sha2::{Digest as _, Sha256};
use wasm_metadata::{AddMetadata, AddMetadataField, Description, Licenses, Revision, Version};
use wit_component::ComponentEncoder;

use crate::services::hex;
use crate::{command, env, repository};

/// What plugins are built for: nothing of the operating system is there to be used.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// What every plugin is built of, beside its own sources.
const SHARED_SOURCES: [&str; 4] = ["sdk/rust", "wit", "plugins/Cargo.toml", "plugins/Cargo.lock"];

/// Directories of plugins for tests.
const APART: [&str; 2] = ["bad", CONFORMANCE];

/// Those of the conformance suite.
pub(crate) const CONFORMANCE: &str = "conformance";

pub(crate) fn build() -> anyhow::Result<()> {
    let dir = repository::root().join("plugins");
    let metadata = repository::metadata(&dir)?;
    let mut modules = modules(&dir)?;
    modules.sort_by(|a, b| a.target.name.cmp(&b.target.name));
    ensure!(!modules.is_empty(), "no crate below {} makes a module", dir.display());
    for artifact in modules {
        write_component(&dir, &metadata, &artifact)?;
    }
    Ok(())
}

/// Builds the workspace; what cargo says it made.
fn modules(dir: &Path) -> anyhow::Result<Vec<Artifact>> {
    let mut cargo = command::cargo(dir);
    cargo
        .args(["build", "--quiet", "--release", "--workspace", "--target", TARGET])
        .arg("--message-format=json-render-diagnostics")
        .env("CARGO_ENCODED_RUSTFLAGS", remap_flags())
        .stdout(Stdio::piped());
    let mut child = cargo.spawn().context("start cargo")?;
    let stdout = child.stdout.take().context("read from cargo")?;
    let mut modules = Vec::new();
    for message in Message::parse_stream(std::io::BufReader::new(stdout)) {
        if let Message::CompilerArtifact(artifact) = message.context("read cargo's messages")?
            && artifact.target.kind.contains(&TargetKind::CDyLib)
        {
            modules.push(artifact);
        }
    }
    let status = child.wait().context("wait for cargo")?;
    ensure!(status.success(), "the plugins do not build");
    Ok(modules)
}

/// Flags that take this machine's paths out of the components (panic messages hold them), so that
/// the same sources give the same digest everywhere. Separated as cargo wants it.
fn remap_flags() -> String {
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let root = remap(repository::root(), "/sequin");
    let cargo = env::cargo_home().map(|home| remap(&home, "/cargo"));
    [Some(root), cargo].into_iter().flatten().collect::<Vec<_>>().join("\u{1f}")
}

fn write_component(dir: &Path, metadata: &Metadata, artifact: &Artifact) -> anyhow::Result<()> {
    // Dependencies may make a cdylib too; only members are plugins.
    let Some(package) = metadata.packages.iter().find(|package| package.id == artifact.package_id)
    else {
        return Ok(());
    };
    let name = package.name.as_str();
    let module = artifact
        .filenames
        .iter()
        .find(|file| file.extension() == Some("wasm"))
        .with_context(|| format!("find the module of {name}"))?;
    let manifest = package.manifest_path.as_std_path();
    let apart = APART.into_iter().find(|apart| manifest.starts_with(dir.join(apart)));
    // Those are released to nobody.
    let revision = if apart.is_some() { None } else { revision(package) };
    let component = encode(module.as_std_path(), package, revision)
        .with_context(|| format!("make a component of {name}"))?;
    let file = component_file(dir, apart, name);
    let state = if write_if_changed(&file, &component)? { "written" } else { "unchanged" };
    let digest = hex(&Sha256::digest(&component));
    println!("{name:24} {:>9} bytes  {digest}  {state}", component.len());
    Ok(())
}

fn encode(module: &Path, package: &Package, revision: Option<String>) -> anyhow::Result<Vec<u8>> {
    let module = std::fs::read(module).context("read the module")?;
    let component = ComponentEncoder::default().validate(true).module(&module)?.encode()?;
    let mut metadata = AddMetadata::default();
    metadata.name = AddMetadataField::Set(package.name.to_string());
    metadata.version = AddMetadataField::Set(Version::new(package.version.to_string()));
    if let Some(description) = &package.description {
        metadata.description = AddMetadataField::Set(Description::new(description.clone()));
    }
    if let Some(license) = &package.license {
        metadata.licenses = AddMetadataField::Set(Licenses::new(license)?);
    }
    if let Some(revision) = revision {
        metadata.revision = AddMetadataField::Set(Revision::new(revision));
    }
    metadata.to_wasm(&component).context("add the metadata")
}

/// The last commit that touched what the plugin is built of: its own sources, the SDK, the contract,
/// the versions of everything else. None without git, or if there is no such commit.
fn revision(package: &Package) -> Option<String> {
    let plugin = package.manifest_path.parent()?;
    let git = |arguments: &[&str], of_sources: bool| {
        let mut git = Command::new("git");
        git.current_dir(repository::root()).args(arguments);
        if of_sources {
            git.arg("--").arg(plugin).args(SHARED_SOURCES);
        }
        command::output(&mut git).ok().map(|output| output.trim().to_owned())
    };
    let clean = git(&["status", "--porcelain"], true)?.is_empty();
    let whole = git(&["rev-parse", "--is-shallow-repository"], false)? == "false";
    let commit = git(&["log", "-1", "--format=%H"], true)?;
    (clean && whole && !commit.is_empty()).then_some(commit)
}

/// Where the component of a plugin lies. `apart` is the directory of those that only tests use.
pub(crate) fn component_file(dir: &Path, apart: Option<&str>, name: &str) -> PathBuf {
    let dir = apart.map_or_else(|| dir.to_path_buf(), |apart| dir.join("target").join(apart));
    dir.join(format!("{name}.wasm"))
}

pub(crate) fn write_if_changed(file: &Path, bytes: &[u8]) -> anyhow::Result<bool> {
    if std::fs::read(file).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    let dir = file.parent().context("a component lies in a directory")?;
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    // Renamed into place: who watches the file never sees half of it.
    let mut temporary = tempfile::NamedTempFile::new_in(dir)?;
    std::io::Write::write_all(&mut temporary, bytes)?;
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    temporary.as_file().set_permissions(readable)?;
    temporary.persist(file).with_context(|| format!("write {}", file.display()))?;
    Ok(true)
}
