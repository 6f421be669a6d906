//! The system's package manager.

use std::process::Command;

use crate::{command, env};

/// Whether packages can be installed at all: Debian or Ubuntu, and allowed to.
pub(crate) fn available() -> bool {
    env::is_root() && env::find_executable("apt-get").is_some()
}

/// Installs packages, with a fresh list: an old one names versions that are gone.
pub(crate) fn install(names: &[&str]) -> anyhow::Result<()> {
    println!("installing {}", names.join(", "));
    command::run(apt_get().args(["update", "-qq"]))?;
    command::run(apt_get().args(["install", "-y", "-qq", "--no-install-recommends"]).args(names))
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").stdout(std::process::Stdio::null());
    command
}
