//! `cargo x test`: everything that must hold before a change lands, cheapest first.
//!
//! It needs nothing but a Rust toolchain beforehand, skips nothing, and stops at the first step that
//! fails. The nextest run is last, so that its summary is the last thing to read.

use std::path::PathBuf;

use crate::services::Services;
use crate::step::{now, seconds, step};
use crate::{command, env, fuzz, guests, plugins, repository, services, tidy};

pub(crate) fn run(nextest: &[String]) -> anyhow::Result<()> {
    let start = now();
    let root = repository::root();
    let cargo = |arguments: &[&str]| command::run(command::cargo(root).args(arguments));

    let services = step("services", || {
        services::ensure_test_tools()?;
        services::ensure_for_tests()
    })?;
    step("format", check_format)?;
    step("tidy", tidy::run)?;
    // Before anything is compiled: tests may embed the components.
    step("plugins", plugins::build)?;
    step("guests in other languages", guests::ensure)?;
    step("lints", check_lints)?;
    step("tests of plugins and sdk", test_guests)?;
    step("engine", || cargo(&["build", "--quiet", "-p", "server"]))?;
    step("tests in documentation", || cargo(&["test", "--doc", "--workspace", "--quiet"]))?;
    step("tests", || run_nextest(&services, nextest))?;
    println!("\n=== all passed in {}", seconds(start.elapsed()));
    Ok(())
}

fn check_format() -> anyhow::Result<()> {
    for dir in workspaces()?.into_iter().chain(fuzz::directories()) {
        command::run(command::cargo(&dir).args(["fmt", "--all", "--check"]))?;
    }
    Ok(())
}

fn check_lints() -> anyhow::Result<()> {
    for dir in workspaces()? {
        let mut cargo = command::cargo(&dir);
        cargo.args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]);
        command::run(&mut cargo)?;
    }
    Ok(())
}

fn workspaces() -> anyhow::Result<Vec<PathBuf>> {
    let mut dirs = vec![repository::root().to_path_buf()];
    dirs.extend(repository::guest_workspaces()?);
    Ok(dirs)
}

/// Natively: what a plugin computes can be tested without WebAssembly.
fn test_guests() -> anyhow::Result<()> {
    for dir in repository::guest_workspaces()? {
        command::run(command::cargo(&dir).args(["test", "--quiet", "--workspace"]))?;
    }
    Ok(())
}

fn run_nextest(services: &Services, arguments: &[String]) -> anyhow::Result<()> {
    let mut cargo = command::cargo(repository::root());
    cargo.args(["nextest", "run", "--workspace"]);
    if env::get("CI").is_some() {
        cargo.args(["--profile", "ci"]);
    }
    cargo.args(arguments).env("SEQUIN_BIN", repository::binary("debug", "sequin")?);
    command::run(services.export(&mut cargo))
}
