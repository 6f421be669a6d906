//! Whether files are as they were.
//!
//! Looked at, not listened to: that sees an editor's write, a file that is put in the place of
//! another, and the change of a symbolic link anywhere in the path (as Kubernetes changes mounted
//! files) alike, on every kind of file system. Metadata is looked at often, content only where that
//! differs.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// What tells one version of a file from another without reading it: device, inode, size, time of
/// the last change in seconds and nanoseconds. None: it is not there.
type Stamp = Option<[u64; 5]>;

/// What was seen of some files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen(BTreeMap<PathBuf, Stamp>);

impl Seen {
    /// Looks at the files, and at what is in directories among them.
    pub(crate) fn look<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let mut seen = BTreeMap::new();
        for path in paths {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            seen.extend(entries.map(|entry| (entry.path(), stamp(&entry.path()))));
            seen.insert(path.to_owned(), stamp(path));
        }
        Self(seen)
    }

    /// Whether what both have seen is the same to both.
    fn agrees(&self, other: &Self) -> bool {
        self.0.iter().all(|(path, stamp)| other.0.get(path).is_none_or(|other| other == stamp))
    }

    /// A hash of all contents.
    fn content(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for path in self.0.keys() {
            // What cannot be read counts as not there: whoever needs it will say so.
            let content = std::fs::read(path).unwrap_or_default();
            hash.update(path.as_os_str().as_encoded_bytes());
            hash.update([0]);
            hash.update((content.len() as u64).to_be_bytes());
            hash.update(content);
        }
        hash.finalize().into()
    }
}

/// Of what a link leads to.
fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    let times = [metadata.mtime().cast_unsigned(), metadata.mtime_nsec().cast_unsigned()];
    Some([metadata.dev(), metadata.ino(), metadata.size(), times[0], times[1]])
}

/// Tells when files have changed and stay as they are.
#[derive(Debug)]
pub(crate) struct Watch {
    /// The last look.
    seen: Seen,
    /// What was taken up.
    content: [u8; 32],
    /// Something is other than what was taken up: a half of it may still be to come.
    moving: bool,
}

impl Watch {
    /// As the files are now.
    pub(crate) fn new(seen: Seen) -> Self {
        let content = seen.content();
        Self { seen, content, moving: false }
    }

    /// Goes on with what is `seen` after the files were read, for which this was made before. They may
    /// be other files now; one that changed meanwhile counts as changed.
    pub(crate) fn go_on(self, seen: Seen) -> Self {
        if seen == self.seen {
            return self;
        }
        if seen.agrees(&self.seen) {
            return Self::new(seen);
        }
        Self { seen, content: self.content, moving: true }
    }

    /// Looks again. True once something has changed and is the same at two looks after each other,
    /// so that a file which is being written is not read half.
    pub(crate) fn changed(&mut self, seen: Seen) -> bool {
        if seen != self.seen {
            self.seen = seen;
            self.moving = true;
            return false;
        }
        if !std::mem::take(&mut self.moving) {
            return false;
        }
        let content = self.seen.content();
        std::mem::replace(&mut self.content, content) != content
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Files {
        dir: tempfile::TempDir,
        watch: Watch,
    }

    impl Files {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("plugins")).unwrap();
            fs::write(dir.path().join("a"), "1").unwrap();
            let watch = Watch::new(look(&dir));
            Self { dir, watch }
        }

        fn changed(&mut self) -> bool {
            self.watch.changed(look(&self.dir))
        }

        /// Whether a change is told, once, at the second look.
        fn tells(&mut self) -> bool {
            !self.changed() && self.changed() && !self.changed()
        }
    }

    fn look(dir: &tempfile::TempDir) -> Seen {
        let paths = ["a", "plugins"].map(|name| dir.path().join(name));
        Seen::look(paths.iter().map(PathBuf::as_path))
    }

    #[test]
    fn a_change_is_told_once_it_stays() {
        let mut files = Files::new();
        let path = files.dir.path().join("a");
        assert!(!files.changed());
        fs::write(&path, "12").unwrap();
        assert!(!files.changed(), "it may be half");
        fs::write(&path, "123").unwrap();
        assert!(files.tells());
        fs::remove_file(&path).unwrap();
        assert!(files.tells());
    }

    #[test]
    fn a_file_in_the_place_of_another_and_a_link_are_seen() {
        let mut files = Files::new();
        let (path, next) = (files.dir.path().join("a"), files.dir.path().join("next"));
        fs::write(&next, "2").unwrap();
        fs::rename(&next, &path).unwrap();
        assert!(files.tells());
        fs::write(&next, "3").unwrap();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&next, &path).unwrap();
        assert!(files.tells());
        fs::write(files.dir.path().join("plugins/x.wasm"), "x").unwrap();
        assert!(files.tells());
    }

    #[test]
    fn a_change_while_the_files_are_read_is_not_lost() {
        let files = Files::new();
        let before = Watch::new(look(&files.dir));
        fs::write(files.dir.path().join("a"), "12").unwrap();
        let mut after = before.go_on(look(&files.dir));
        assert!(after.changed(look(&files.dir)));
        assert!(!after.changed(look(&files.dir)));
        // Another file is watched too, and nothing has changed.
        let more = ["a", "b"].map(|name| files.dir.path().join(name));
        let more = || Seen::look(more.iter().map(PathBuf::as_path));
        let mut after = Watch::new(look(&files.dir)).go_on(more());
        assert!(!after.changed(more()) && !after.changed(more()));
    }

    #[test]
    fn the_same_content_is_no_change() {
        let mut files = Files::new();
        let (path, next) = (files.dir.path().join("a"), files.dir.path().join("next"));
        fs::write(&next, "1").unwrap();
        fs::rename(&next, &path).unwrap();
        assert!(!files.changed() && !files.changed() && !files.changed());
    }
}
