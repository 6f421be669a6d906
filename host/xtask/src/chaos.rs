//! `cargo x chaos`: builds what the campaign needs, then becomes it.
//!
//! The campaign is `tests/src/bin/chaos`, on the harness of the tests. The engine is the debug one,
//! whose assertions are on.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::Context as _;

use crate::step::step;
use crate::{command, repository, services};

pub(crate) fn run(seconds: u64, seed: Option<u64>) -> anyhow::Result<()> {
    let root = repository::root();
    let services = step("services", services::ensure)?;
    step("engine", || {
        command::run(
            command::cargo(root)
                .args(["build", "--quiet", "-p", "server", "-p", "tests"])
                .args(["--bin", "sequin", "--bin", "chaos"]),
        )
    })?;
    let mut chaos = Command::new(repository::binary("debug", "chaos")?);
    chaos.current_dir(root).env("SEQUIN_BIN", repository::binary("debug", "sequin")?);
    chaos.args(["--seconds", &seconds.to_string()]);
    if let Some(seed) = seed {
        chaos.args(["--seed", &seed.to_string()]);
    }
    println!();
    Err(services.export(&mut chaos).exec()).context("start the campaign")
}
