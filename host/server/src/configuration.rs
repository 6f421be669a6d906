//! Where the configuration comes from: a file and the environment.

pub(crate) mod command;
mod outcome;
mod remote;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use bundle::Bundle;
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

/// A configuration as it is written.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// With variables of the environment to be filled in.
    pub(crate) text: String,
    /// What came with it in a bundle.
    pub(crate) components: Vec<bundle::Component>,
}

impl From<String> for Written {
    fn from(text: String) -> Self {
        Self { text, components: Vec::new() }
    }
}

/// # Errors
/// The file cannot be read, or is neither YAML nor a bundle.
pub(crate) fn read(path: &Path) -> Result<Written, String> {
    let failed = |error: &dyn std::fmt::Display| {
        format!("error: {} cannot be read: {error}", path.display())
    };
    let bytes = std::fs::read(path).map_err(|error| failed(&error))?;
    if !Bundle::is_one(&bytes) {
        return String::from_utf8(bytes).map(Written::from).map_err(|_| failed(&"it is no text"));
    }
    let Bundle { config, is_template, components } =
        Bundle::from_bytes(&bytes).map_err(|error| failed(&error))?;
    // In one that is filled in a dollar sign is one.
    let text = if is_template { config } else { config.replace('$', "$$") };
    Ok(Written { text, components })
}

pub(crate) fn lines(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|diagnostic| format!("{diagnostic}\n")).collect()
}
