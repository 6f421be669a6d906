//! Where the configuration comes from: a file and the environment.

pub(crate) mod command;

use std::path::{Path, PathBuf};

use config::{Diagnostic, Spec, Surroundings};

use crate::Failure;
use crate::settings::environment;

/// Beside the configuration, if `SEQUIN_PLUGIN_DIR` does not say otherwise.
const PLUGIN_DIR: &str = "plugins";

/// Reads and checks a configuration. Hands back warnings beside it.
///
/// # Errors
/// The file cannot be read, or everything that is wrong in it.
pub(crate) fn read(path: &Path) -> Result<(Spec, Vec<Diagnostic>), Failure> {
    let text = text(path)?;
    check(path, &text).map_err(|diagnostics| Failure::Usage(lines(&diagnostics)))
}

/// As [`read`], of a text that is there already. `path` says where it is from.
pub(crate) fn check(path: &Path, text: &str) -> Result<(Spec, Vec<Diagnostic>), Vec<Diagnostic>> {
    let base_dir = path.parent().unwrap_or(Path::new(""));
    let plugin_dir =
        environment("SEQUIN_PLUGIN_DIR").map_or_else(|| base_dir.join(PLUGIN_DIR), PathBuf::from);
    let around = Surroundings {
        base_dir,
        plugin_dir: &plugin_dir,
        env: &environment,
        read_file: &|path| std::fs::read_to_string(path),
    };
    config::read(&path.display().to_string(), text, &around)
}

fn text(path: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| {
        Failure::Usage(format!("error: {} cannot be read: {error}", path.display()))
    };
    std::fs::read_to_string(path).map_err(failed)
}

fn lines(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|diagnostic| format!("{diagnostic}\n")).collect()
}
