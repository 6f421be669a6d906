//! Where downloads are kept between runs.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::{env, repository};

/// The directory for one kind of download, created.
pub(crate) fn dir(name: &str) -> anyhow::Result<PathBuf> {
    let dir = base().join(name);
    std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    Ok(dir)
}

/// Where a download lies, whether it is there or not.
pub(crate) fn base() -> PathBuf {
    if let Some(dir) = env::get("SEQUIN_CACHE_DIR") {
        return dir.into();
    }
    if let Some(dir) = env::get("XDG_CACHE_HOME") {
        return PathBuf::from(dir).join("sequin");
    }
    match env::get("HOME") {
        Some(home) => PathBuf::from(home).join(".cache/sequin"),
        None => repository::root().join("target/services"),
    }
}
