//! Compiled components on disk, so that a restart does not compile again what it compiled before.
//!
//! What lies here is machine code that will be run as it is, so the directory is ours alone: made
//! with mode 0700, and refused if anybody else owns it or may write to it. A file is named by the
//! digest of its component and by everything of the engine that its code depends on (version,
//! flags, processor), and begins with the digest of what follows: one that is cut or changed is
//! thrown away and compiled anew. Files appear by being renamed, so nobody reads half of one.
//!
//! Nothing here is needed: whatever fails is told in the log, and the component is compiled.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{fs, io};

use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// The first bytes of a file; its last digit is the version of the layout.
const MAGIC: &[u8; 8] = b"sequin-1";

/// Of the header: magic and digest.
const HEADER_BYTES: usize = MAGIC.len() + 32;

/// Code of components that were used last is kept up to this size; 35 MB is a Python guest's, the
/// largest measured.
const BYTES_MAX: u64 = 512 << 20;

const SUFFIX: &str = "cwasm";

/// A directory of compiled components.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
    bytes_max: u64,
}

impl Cache {
    /// Makes the directory if it is not there.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let metadata = fs::metadata(dir)?;
        let ours = metadata.uid() == rustix::process::geteuid().as_raw();
        if !ours || metadata.permissions().mode() & 0o022 != 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it belongs to somebody else, or others may write to it: machine code is kept there \
                 (chmod 700, or another directory)",
            ));
        }
        Ok(Self { dir: dir.to_path_buf(), bytes_max: BYTES_MAX })
    }

    /// The compiled component, if it is here and whole.
    pub(crate) fn load(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let file = self.file(engine, digest);
        let bytes = match fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tell("read", &file, &error);
                }
                return None;
            }
        };
        let loaded = whole(&bytes)
            .ok_or("it is cut or was changed".to_owned())
            .and_then(|code| deserialize(engine, code).map_err(|error| error.to_string()));
        match loaded {
            Ok(component) => {
                touch(&file);
                Some(component)
            }
            Err(reason) => {
                tell("use", &file, &reason);
                fs::remove_file(&file).ok();
                None
            }
        }
    }

    /// Keeps a compiled component.
    pub(crate) fn store(&self, engine: &Engine, digest: &str, component: &Component) {
        let file = self.file(engine, digest);
        let written = component.serialize().map_err(io::Error::other).and_then(|code| {
            let mut temporary = tempfile::NamedTempFile::new_in(&self.dir)?;
            temporary.write_all(MAGIC)?;
            temporary.write_all(&Sha256::digest(&code))?;
            temporary.write_all(&code)?;
            temporary.persist(&file)?;
            Ok(())
        });
        match written {
            Ok(()) => self.trim(),
            Err(error) => tell("write", &file, &error),
        }
    }

    fn file(&self, engine: &Engine, digest: &str) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let digest = digest.replace(':', "-");
        self.dir.join(format!("{digest}-{:016x}.{SUFFIX}", hasher.finish()))
    }

    /// Removes what was not used for the longest time, down to the size that may be kept.
    fn trim(&self) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        let mut files: Vec<(SystemTime, u64, PathBuf)> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|suffix| suffix == SUFFIX))
            .filter_map(|path| {
                let metadata = fs::metadata(&path).ok()?;
                Some((metadata.modified().ok()?, metadata.len(), path))
            })
            .collect();
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        // The newest stays, whatever its size.
        files.pop();
        for (_, length, path) in files {
            if bytes <= self.bytes_max {
                break;
            }
            if fs::remove_file(&path).is_ok() {
                bytes -= length;
            }
        }
    }
}

/// Says that a file was used now, for `trim`. If that cannot be said, it is not.
#[expect(
    clippy::disallowed_methods,
    reason = "the file system's time: nothing of ours hangs on it"
)]
fn touch(file: &Path) {
    let now = fs::FileTimes::new().set_modified(SystemTime::now());
    fs::File::options().append(true).open(file).and_then(|file| file.set_times(now)).ok();
}

/// The code behind the header, if it is what was written.
fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let (header, code) = bytes.split_at_checked(HEADER_BYTES)?;
    let digest = header.strip_prefix(MAGIC)?;
    (digest == Sha256::digest(code).as_slice()).then_some(code)
}

#[expect(unsafe_code, reason = "wasmtime cannot check machine code")]
fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes are those that `store` got from `Component::serialize`: their digest
    // matches, in a directory that nobody else can write to. Who can write there as this user can
    // replace the program itself. A file of another version or configuration is refused.
    unsafe { Component::deserialize(engine, code) }
}

fn tell(what: &str, file: &Path, reason: &dyn std::fmt::Display) {
    let file = file.display();
    tracing::warn!(%file, %reason, "cannot {what} a compiled component; it is compiled anew");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest component there is.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    fn entries(dir: &Path) -> Vec<PathBuf> {
        let mut paths: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }

    fn world() -> (tempfile::TempDir, Cache, Engine, Component) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(&dir.path().join("a/b")).unwrap();
        let engine = Engine::default();
        let component = Component::from_binary(&engine, EMPTY).unwrap();
        (dir, cache, engine, component)
    }

    #[test]
    fn what_was_compiled_is_found_again_by_the_same_engine_only() {
        let (_dir, cache, engine, component) = world();
        assert!(cache.load(&engine, "sha256:1").is_none());
        cache.store(&engine, "sha256:1", &component);
        assert!(cache.load(&engine, "sha256:1").is_some());
        assert!(cache.load(&engine, "sha256:2").is_none());
        let mut config = wasmtime::Config::new();
        config.epoch_interruption(true);
        let other = Engine::new(&config).unwrap();
        assert!(cache.load(&other, "sha256:1").is_none());
        assert_eq!(entries(&cache.dir).len(), 1, "and the first one's is left alone");
    }

    #[test]
    fn what_is_cut_or_changed_is_thrown_away() {
        let (_dir, cache, engine, component) = world();
        cache.store(&engine, "sha256:1", &component);
        let [file] = &entries(&cache.dir)[..] else { panic!() };
        let good = fs::read(file).unwrap();
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for bad in [&[][..], &good[..HEADER_BYTES - 1], &good[..good.len() - 1], &flipped] {
            fs::write(file, bad).unwrap();
            assert!(cache.load(&engine, "sha256:1").is_none());
            assert!(!file.exists(), "so that it is written anew");
        }
        cache.store(&engine, "sha256:1", &component);
        assert!(cache.load(&engine, "sha256:1").is_some());
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o720)).unwrap();
        let error = Cache::open(dir.path()).unwrap_err();
        assert!(error.to_string().contains("others may write"), "{error}");
    }

    #[test]
    fn the_longest_unused_go_first() {
        let (_dir, mut cache, engine, component) = world();
        for (age_s, digest) in [(30, "sha256:1"), (20, "sha256:2"), (10, "sha256:3")] {
            cache.store(&engine, digest, &component);
            let file = fs::File::options().append(true).open(cache.file(&engine, digest)).unwrap();
            let written = file.metadata().unwrap().modified().unwrap();
            let then = written - std::time::Duration::from_secs(age_s);
            file.set_times(fs::FileTimes::new().set_modified(then)).unwrap();
        }
        assert!(cache.load(&engine, "sha256:1").is_some(), "used again");
        let one = fs::metadata(cache.file(&engine, "sha256:1")).unwrap().len();
        cache.bytes_max = one * 2;
        cache.trim();
        let left =
            ["sha256:1", "sha256:2", "sha256:3"].map(|digest| cache.file(&engine, digest).exists());
        assert_eq!(left, [true, false, true]);
        cache.bytes_max = 0;
        cache.trim();
        assert_eq!(entries(&cache.dir).len(), 1, "the newest stays");
    }
}
