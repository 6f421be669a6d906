//! `cargo x demo`: builds what the demo needs, then becomes it.
//!
//! The demo itself is `tests/src/bin/demo.rs`, on the harness of the tests. It takes this process
//! over (`exec`), so that a Ctrl-C, or a signal to this process, reaches it and it alone decides when
//! everything is cleaned up.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::Context as _;

use crate::step::step;
use crate::{command, plugins, repository, services};

pub(crate) fn run(seconds: Option<u64>) -> anyhow::Result<()> {
    let root = repository::root();
    let services = step("services", services::ensure)?;
    step("plugins", plugins::build)?;
    step("engine (release)", || {
        command::run(
            command::cargo(root)
                .args(["build", "--quiet", "--release", "-p", "server", "-p", "tests"])
                .args(["--bin", "sequin", "--bin", "demo"]),
        )
    })?;
    let mut demo = Command::new(repository::binary("release", "demo")?);
    demo.current_dir(root).env("SEQUIN_BIN", repository::binary("release", "sequin")?);
    if let Some(seconds) = seconds {
        demo.args(["--seconds", &seconds.to_string()]);
    }
    println!();
    Err(services.export(&mut demo).exec()).context("start the demo")
}
