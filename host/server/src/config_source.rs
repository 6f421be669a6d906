//! Where the configuration comes from: a file or a variable of the environment, and what was applied
//! over the API since.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use config::{Diagnostic, Spec};

use crate::configuration::{self, Written};

/// A file, in base64; it wins over `CONFIG_FILE_PATH`, as for the predecessor.
const YAML: &str = "CONFIG_FILE_YAML";

/// Whether what was applied over the API counts more than the engine's own file.
const APPLIED_WINS: &str = "SEQUIN_APPLIED_CONFIG_WINS";

/// Whether an apply may change who must have signed plugins.
const SIGNATURES_CHANGE: &str = "SEQUIN_API_CHANGES_SIGNATURES";

/// What stands for the path of what was applied.
pub(crate) const APPLIED: &str = "the applied configuration";

/// What the engine was started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    File(PathBuf),
    /// `CONFIG_FILE_YAML`, decoded. It stays as it is as long as the process.
    Text(String),
    /// All that runs is applied over the API.
    Nothing,
}

/// Where the configuration comes from. Its clones are one.
#[derive(Clone, Debug)]
pub(crate) struct ConfigSource {
    own: Own,
    /// Whether that takes the place of what was applied, at a start and when it changes.
    own_wins: bool,
    /// Whether an apply may change who must have signed plugins.
    signatures_change: bool,
    applied: Arc<Mutex<Option<Arc<str>>>>,
}

/// What was read.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) text: String,
    /// Components that came with it: it is a bundle.
    pub(crate) components: Vec<bundle::Component>,
    pub(crate) spec: Spec,
    pub(crate) warnings: Vec<Diagnostic>,
    /// Files that are part of it: of SQL.
    pub(crate) files: Vec<PathBuf>,
}

impl ConfigSource {
    /// The file of `--config`, else `CONFIG_FILE_YAML`, else `CONFIG_FILE_PATH`, else nothing.
    ///
    /// # Errors
    /// A variable is not what it should be.
    pub(crate) fn find(
        argument: Option<&Path>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let own = if let Some(path) = argument {
            Own::File(path.to_owned())
        } else if let Some(encoded) = env(YAML) {
            // Tools that encode fold lines.
            let folded: String = encoded.split_whitespace().collect();
            let decoded =
                STANDARD.decode(folded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            decoded.map(Own::Text).ok_or_else(|| {
                format!("{YAML} is no base64 of a YAML text; make it with `base64 -w0 sequin.yaml`")
            })?
        } else {
            env("CONFIG_FILE_PATH").map_or(Own::Nothing, |path| Own::File(path.into()))
        };
        let is = |name: &str| match env(name).as_deref() {
            None | Some("" | "false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(other) => Err(format!("{name} is true or false, not `{}`", other.escape_debug())),
        };
        let (own_wins, signatures_change) = (!is(APPLIED_WINS)?, is(SIGNATURES_CHANGE)?);
        Ok(Self { own, own_wins, signatures_change, applied: Arc::default() })
    }

    /// What the engine was started with.
    pub(crate) fn own(&self) -> &Own {
        &self.own
    }

    /// Whether that takes the place of what was applied, at a start and when it changes.
    pub(crate) fn own_wins(&self) -> bool {
        self.own_wins && self.own != Own::Nothing
    }

    /// Whether an apply may change who must have signed plugins: only an operator says so.
    pub(crate) fn signatures_change(&self) -> bool {
        self.signatures_change
    }

    /// The file, if it is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match &self.own {
            Own::File(path) => Some(path),
            Own::Text(_) | Own::Nothing => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<str>>> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was applied, if that counts.
    pub(crate) fn applied(&self) -> Option<Arc<str>> {
        self.lock().clone()
    }

    /// From now on this counts; without it what the engine was started with.
    pub(crate) fn set_applied(&self, text: Option<Arc<str>>) {
        *self.lock() = text;
    }

    /// What it was started with: what stands for its path, and the text.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn own_text(&self) -> Result<(PathBuf, String), String> {
        self.own_whole().map(|(path, Written { text, .. })| (path, text))
    }

    fn own_whole(&self) -> Result<(PathBuf, Written), String> {
        match &self.own {
            Own::File(path) => Ok((path.clone(), configuration::read(path)?)),
            Own::Text(text) => Ok((YAML.into(), text.clone().into())),
            Own::Nothing => Ok((APPLIED.into(), "sinks: []\n".to_owned().into())),
        }
    }

    /// Reads and checks it.
    ///
    /// # Errors
    /// It cannot be read, or everything that is wrong with it.
    pub(crate) fn read(&self) -> Result<Read, String> {
        let (name, Written { text, components }) = match self.applied() {
            // What it names is looked for where the process stands.
            Some(applied) => (APPLIED.into(), applied.to_string().into()),
            None => self.own_whole()?,
        };
        let files = RefCell::default();
        match configuration::check_noting(&name, &text, &files) {
            Ok((spec, warnings)) => {
                Ok(Read { text, components, spec, warnings, files: files.into_inner() })
            }
            Err(wrong) => Err(wrong.iter().map(|diagnostic| format!("{diagnostic}\n")).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(argument: Option<&str>, pairs: &[(&str, &str)]) -> Result<Own, String> {
        let find = |name: &str| pairs.iter().find(|(key, _)| *key == name);
        let env = |name: &str| find(name).map(|(_, value)| (*value).to_owned());
        ConfigSource::find(argument.map(Path::new), &env).map(|source| source.own)
    }

    #[test]
    fn the_argument_wins_over_the_text_and_that_over_the_path() {
        let all = [("CONFIG_FILE_YAML", "YTog\nMQ=="), ("CONFIG_FILE_PATH", "b.yaml")];
        assert_eq!(find(Some("a.yaml"), &all), Ok(Own::File("a.yaml".into())));
        assert_eq!(find(None, &all), Ok(Own::Text("a: 1".to_owned())));
        assert_eq!(find(None, &all[1..]), Ok(Own::File("b.yaml".into())));
        assert_eq!(find(None, &[]), Ok(Own::Nothing));
        assert!(find(None, &[("CONFIG_FILE_YAML", "a: 1")]).unwrap_err().contains("base64"));
    }
}
