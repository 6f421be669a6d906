//! The environment, read in this one file.

use std::path::PathBuf;

/// A path that `cargo x test` and `cargo x demo` export, if it is set and not empty.
#[expect(clippy::disallowed_methods, reason = "where the servers are is told by variables")]
pub(crate) fn path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Schemathesis, which asks an API all that its document allows.
pub fn schemathesis() -> Option<PathBuf> {
    path("SCHEMATHESIS_BIN")
}

/// The executable that `PATH` finds under this name, behind its links.
pub fn find_executable(name: &str) -> Option<PathBuf> {
    let search = path("PATH")?;
    let mut dirs = std::env::split_paths(&search);
    dirs.find_map(|dir| dir.join(name).canonicalize().ok().filter(|file| file.is_file()))
}

/// Where `cargo x guests` keeps what plugins in other languages are built with: `authoring` in the
/// cache.
pub fn authoring() -> Option<PathBuf> {
    let cache = path("SEQUIN_CACHE_DIR")
        .or_else(|| Some(path("XDG_CACHE_HOME")?.join("sequin")))
        .or_else(|| Some(path("HOME")?.join(".cache/sequin")));
    Some(cache?.join("authoring"))
}

/// `PATH` with this directory before it.
pub fn search_path_behind(dir: &std::path::Path) -> std::ffi::OsString {
    let mut all = dir.as_os_str().to_owned();
    if let Some(search) = path("PATH") {
        all.push(":");
        all.push(search);
    }
    all
}
