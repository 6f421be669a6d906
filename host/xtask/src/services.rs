//! `cargo x services`: what tests and demo need from the machine.
//!
//! Finds before it installs, so the second run is quick; installs through package managers only, into
//! the system (as root) or into a cache directory outside the clone. Real servers, never containers:
//! no container engine is assumed. It starts nothing: the harness in `tests/src` does.

pub(crate) mod bench;
pub(crate) mod cache;
mod extensions;
mod node;
mod packages;
mod postgres;
mod redis;
mod schemathesis;
mod toolchain;
mod typesense;
pub(crate) mod wheel;

pub(crate) use node::Node;
pub(crate) use typesense::hex;

use std::path::PathBuf;
use std::process::Command;

/// What was found or installed.
pub(crate) struct Services {
    /// The directory that holds `initdb` and `postgres`.
    pub pg_bin: PathBuf,
    /// The same of further majors; none unless they were asked for.
    pub pg_majors: Vec<(u32, PathBuf)>,
    /// The same of servers with an extension, by its name in capitals; none as above.
    pub pg_extensions: Vec<(&'static str, PathBuf)>,
    /// The Typesense server's executable, unless it is done without.
    pub typesense: Option<PathBuf>,
    /// Schemathesis' executable, for tests.
    pub schemathesis: Option<PathBuf>,
}

impl Services {
    /// Tells a program that uses the harness where the servers are.
    pub(crate) fn export<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let majors = self.pg_majors.iter();
        command.envs(majors.map(|(major, bin)| (format!("PG_BIN_{major}"), bin)));
        let extensions = self.pg_extensions.iter();
        command.envs(extensions.map(|(name, bin)| (format!("PG_BIN_{name}"), bin)));
        let typesense = self.typesense.iter().map(|file| ("TYPESENSE_BIN", file));
        let schemathesis = self.schemathesis.iter().map(|file| ("SCHEMATHESIS_BIN", file));
        command.env("PG_BIN", &self.pg_bin).envs(typesense).envs(schemathesis)
    }
}

/// The command itself: the servers and every tool.
pub(crate) fn run() -> anyhow::Result<()> {
    ensure_for_tests()?;
    ensure_test_tools()
}

/// What the demo and the benchmarks need. They have something to show without Typesense, which is
/// made for one kind of machine only.
pub(crate) fn ensure() -> anyhow::Result<Services> {
    let typesense = typesense::ensure();
    if let Err(error) = &typesense {
        println!("typesense: cannot be had here, and is left out: {error:#}");
    }
    ensure_beside(typesense.ok())
}

fn ensure_beside(typesense: Option<PathBuf>) -> anyhow::Result<Services> {
    let pg_bin = postgres::ensure()?;
    toolchain::ensure_wasm_target()?;
    Ok(Services {
        pg_bin,
        pg_majors: Vec::new(),
        pg_extensions: Vec::new(),
        typesense,
        schemathesis: None,
    })
}

/// What tests need, which is everything.
pub(crate) fn ensure_for_tests() -> anyhow::Result<Services> {
    let pg_majors = postgres::ensure_majors()?;
    let services = ensure_beside(Some(typesense::ensure()?))?;
    let pg_extensions = vec![
        ("PGVECTOR", extensions::ensure_pgvector()?),
        ("POSTGIS", extensions::ensure_postgis()?),
    ];
    redis::ensure()?;
    let schemathesis = Some(schemathesis::ensure()?);
    Ok(Services { pg_majors, pg_extensions, schemathesis, ..services })
}

/// PostgreSQL alone: the directory of its programs and, if they are asked for, those of further majors.
pub(crate) fn ensure_postgres(further: bool) -> anyhow::Result<(PathBuf, Vec<(u32, PathBuf)>)> {
    let majors = if further { postgres::ensure_majors()? } else { Vec::new() };
    Ok((postgres::ensure()?, majors))
}

/// What only tests need.
pub(crate) fn ensure_test_tools() -> anyhow::Result<()> {
    toolchain::ensure_component("rustfmt", "fmt")?;
    toolchain::ensure_component("clippy", "clippy")?;
    packages::ensure_programs();
    toolchain::ensure_nextest()
}
