//! `cargo x bench`: builds the benchmarks and becomes them.
//!
//! They are `tests/src/bin/bench`, on the harness of the tests, which reads the further arguments.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::Context as _;

use crate::step::step;
use crate::{command, plugins, repository, services};

pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let root = repository::root();
    let mut bench = Command::new(repository::binary("release", "bench")?);
    let what = arguments.first().map_or("", String::as_str);
    if matches!(what, "plugin" | "engine") {
        step("plugins", plugins::build)?;
    }
    if what != "plugin" {
        step("services", || servers(arguments, &mut bench))?;
    }
    let mut build = command::cargo(root);
    build.args(["build", "--quiet", "--release", "-p", "tests", "--bin", "bench"]);
    if matches!(what, "engine" | "delivery" | "config") {
        build.args(["-p", "server", "--bin", "sequin"]);
        bench.env("SEQUIN_BIN", repository::binary("release", "sequin")?);
    }
    step("benchmarks (release)", || command::run(&mut build))?;
    println!();
    Err(bench.current_dir(root).args(arguments).exec()).context("start the benchmarks")
}

/// Finds what the benchmark compares with.
fn servers(arguments: &[String], bench: &mut Command) -> anyhow::Result<()> {
    let (pg_bin, majors) =
        services::ensure_postgres(arguments.iter().any(|argument| is_major(argument)))?;
    bench.envs(majors.iter().map(|(major, bin)| (format!("PG_BIN_{major}"), bin)));
    if arguments.first().is_some_and(|what| what == "engine") {
        services::ensure()?.export(bench);
    }
    if arguments.first().is_some_and(|what| what == "peers") {
        let (debezium, psycopg2) = (services::bench::debezium(), services::bench::psycopg2());
        bench.envs(debezium.map(|libs| ("DEBEZIUM_LIBS", libs)));
        bench.envs(psycopg2.map(|dir| ("PSYCOPG2_PATH", dir)));
    } else {
        bench.env("PG_RECVLOGICAL", services::bench::pg_recvlogical(&pg_bin)?);
    }
    bench.env("PG_BIN", pg_bin);
    Ok(())
}

fn is_major(argument: &str) -> bool {
    argument.starts_with("--major")
}
