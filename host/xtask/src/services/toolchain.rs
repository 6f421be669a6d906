//! The parts of the Rust toolchain that `cargo` alone does not bring.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::{command, plugins, repository};

/// The plugins' target.
pub(crate) fn ensure_wasm_target() -> anyhow::Result<()> {
    let sysroot = command::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let target = Path::new(sysroot.trim()).join("lib/rustlib").join(plugins::TARGET).join("lib");
    if target.is_dir() {
        return Ok(());
    }
    println!("installing the target {}", plugins::TARGET);
    command::run(Command::new("rustup").args(["target", "add", plugins::TARGET]))
        .with_context(|| format!("install the Rust target {}", plugins::TARGET))
}

/// A component of the toolchain that is a cargo command.
pub(crate) fn ensure_component(name: &str, subcommand: &str) -> anyhow::Result<()> {
    if command::succeeds(cargo().args([subcommand, "--version"])) {
        return Ok(());
    }
    println!("installing {name}");
    command::run(Command::new("rustup").args(["component", "add", name]))
        .with_context(|| format!("install the Rust component {name}"))
}

/// The test runner, built from source: a few minutes, once.
pub(crate) fn ensure_nextest() -> anyhow::Result<()> {
    if command::succeeds(cargo().args(["nextest", "--version"])) {
        return Ok(());
    }
    println!("installing cargo-nextest");
    // Without its self-update, and thus without a TLS library to build.
    let features = ["--no-default-features", "--features", "default-no-update"];
    command::run(cargo().args(["install", "--locked", "--quiet", "cargo-nextest"]).args(features))
}

fn cargo() -> Command {
    command::cargo(repository::root())
}
