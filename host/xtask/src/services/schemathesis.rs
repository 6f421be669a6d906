//! Schemathesis, which asks the API all that its OpenAPI document allows, and what it does not.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;

use super::{cache, packages};
use crate::{command, env};

/// It and all that it wants, each with its version: what is found must not change by itself.
const REQUIREMENTS: &str = include_str!("schemathesis.txt");

/// Its executable.
///
/// # Errors
/// It cannot be installed.
pub(super) fn ensure() -> anyhow::Result<PathBuf> {
    if let Some(file) = env::get("SCHEMATHESIS_BIN").map(PathBuf::from) {
        anyhow::ensure!(file.is_file(), "SCHEMATHESIS_BIN is {}, which is no file", file.display());
        return Ok(file);
    }
    let wanted = REQUIREMENTS.lines().find(|line| line.starts_with("schemathesis=="));
    let dir = cache::dir("python")?.join(wanted.context("the version of schemathesis")?);
    let (file, done) = (dir.join("bin/schemathesis"), dir.join("done"));
    if done.is_file() && file.is_file() {
        return Ok(file);
    }
    println!("downloading schemathesis (90 MB)");
    // An environment knows its own path, so it is made where it stays; `done` says that it is whole.
    let make =
        || command::succeeds(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir));
    if !make() {
        packages::install(&["python3", "python3-venv"])?;
        anyhow::ensure!(make(), "python3 -m venv {} failed", dir.display());
    }
    let requirements = dir.join("requirements.txt");
    std::fs::write(&requirements, REQUIREMENTS)?;
    command::output(
        Command::new(dir.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(["--only-binary", ":all:", "--requirement"])
            .arg(&requirements),
    )?;
    std::fs::write(done, "")?;
    Ok(file)
}
