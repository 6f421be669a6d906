//! The environment, read in this one file.

use std::ffi::OsString;
use std::path::PathBuf;

/// A variable, if it is set and not empty.
#[expect(clippy::disallowed_methods, reason = "the task runner's only settings are variables")]
pub(crate) fn get(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The directories of `PATH`.
pub(crate) fn search_path() -> Vec<PathBuf> {
    get("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}

/// The executable that `PATH` finds under this name.
pub(crate) fn find_executable(name: &str) -> Option<PathBuf> {
    search_path().into_iter().map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Whether this process may install packages.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Where cargo keeps the sources of dependencies.
pub(crate) fn cargo_home() -> Option<PathBuf> {
    let default = || Some(PathBuf::from(get("HOME")?).join(".cargo"));
    get("CARGO_HOME").map(PathBuf::from).or_else(default)
}
