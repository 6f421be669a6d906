//! `cargo x plugins`: builds `plugins/` and turns each crate into a component.
//!
//! The hostile ones and those of the conformance suite are kept apart from those a user would run. A
//! plugin that no host can use is found by the tests.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use component::Module;
use sha2::{Digest as _, Sha256};

use crate::services::hex;
use crate::{command, env, repository};

pub(crate) use component::TARGET;

/// What every plugin is built of, beside its own sources.
const SHARED_SOURCES: [&str; 4] = ["sdk/rust", "wit", "plugins/Cargo.toml", "plugins/Cargo.lock"];

/// Directories of plugins for tests.
const APART: [&str; 2] = ["bad", CONFORMANCE];

/// Those of the conformance suite.
pub(crate) const CONFORMANCE: &str = "conformance";

pub(crate) fn build() -> anyhow::Result<()> {
    let dir = repository::root().join("plugins");
    let (_, packages) = component::plugins(&mut command::cargo(&dir), &dir)?;
    let mut cargo = command::cargo(&dir);
    // Whatever a machine's own configuration says: the digest is the same everywhere.
    cargo.arg("--quiet").env("CARGO_ENCODED_RUSTFLAGS", remap_flags());
    for module in component::modules(&mut cargo, &dir, &packages)? {
        write_component(&dir, &module)?;
    }
    Ok(())
}

/// Separated as cargo wants it.
fn remap_flags() -> OsString {
    let home = env::cargo_home();
    let home = home.as_deref().map(|home| (home, "cargo"));
    let flags = component::remap_flags([(repository::root(), "sequin")].into_iter().chain(home));
    flags.join("\u{1f}").into()
}

fn write_component(dir: &Path, module: &Module) -> anyhow::Result<()> {
    let package = &module.package;
    let name = package.name.as_str();
    let bytes =
        std::fs::read(&module.file).with_context(|| format!("read the module of {name}"))?;
    let manifest = package.manifest_path.as_std_path();
    let apart = APART.into_iter().find(|apart| manifest.starts_with(dir.join(apart)));
    let mut sources = SHARED_SOURCES.map(Path::new).to_vec();
    sources.extend(package.manifest_path.parent().map(|dir| dir.as_std_path()));
    // Those are released to nobody.
    let revision = match apart {
        Some(_) => None,
        None => component::revision(repository::root(), &sources, &[]),
    };
    let component = component::encode(&bytes, package, revision)?;
    let file = component_file(dir, apart, name);
    let written = component::write_if_changed(&file, &component)?;
    let state = if written { "written" } else { "unchanged" };
    let digest = hex(&Sha256::digest(&component));
    println!("{name:24} {:>9} bytes  {digest}  {state}", component.len());
    Ok(())
}

/// Where the component of a plugin lies. `apart` is the directory of those that only tests use.
pub(crate) fn component_file(dir: &Path, apart: Option<&str>, name: &str) -> PathBuf {
    let dir = apart.map_or_else(|| dir.to_path_buf(), |apart| dir.join("target").join(apart));
    dir.join(format!("{name}.wasm"))
}
