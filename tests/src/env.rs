//! The environment, read in this one file.

use std::path::PathBuf;

/// A path that `cargo x test` and `cargo x demo` export, if it is set and not empty.
#[expect(clippy::disallowed_methods, reason = "where the servers are is told by variables")]
pub(crate) fn path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The executable that `PATH` finds under this name, behind its links.
pub fn find_executable(name: &str) -> Option<PathBuf> {
    let search = path("PATH")?;
    let mut dirs = std::env::split_paths(&search);
    dirs.find_map(|dir| dir.join(name).canonicalize().ok().filter(|file| file.is_file()))
}
