//! `destination: {type: file}`: messages are appended to a file, one a line.

use std::path::PathBuf;

use serde::Deserialize;

use crate::{Problem, Problems};

/// A line of it at least; below, a directory fills with files.
const ROTATE_BYTES_MIN: i64 = 4_096;
/// One tebibyte.
const ROTATE_BYTES_MAX: i64 = 1 << 40;

/// A file as a user writes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// From the directory that the engine runs in, unless it is absolute. The directory of the file
    /// must be there.
    pub path: String,
    /// Whether a message counts as delivered only once the disk has it.
    #[serde(default = "yes")]
    pub sync: bool,
    /// At this size the file gets a number behind its name, and a new one is begun.
    pub rotate_bytes: Option<i64>,
}

/// A file that messages can be appended to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    pub path: PathBuf,
    pub sync: bool,
    /// 4096 or more.
    pub rotate_bytes: Option<u64>,
}

fn yes() -> bool {
    true
}

impl Options {
    /// # Errors
    /// Everything that is wrong with it.
    pub fn validate(&self) -> Result<Ready, Vec<Problem>> {
        let mut problems = Problems::default();
        let path = PathBuf::from(&self.path);
        if self.path.contains('\0') || self.path.ends_with('/') || path.file_name().is_none() {
            let problem = Problem::new("path", "is not the path of a file");
            problems.push(problem.help("it looks like `/var/lib/app/events.ndjson`"));
        }
        let rotate = self.rotate_bytes;
        if rotate.is_some_and(|bytes| !(ROTATE_BYTES_MIN..=ROTATE_BYTES_MAX).contains(&bytes)) {
            let message = format!("must be between {ROTATE_BYTES_MIN} and {ROTATE_BYTES_MAX}");
            problems.push(Problem::new("rotate_bytes", message));
        }
        let rotate_bytes = rotate.map(i64::unsigned_abs);
        problems.or(Some(Ready { path, sync: self.sync, rotate_bytes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_must_name_a_file() {
        let options =
            |path: &str| Options { path: path.to_owned(), sync: true, rotate_bytes: Some(4_096) };
        for path in ["events.ndjson", "/var/lib/events", "a b/é"] {
            assert_eq!(options(path).validate().unwrap().path, PathBuf::from(path));
        }
        for path in ["", "/", "..", "events/", "a\0b"] {
            let problems = Options { rotate_bytes: Some(1), ..options(path) }.validate();
            let fields: Vec<_> = problems.unwrap_err().iter().map(|it| it.field).collect();
            assert_eq!(fields, ["path", "rotate_bytes"], "{path:?}");
        }
    }
}
