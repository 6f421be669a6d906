//! Appends lines to a file, whole or not at all. Everything here may wait for the disk.
//!
//! What fails is cut back, so that the next attempt does not stand behind half of the last. What a
//! kill left is made good when the file is opened, under a lock that only one appender has.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use model::sink::SinkError;
use options::file::Ready;
use serde::de::IgnoredAny;

/// Read at once when the end of the last line is searched.
const BLOCK: usize = 64 << 10;
/// A last line without an end is looked at only if it is no longer than this, in bytes.
const TAIL_MAX: u64 = 64 << 20;

pub(super) struct Appender {
    options: Ready,
    open: Option<File>,
    /// Another one in tests of disks that are full.
    write: fn(&mut File, &[u8]) -> io::Result<()>,
}

impl Appender {
    pub(super) fn new(options: Ready) -> Self {
        Self { options, open: None, write: |file, bytes| file.write_all(bytes) }
    }

    /// Whether it could be written. Neither writes nor creates it.
    pub(super) fn check(&self) -> Result<(), SinkError> {
        let path = self.options.path.as_path();
        match path.metadata() {
            Ok(found) => {
                self.check_kind(&found)?;
                let opened = OpenOptions::new().append(true).open(path);
                opened.map(drop).map_err(|error| self.failed("open", &error))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let found = directory(path).metadata();
                found.map(drop).map_err(|error| self.no_directory(&error))
            }
            Err(error) => Err(self.failed("open", &error)),
        }
    }

    /// Appends whole lines. After an error none of them is there, as far as the disk still obeys.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), SinkError> {
        let mut file = self.current()?;
        let found = file.metadata().map_err(|error| self.failed("read", &error))?;
        let mut length = found.len();
        let is_full = |max| length > 0 && length.saturating_add(lines.len() as u64) > max;
        if self.options.rotate_bytes.is_some_and(is_full) {
            self.rotate()?;
            file = self.open()?;
            length = 0;
        }
        let written = (self.write)(&mut file, lines);
        // After a sync that failed nobody knows what the disk has: it is written anew.
        let synced = written.and_then(|()| self.sync(&file));
        if let Err(error) = synced {
            // If that fails too, half a line is found when the file is opened again.
            file.set_len(length).ok();
            return Err(self.failed("write", &error));
        }
        self.open = Some(file);
        Ok(())
    }

    /// The file under its name: opened, if it is not, or not any more because somebody moved it.
    fn current(&mut self) -> Result<File, SinkError> {
        let Some(file) = self.open.take() else { return self.open() };
        let is_same = |a: &Metadata, b: &Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        match (file.metadata(), self.options.path.metadata()) {
            (Ok(open), Ok(named)) if is_same(&open, &named) => Ok(file),
            _ => self.open(),
        }
    }

    fn open(&self) -> Result<File, SinkError> {
        let path = self.options.path.as_path();
        // Opening a pipe would wait for a reader.
        if let Ok(found) = path.metadata() {
            self.check_kind(&found)?;
        }
        let mut options = OpenOptions::new();
        let opened = options.read(true).append(true).create(true).open(path);
        let file = opened.map_err(|error| match error.kind() {
            ErrorKind::NotFound => self.no_directory(&error),
            _ => self.failed("open", &error),
        })?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let name = path.display();
                let message = format!("{name} is being written by another sink or process");
                return Err(SinkError::misconfigured(message));
            }
            Err(TryLockError::Error(error)) => return Err(self.failed("lock", &error)),
        }
        self.end_last_line(&file)?;
        if self.options.sync {
            // The name of a new file is on disk only with its directory.
            let synced = File::open(directory(path)).and_then(|directory| directory.sync_all());
            synced.map_err(|error| self.failed("write", &error))?;
        }
        Ok(file)
    }

    /// Cuts off what a kill left of a line; it was not delivered. What looks like anybody's else is
    /// not touched.
    fn end_last_line(&self, file: &File) -> Result<(), SinkError> {
        let repaired = last_line(file).and_then(|(start, end)| {
            if start == end {
                return Ok(true);
            }
            let mut first = [0];
            file.read_exact_at(&mut first, start)?;
            // A disk that lost its power may leave zeros.
            if !matches!(first, [b'{' | 0]) {
                return Ok(false);
            }
            if is_whole(file, start, end)? {
                let mut file = file;
                file.write_all(b"\n")?;
            } else {
                file.set_len(start)?;
            }
            self.sync(file).map(|()| true)
        });
        match repaired {
            Ok(true) => Ok(()),
            Ok(false) => Err(SinkError::misconfigured(format!(
                "the last line of {} has no end and is no message: end it, or choose another path",
                self.options.path.display()
            ))),
            Err(error) => Err(self.failed("repair", &error)),
        }
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        if self.options.sync { file.sync_data() } else { Ok(()) }
    }

    /// Moves the file to the next number behind its name.
    fn rotate(&self) -> Result<(), SinkError> {
        let path = self.options.path.as_path();
        let rotated = next_name(path).and_then(|name| std::fs::rename(path, name));
        rotated.map_err(|error| self.failed("rotate", &error))
    }

    fn check_kind(&self, found: &Metadata) -> Result<(), SinkError> {
        if found.is_file() {
            return Ok(());
        }
        let path = self.options.path.display();
        Err(SinkError::misconfigured(format!("{path} is there and is no ordinary file")))
    }

    fn no_directory(&self, error: &io::Error) -> SinkError {
        let directory = directory(&self.options.path).display();
        SinkError::misconfigured(format!("the directory {directory} cannot be used: {error}"))
    }

    fn failed(&self, what: &str, error: &io::Error) -> SinkError {
        let message = format!("cannot {what} {}: {error}", self.options.path.display());
        match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                SinkError::misconfigured(message)
            }
            // A disk is full, or gives no answer: no other message would have fared better.
            _ => SinkError::unreachable(message),
        }
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Where the last line begins, and where it ends; the same if it has an end.
fn last_line(file: &File) -> io::Result<(u64, u64)> {
    let end = file.metadata()?.len();
    let mut start = end;
    let mut block = vec![0; BLOCK];
    while start > 0 {
        let size = usize::try_from(start).map_or(BLOCK, |start| start.min(BLOCK));
        let block = block.split_at_mut(size).0;
        start -= size as u64;
        file.read_exact_at(block, start)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            start += at as u64 + 1;
            break;
        }
    }
    Ok((start, end))
}

/// Whether all of a line is there but its end.
fn is_whole(file: &File, start: u64, end: u64) -> io::Result<bool> {
    if end - start > TAIL_MAX {
        return Ok(false);
    }
    let mut line = vec![0; usize::try_from(end - start).unwrap_or(0)];
    file.read_exact_at(&mut line, start)?;
    Ok(serde_json::from_slice::<IgnoredAny>(&line).is_ok())
}

/// The path with the number behind it that comes after all that are there: they tell the order.
fn next_name(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut last = 0;
    for entry in std::fs::read_dir(directory(path))? {
        let other = entry?.file_name();
        let number = other.to_str().and_then(|other| other.strip_prefix(&*name)?.strip_prefix('.'));
        last = last.max(number.and_then(|number| number.parse().ok()).unwrap_or(0_u64));
    }
    let mut next = path.as_os_str().to_owned();
    next.push(format!(".{}", last + 1));
    Ok(next.into())
}

#[cfg(test)]
mod tests;
