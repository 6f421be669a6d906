//! Where things are in this repository.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cargo_metadata::{Metadata, MetadataCommand};

use crate::command;

/// The root of the clone.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// The packages of the cargo workspace in `dir` (not their dependencies), and its target directory.
pub(crate) fn metadata(dir: &Path) -> anyhow::Result<Metadata> {
    let json = command::output(command::cargo(dir).args([
        "metadata",
        "--no-deps",
        "--format-version=1",
    ]))?;
    MetadataCommand::parse(json).with_context(|| format!("read the metadata of {}", dir.display()))
}

/// The engine's executable, as built by cargo under the profile whose directory this is.
pub(crate) fn binary(profile: &str, name: &str) -> anyhow::Result<PathBuf> {
    let target = metadata(root())?.target_directory.into_std_path_buf();
    Ok(target.join(profile).join(name))
}

/// The cargo workspaces besides the main one: the plugins and the guest SDKs.
pub(crate) fn guest_workspaces() -> anyhow::Result<Vec<PathBuf>> {
    let mut found = vec![root().join("plugins")];
    let sdk = root().join("sdk");
    if sdk.is_dir() {
        for entry in sdk.read_dir().context("list sdk/")? {
            found.push(entry?.path());
        }
    }
    found.retain(|dir| dir.join("Cargo.toml").is_file());
    found.sort();
    Ok(found)
}
