//! Fixtures as files.

use std::path::{Path, PathBuf};

use model::change::Change;
use model::recorded::Reader;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::outside::Outside;

/// What a fixture's files may hold together.
const BYTES_MAX: u64 = 256 << 20;

/// Recorded messages, and what is expected of them.
#[derive(Debug)]
pub struct Fixture {
    /// Its directory.
    pub dir: PathBuf,
    /// What it is called: its directory, from the one that was asked for.
    pub name: String,
    /// The configuration, JSON.
    pub config: String,
    /// The role that the plugin has in it, by name.
    pub role: Option<String>,
    /// The kind of sink that a router works for.
    pub sink: Option<String>,
    /// What stands for all that it is granted.
    pub outside: Outside,
    /// The messages, in order.
    pub changes: Vec<Change>,
    /// A line for each message; None if nothing is expected yet.
    pub expected: Option<Vec<String>>,
}

/// Why a fixture cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct FixtureError {
    /// The file or directory.
    pub file: String,
    /// What is wrong with it, and what to do.
    pub reason: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    role: Option<String>,
    sink: Option<String>,
}

const MESSAGES: &str = "messages.jsonl";
const OUTCOMES: &str = "outcomes.jsonl";

/// The fixtures below a directory: itself, if it has messages, or else those of its directories that
/// do, by name.
///
/// # Errors
/// If there is none, or one of them cannot be read.
pub fn find(dir: &Path) -> Result<Vec<Fixture>, FixtureError> {
    if dir.join(MESSAGES).is_file() {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Ok(vec![Fixture::read(dir, name)?]);
    }
    let entries = dir.read_dir().map_err(|error| wrong(dir, error))?;
    let mut dirs: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    dirs.retain(|dir| dir.join(MESSAGES).is_file());
    dirs.sort();
    if dirs.is_empty() {
        return Err(wrong(
            dir,
            "there are no fixtures: neither it nor a directory in it has a messages.jsonl \
             (`sequin plugin record SINK --out DIR/messages.jsonl` makes one)",
        ));
    }
    let named = |dir: &PathBuf| dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    dirs.iter().map(|dir| Fixture::read(dir, named(dir))).collect()
}

impl Fixture {
    fn read(dir: &Path, name: String) -> Result<Self, FixtureError> {
        let config = text(&dir.join("config.json"))?.unwrap_or_else(|| "{}".to_owned());
        let Settings { role, sink } = there(&dir.join("fixture.json"))?;
        let outside = there(&dir.join("outside.json"))?;
        let file = dir.join(MESSAGES);
        let messages = text(&file)?.unwrap_or_default();
        let mut reader = Reader::default();
        let mut changes = Vec::new();
        for (number, line) in (1..).zip(messages.lines()) {
            if !line.trim().is_empty() {
                let change = reader.read(line);
                let at = |error| wrong(&file, format!("line {number}: {error}"));
                changes.push(change.map_err(at)?);
            }
        }
        if changes.is_empty() {
            return Err(wrong(&file, "it has no messages"));
        }
        let expected = text(&dir.join(OUTCOMES))?;
        let expected = expected.map(|text| text.lines().map(str::to_owned).collect());
        Ok(Self { dir: dir.to_path_buf(), name, config, role, sink, outside, changes, expected })
    }

    /// Writes what is expected from now on; whether that is new. Who reads the file never sees half
    /// of it.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn expect(&self, outcomes: &[String]) -> Result<bool, FixtureError> {
        if self.expected.as_deref() == Some(outcomes) {
            return Ok(false);
        }
        let file = self.dir.join(OUTCOMES);
        let mut text = outcomes.join("\n");
        text.push('\n');
        let written = tempfile::NamedTempFile::new_in(&self.dir).and_then(|temporary| {
            std::fs::write(temporary.path(), text)?;
            let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            temporary.as_file().set_permissions(readable)?;
            Ok(temporary.persist(&file)?)
        });
        written.map(|_| true).map_err(|error| wrong(&file, error))
    }
}

/// The default if the file is not there.
fn there<T: Default + DeserializeOwned>(file: &Path) -> Result<T, FixtureError> {
    if file.exists() { json(file) } else { Ok(T::default()) }
}

pub(super) fn json<T: DeserializeOwned>(file: &Path) -> Result<T, FixtureError> {
    let text = text(file)?.ok_or_else(|| wrong(file, "there is no such file"))?;
    serde_json::from_str(&text).map_err(|error| wrong(file, error))
}

/// None if the file is not there.
fn text(file: &Path) -> Result<Option<String>, FixtureError> {
    match std::fs::metadata(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(wrong(file, error)),
        Ok(data) if data.len() > BYTES_MAX => {
            Err(wrong(file, format!("more than {} MiB: take fewer messages", BYTES_MAX >> 20)))
        }
        Ok(_) => std::fs::read_to_string(file).map(Some).map_err(|error| wrong(file, error)),
    }
}

fn wrong(file: &Path, reason: impl std::fmt::Display) -> FixtureError {
    FixtureError { file: file.display().to_string(), reason: reason.to_string() }
}
