//! Finds the component that a function names: a file, a version that was uploaded, or one of the
//! plugin directory by what its author wrote into it; or by its digest, wherever it is.

use std::path::{Path, PathBuf};

use config::spec::Component;
use plugin::{Inspection, Limits};

use crate::bindings::Known;

/// The plugin directory, read when the first function asks for something in it, and what was
/// uploaded.
pub(crate) struct Components<'a> {
    directory: &'a Path,
    known: &'a Known,
    limits: Limits,
    entries: Option<Result<Entries, String>>,
}

/// A component of a plugin directory; None if it is not there.
///
/// # Errors
/// The directory cannot be read, or it is not clear which one is meant.
pub(crate) fn local(directory: &Path, component: &Component) -> Result<Option<PathBuf>, String> {
    if !directory.is_dir() {
        return Ok(None);
    }
    let entries = Entries::read(directory, &Limits::default())?;
    let mut meant = entries.known.into_iter().filter(|entry| entry.is_it(component));
    let Some(first) = meant.next() else { return Ok(None) };
    match meant.find(|other| other.digest != first.digest) {
        None => Ok(Some(first.path)),
        Some(other) => Err(format!(
            "{} and {} both say that they are {}, and differ",
            first.path.display(),
            other.path.display(),
            show(component)
        )),
    }
}

/// What is in the directory, in the order of its names.
struct Entries {
    known: Vec<Entry>,
    /// Files that end in `.wasm` and are no components, and why.
    unusable: Vec<String>,
}

struct Entry {
    path: PathBuf,
    digest: String,
    name: Option<String>,
    version: Option<String>,
}

/// A component that was found.
pub(crate) struct Found {
    /// For messages.
    pub(crate) whence: String,
    /// Its file, if it is one that its owner put there.
    pub(crate) path: Option<PathBuf>,
    pub(crate) bytes: Vec<u8>,
}

impl<'a> Components<'a> {
    pub(crate) fn new(directory: &'a Path, known: &'a Known) -> Self {
        Self { directory, known, limits: Limits::default(), entries: None }
    }

    /// What is to be said of a named component that is nowhere here; None of one that is somewhere,
    /// and of a file.
    pub(crate) fn missing(&mut self, component: &Component) -> Option<String> {
        // What is wrong with one that came is told where it is loaded.
        if matches!(component, Component::File(_))
            || self.problem(component).is_some()
            || self.known.component(component).is_some()
        {
            return None;
        }
        let (directory, limits) = (self.directory, &self.limits);
        match self.entries.get_or_insert_with(|| Entries::read(directory, limits)) {
            Ok(entries) if entries.known.iter().any(|entry| entry.is_it(component)) => None,
            Ok(entries) => Some(entries.missing(component, directory)),
            Err(error) => Some(error.clone()),
        }
    }

    /// Why a component that should have come with the configuration cannot be used.
    fn problem(&self, component: &Component) -> Option<String> {
        let called = show(component);
        self.known.problems().get(&called).map(|why| format!("{called}: {why}"))
    }

    /// The component's bytes.
    ///
    /// # Errors
    /// It is not there, it cannot be read, or it is not clear which one is meant; with what is
    /// there instead.
    pub(crate) fn find(&mut self, component: &Component) -> Result<Found, String> {
        let is_meant = |entry: &Entry| entry.is_it(component);
        if let Component::File(path) = component {
            let bytes = std::fs::read(path);
            let failed = |error| format!("file {}: {error}", path.display());
            return Ok(Found::file(path, bytes.map_err(failed)?));
        }
        if let Some(problem) = self.problem(component) {
            return Err(problem);
        }
        let (directory, limits) = (self.directory, &self.limits);
        let entries = self.entries.get_or_insert_with(|| Entries::read(directory, limits));
        if let Some(found) = self.known.component(component) {
            let bytes = found?;
            // A name means one thing only.
            let digest = inspect(&bytes, limits)?.digest;
            let known = entries.as_ref().map_or(&[][..], |entries| &entries.known);
            let other = known.iter().find(|entry| is_meant(entry) && entry.digest != digest);
            return match other {
                None => Ok(Found { whence: show(component), path: None, bytes }),
                Some(other) => Err(format!(
                    "{} was uploaded as {digest}, and {} says that it is that, and differs: remove \
                     it, or name the one that is meant by its digest",
                    show(component),
                    other.path.display()
                )),
            };
        }
        let entries = entries.as_ref().map_err(String::clone)?;
        let mut meant = entries.known.iter().filter(|entry| is_meant(entry));
        let Some(first) = meant.next() else {
            return Err(entries.missing(component, directory));
        };
        if let Some(other) = meant.find(|other| other.digest != first.digest) {
            return Err(format!(
                "{} and {} both say that they are {}, and differ: remove one of them, or name the \
                 one that is meant by its digest, `plugin: {}` or `plugin: {}`",
                first.path.display(),
                other.path.display(),
                show(component),
                first.digest,
                other.digest
            ));
        }
        let bytes = std::fs::read(&first.path);
        let bytes = bytes.map_err(|error| format!("file {}: {error}", first.path.display()))?;
        // Between the two readings somebody may have put another file there.
        let again = inspect(&bytes, limits)?;
        if again.digest != first.digest {
            return Err(format!("{} was changed while it was read", first.path.display()));
        }
        Ok(Found::file(&first.path, bytes))
    }
}

impl Found {
    fn file(path: &Path, bytes: Vec<u8>) -> Self {
        Self { whence: format!("file {}", path.display()), path: Some(path.to_owned()), bytes }
    }
}

impl Entries {
    fn read(directory: &Path, limits: &Limits) -> Result<Self, String> {
        let failed = |error: std::io::Error| {
            let directory = directory.display();
            format!(
                "the plugin directory {directory} cannot be read: {error}; SEQUIN_PLUGIN_DIR says \
                 where it is"
            )
        };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "wasm") {
                paths.push(path);
            }
        }
        paths.sort();
        let mut entries = Self { known: Vec::new(), unusable: Vec::new() };
        for path in paths {
            match look(&path, limits) {
                Ok(Inspection { digest, name, version, .. }) => {
                    entries.known.push(Entry { path, digest, name, version });
                }
                Err(reason) => entries.unusable.push(format!("{} ({reason})", path.display())),
            }
        }
        Ok(entries)
    }

    fn missing(&self, component: &Component, directory: &Path) -> String {
        let (wanted, directory) = (show(component), directory.display());
        let mut text = format!("there is no plugin {wanted} in {directory}, and none was pushed");
        let names: Vec<String> = self.known.iter().map(Entry::show).collect();
        match config::nearest(&wanted, names.iter().map(String::as_str)) {
            Some(near) => text += &format!("; did you mean `{near}`?"),
            None if names.is_empty() => text += ", which holds no component",
            None => text += &format!("; there are {}", names.join(", ")),
        }
        if !self.unusable.is_empty() {
            text += &format!("; not usable: {}", self.unusable.join(", "));
        }
        text
    }
}

impl Entry {
    fn is_it(&self, component: &Component) -> bool {
        match component {
            Component::File(_) => false,
            Component::Digest(digest) => self.digest == *digest,
            Component::Named { name, version } => {
                self.name.as_ref() == Some(name) && self.version.as_ref() == Some(version)
            }
        }
    }

    fn show(&self) -> String {
        match (&self.name, &self.version) {
            (Some(name), Some(version)) => format!("{name}@{version}"),
            // It can be named by its digest only.
            _ => format!("{} ({})", self.digest, self.path.display()),
        }
    }
}

pub(crate) fn show(component: &Component) -> String {
    match component {
        Component::File(path) => path.display().to_string(),
        Component::Named { name, version } => format!("{name}@{version}"),
        Component::Digest(digest) => digest.clone(),
    }
}

/// What the file is. One that is too large for a component is not read.
fn look(path: &Path, limits: &Limits) -> Result<Inspection, String> {
    let bytes = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if bytes > limits.component_bytes_max.try_into().unwrap_or(u64::MAX) {
        return Err(format!("{bytes} bytes are too many"));
    }
    inspect(&std::fs::read(path).map_err(|error| error.to_string())?, limits)
}

fn inspect(bytes: &[u8], limits: &Limits) -> Result<Inspection, String> {
    plugin::inspect(bytes, limits).map_err(|error| error.to_string())
}
