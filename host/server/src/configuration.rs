//! Where the configuration comes from: a file and the environment.

pub(crate) mod command;
mod remote;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use config::{Diagnostic, Spec, Surroundings};

use crate::settings::environment;

/// Beside the configuration, if `SEQUIN_PLUGIN_DIR` does not say otherwise.
const PLUGIN_DIR: &str = "plugins";

/// Reads and checks a configuration. `path` says where the text is from. Hands back warnings beside
/// it.
///
/// # Errors
/// Everything that is wrong in it.
pub(crate) fn check(path: &Path, text: &str) -> Result<(Spec, Vec<Diagnostic>), Vec<Diagnostic>> {
    check_noting(path, text, &RefCell::default())
}

/// The same; notes the files that are read for it.
pub(crate) fn check_noting(
    path: &Path,
    text: &str,
    files: &RefCell<Vec<PathBuf>>,
) -> Result<(Spec, Vec<Diagnostic>), Vec<Diagnostic>> {
    let base_dir = path.parent().unwrap_or(Path::new(""));
    let plugin_dir = plugin_dir(base_dir);
    let around = Surroundings {
        base_dir,
        plugin_dir: &plugin_dir,
        env: &environment,
        read_file: &|path| {
            files.borrow_mut().push(path.to_owned());
            std::fs::read_to_string(path)
        },
    };
    config::read(&path.display().to_string(), text, &around)
}

/// The plugin directory of a configuration in this directory.
pub(crate) fn plugin_dir(base_dir: &Path) -> PathBuf {
    environment("SEQUIN_PLUGIN_DIR").map_or_else(|| base_dir.join(PLUGIN_DIR), PathBuf::from)
}

/// # Errors
/// The file cannot be read.
pub(crate) fn text(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path)
        .map_err(|error| format!("error: {} cannot be read: {error}", path.display()))
}

pub(crate) fn lines(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|diagnostic| format!("{diagnostic}\n")).collect()
}
