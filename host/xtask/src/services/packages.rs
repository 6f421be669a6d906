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

/// Programs that some tests are about. A test whose program cannot be had here passes over it, and says
/// so:
/// - buildah builds the image without a container engine (70 MB of packages in 12 s; it needs root);
/// - docker-registry is a registry for components.
pub(super) fn ensure_programs() {
    for (program, names) in
        [("buildah", &["buildah", "crun"][..]), ("docker-registry", &["docker-registry"])]
    {
        if env::find_executable(program).is_none()
            && available()
            && let Err(error) = install(names)
        {
            println!("{program}: cannot be had here: {error:#}");
        }
        match env::find_executable(program) {
            Some(path) => println!("{program}: {}", path.display()),
            None => println!("{program}: not here, so what needs it is not tested"),
        }
    }
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").stdout(std::process::Stdio::null());
    command
}
