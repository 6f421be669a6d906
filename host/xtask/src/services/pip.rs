//! Python packages: through pip, into a directory of ours. The system's Python is left as it is.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::{cache, packages};
use crate::command;

/// Finds pip or installs it; `what` is what would be missing, and how else to have it.
pub(super) fn ensure(what: &str) -> anyhow::Result<()> {
    if command::succeeds(pip().arg("--version")) {
        return Ok(());
    }
    if packages::available() {
        return packages::install(&["python3", "python3-pip"]);
    }
    bail!("{what} comes through pip: install the package `python3-pip`")
}

/// Pip itself.
pub(super) fn pip() -> Command {
    let mut command = Command::new("python3");
    command.args(["-m", "pip"]);
    command
}

/// Unpacks one package, without those it wants, into the cache, and returns where. A later run finds
/// it there.
pub(super) fn unpacked(requirement: &str) -> anyhow::Result<PathBuf> {
    let dir = cache::dir("python")?.join(requirement);
    if dir.is_dir() {
        return Ok(dir);
    }
    ensure(requirement)?;
    println!("downloading {requirement}");
    let parent = dir.parent().unwrap_or(Path::new("."));
    let work = tempfile::tempdir_in(parent).context("create a work directory in the cache")?;
    command::output(
        pip()
            .args(["install", "--quiet", "--disable-pip-version-check", "--no-deps"])
            .args(["--only-binary", ":all:", "--no-compile", "--target"])
            .args([work.path().as_os_str(), requirement.as_ref()]),
    )?;
    std::fs::rename(work.keep(), &dir).with_context(|| format!("move {requirement} into place"))?;
    Ok(dir)
}
