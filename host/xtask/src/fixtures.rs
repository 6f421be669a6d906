//! `cargo x fixtures`: records the fixtures of the first-party plugins anew, from a real server.
//!
//! The recorder is a test, which compares as long as nobody tells it to write. What became of the
//! outcomes is for a person to read, in the difference.

use crate::step::step;
use crate::{command, plugins, repository, services};

pub(crate) fn record() -> anyhow::Result<()> {
    let services = step("services", || {
        services::ensure_test_tools()?;
        services::ensure_for_tests()
    })?;
    step("plugins", plugins::build)?;
    let root = repository::root();
    step("engine", || {
        command::run(command::cargo(root).args(["build", "--quiet", "-p", "server"]))
    })?;
    let mut cargo = command::cargo(root);
    cargo.args(["nextest", "run", "-p", "tests", "-E", "test(/^fixtures::/)"]);
    cargo.env("SEQUIN_BIN", repository::binary("debug", "sequin")?);
    command::run(services.export(cargo.env("SEQUIN_FIXTURES", "record")))
}
