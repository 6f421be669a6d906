//! Where the configuration comes from: a file, or a variable of the environment.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use config::{Diagnostic, Spec};

use crate::configuration;

/// A file, in base64; it wins over `CONFIG_FILE_PATH`, as for the predecessor.
const YAML: &str = "CONFIG_FILE_YAML";

/// Where the configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConfigSource {
    File(PathBuf),
    /// `CONFIG_FILE_YAML`, decoded. It stays as it is as long as the process.
    Text(String),
}

/// What was read.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) text: String,
    pub(crate) spec: Spec,
    pub(crate) warnings: Vec<Diagnostic>,
    /// Files that are part of it: of SQL.
    pub(crate) files: Vec<PathBuf>,
}

impl ConfigSource {
    /// The file of `--config`, else `CONFIG_FILE_YAML`, else `CONFIG_FILE_PATH`.
    ///
    /// # Errors
    /// There is none, or the variable is no base64 of a text.
    pub(crate) fn find(
        argument: Option<&Path>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        if let Some(path) = argument {
            return Ok(Self::File(path.to_owned()));
        }
        if let Some(encoded) = env(YAML) {
            // Tools that encode fold lines.
            let folded: String = encoded.split_whitespace().collect();
            let decoded =
                STANDARD.decode(folded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            return decoded.map(Self::Text).ok_or_else(|| {
                format!("{YAML} is no base64 of a YAML text; make it with `base64 -w0 sequin.yaml`")
            });
        }
        if let Some(path) = env("CONFIG_FILE_PATH") {
            return Ok(Self::File(path.into()));
        }
        Err("there is no configuration: give --config FILE, or set CONFIG_FILE_PATH or \
             CONFIG_FILE_YAML (base64)"
            .to_owned())
    }

    /// The file, if it is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Text(_) => None,
        }
    }

    /// Reads and checks it.
    ///
    /// # Errors
    /// It cannot be read, or everything that is wrong with it.
    pub(crate) fn read(&self) -> Result<Read, String> {
        let (name, text) = match self {
            Self::File(path) => (path.as_path(), configuration::text(path)?),
            // What it names is looked for where the process stands.
            Self::Text(text) => (Path::new(YAML), text.clone()),
        };
        let files = RefCell::default();
        match configuration::check_noting(name, &text, &files) {
            Ok((spec, warnings)) => Ok(Read { text, spec, warnings, files: files.into_inner() }),
            Err(wrong) => Err(wrong.iter().map(|diagnostic| format!("{diagnostic}\n")).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(argument: Option<&str>, pairs: &[(&str, &str)]) -> Result<ConfigSource, String> {
        let find = |name: &str| pairs.iter().find(|(key, _)| *key == name);
        let env = |name: &str| find(name).map(|(_, value)| (*value).to_owned());
        ConfigSource::find(argument.map(Path::new), &env)
    }

    #[test]
    fn the_argument_wins_over_the_text_and_that_over_the_path() {
        let all = [("CONFIG_FILE_YAML", "YTog\nMQ=="), ("CONFIG_FILE_PATH", "b.yaml")];
        assert_eq!(find(Some("a.yaml"), &all), Ok(ConfigSource::File("a.yaml".into())));
        assert_eq!(find(None, &all), Ok(ConfigSource::Text("a: 1".to_owned())));
        assert_eq!(find(None, &all[1..]), Ok(ConfigSource::File("b.yaml".into())));
        assert!(find(None, &[]).unwrap_err().contains("--config"));
        assert!(find(None, &[("CONFIG_FILE_YAML", "a: 1")]).unwrap_err().contains("base64"));
    }
}
