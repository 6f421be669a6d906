//! Where things are in this repository.

use std::collections::BTreeSet;
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
    let json =
        command::output(command::cargo(dir).args(["metadata", "--no-deps", "--format-version=1"]))?;
    MetadataCommand::parse(json).with_context(|| format!("read the metadata of {}", dir.display()))
}

/// The engine's executable, as built by cargo under the profile whose directory this is.
pub(crate) fn binary(profile: &str, name: &str) -> anyhow::Result<PathBuf> {
    let target = metadata(root())?.target_directory.into_std_path_buf();
    Ok(target.join(profile).join(name))
}

/// The roots of the cargo workspaces besides the main one: the plugins, the guest SDKs, each once,
/// whichever of them is a member of the other's.
pub(crate) fn guest_workspaces() -> anyhow::Result<BTreeSet<PathBuf>> {
    let mut dirs = vec![root().join("plugins")];
    for entry in root().join("sdk").read_dir().context("list sdk/")? {
        dirs.push(entry?.path());
    }
    dirs.retain(|dir| dir.join("Cargo.toml").is_file());
    dirs.iter().map(|dir| Ok(metadata(dir)?.workspace_root.into_std_path_buf())).collect()
}
