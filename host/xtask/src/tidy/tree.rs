//! The text files of the repository.

use std::path::Path;

use anyhow::Context as _;

use super::frozen::SUMS;

/// Directories that hold nothing of ours.
const SKIPPED: [&str; 3] = ["target", ".git", "node_modules"];

/// What the rules read.
const EXTENSIONS: [&str; 4] = ["rs", "md", "toml", "wit"];

/// Files without an extension that some rule is about.
const NAMES: [&str; 2] = [".ci/run", SUMS];

/// A file and its text.
pub(super) struct File {
    /// From the root, with forward slashes.
    pub path: String,
    pub text: String,
}

/// All files that some rule is about.
pub(super) struct Tree {
    files: Vec<File>,
}

impl Tree {
    pub(super) fn read(root: &Path) -> anyhow::Result<Self> {
        let mut files = Vec::new();
        collect(root, root, &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { files })
    }

    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let file = |&(path, text): &(&str, &str)| File { path: path.into(), text: text.into() };
        Self { files: files.iter().map(file).collect() }
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &File> {
        self.files.iter()
    }

    pub(super) fn get(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// The files whose name ends so.
    pub(super) fn with_extension(&self, extension: &str) -> impl Iterator<Item = &File> {
        let suffix = format!(".{extension}");
        self.files.iter().filter(move |file| file.path.ends_with(&suffix))
    }
}

fn collect(root: &Path, dir: &Path, files: &mut Vec<File>) -> anyhow::Result<()> {
    for entry in dir.read_dir().with_context(|| format!("list {}", dir.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if !SKIPPED.contains(&name.as_ref()) && !path.is_symlink() {
                collect(root, &path, files)?;
            }
        } else if is_read(&path) {
            let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy();
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("read {}", path.display()))?;
            files.push(File { path: relative.into_owned(), text });
        }
    }
    Ok(())
}

fn is_read(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
        || NAMES.iter().any(|name| path.ends_with(name))
}
