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

/// Builds the image without a container engine: 70 MB of packages in 12 s. What it is for needs root,
/// so the test of the image passes over where it is not, and says so.
pub(super) fn ensure_buildah() {
    if env::find_executable("buildah").is_none()
        && available()
        && let Err(error) = install(&["buildah", "crun"])
    {
        println!("buildah: cannot be had here: {error:#}");
    }
    match env::find_executable("buildah") {
        Some(program) => println!("buildah: {}", program.display()),
        None => println!("buildah: not here, so the image is not tested"),
    }
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").stdout(std::process::Stdio::null());
    command
}
