//! The bytes of components: a file each, named by its digest, written once, checked when read.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use model::store::StoreError;
use model::versions::VersionsError;
use sha2::{Digest as _, Sha256};

/// In the data directory.
const DIRECTORY: &str = "plugins";
const SUFFIX: &str = "wasm";
/// Of a file that is being written; what a kill leaves of one is removed with the garbage.
const PART: &str = "part";

/// Hexadecimal digits of a SHA-256.
const DIGITS: usize = 64;

/// Where the bytes are.
#[derive(Clone, Debug)]
pub(super) struct Bytes(PathBuf);

impl Bytes {
    pub(super) fn new(data: &Path) -> Self {
        Self(data.join(DIRECTORY))
    }

    pub(super) fn read(&self, digest: &str) -> Result<Vec<u8>, VersionsError> {
        let unknown = || {
            let what = format!("the bytes of {digest} are not kept here: push them again");
            VersionsError::refused("unknown_digest", what)
        };
        let path = self.path(digest).ok_or_else(unknown)?;
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(unknown()),
            Err(error) => return Err(failed(&path, &error)),
        };
        if digest_of(&bytes) == digest {
            return Ok(bytes);
        }
        let path = path.display();
        let what = format!(
            "{path} is not what was written: its disk is damaged, or somebody changed \
             it. Push {digest} again, which writes it anew"
        );
        Err(VersionsError::refused("damaged", what))
    }

    pub(super) fn keep(&self, digest: &str, bytes: &[u8]) -> Result<(), VersionsError> {
        let mismatch = || {
            let what = format!("the bytes are {}, not {digest}", digest_of(bytes));
            VersionsError::refused("digest_mismatch", what)
        };
        let path = self.path(digest).filter(|_| digest_of(bytes) == digest).ok_or_else(mismatch)?;
        if self.read(digest).is_ok() {
            return Ok(());
        }
        let write = || {
            fs::create_dir_all(&self.0)?;
            // Of this process alone, which has the lock of the directory.
            static NEXT: AtomicU64 = AtomicU64::new(0);
            let part = format!("{}.{PART}", NEXT.fetch_add(1, Ordering::Relaxed));
            let part = self.0.join(part);
            let mut file = File::create(&part)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&part, &path)?;
            // The name, too.
            File::open(&self.0)?.sync_all()
        };
        write().map_err(|error| failed(&path, &error))
    }

    /// Removes all but those that are needed; tells which.
    pub(super) fn collect(&self, needed: &[String]) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut removed = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let suffix = path.extension().unwrap_or_default();
            let digest = format!("sha256:{stem}");
            if suffix == SUFFIX && !needed.contains(&digest) {
                fs::remove_file(&path)?;
                removed.push(digest);
            } else if suffix == PART {
                fs::remove_file(&path)?;
            }
        }
        removed.sort();
        Ok(removed)
    }

    /// None if that is no digest: it may come from outside, and becomes the name of a file.
    fn path(&self, digest: &str) -> Option<PathBuf> {
        let digits = digest.strip_prefix("sha256:")?;
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let good = digits.len() == DIGITS && digits.bytes().all(digit);
        good.then(|| self.0.join(format!("{digits}.{SUFFIX}")))
    }
}

/// The identity of a component.
fn digest_of(bytes: &[u8]) -> String {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

fn failed(path: &Path, error: &io::Error) -> VersionsError {
    let text = format!("{}: {error}", path.display());
    VersionsError::Store(match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full(text),
        _ => StoreError::Unavailable(text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b270_what_was_kept_is_checked_when_it_is_read_and_mended_by_another_push() {
        let directory = tempfile::tempdir().unwrap();
        let bytes = Bytes::new(directory.path());
        let digest = digest_of(b"one");
        let code = |result: Result<Vec<u8>, VersionsError>| match result {
            Err(VersionsError::Refused { code, .. }) => code,
            other => panic!("{other:?}"),
        };
        assert_eq!(code(bytes.read(&digest)), "unknown_digest");
        assert!(matches!(
            bytes.keep(&digest, b"two"),
            Err(VersionsError::Refused { code: "digest_mismatch", .. })
        ));
        bytes.keep(&digest, b"one").unwrap();
        assert_eq!(bytes.read(&digest).unwrap(), b"one");
        fs::write(bytes.path(&digest).unwrap(), b"on").unwrap();
        assert_eq!(code(bytes.read(&digest)), "damaged");
        bytes.keep(&digest, b"one").unwrap();
        assert_eq!(bytes.read(&digest).unwrap(), b"one");
        for bad in ["sha256:../../x", "sha256:", "x", &digest.to_uppercase()] {
            assert_eq!(code(bytes.read(bad)), "unknown_digest", "{bad}");
        }
        bytes.keep(&digest_of(b"two"), b"two").unwrap();
        fs::write(bytes.0.join("7.part"), b"cut").unwrap();
        assert_eq!(bytes.collect(std::slice::from_ref(&digest)).unwrap(), [digest_of(b"two")]);
        assert_eq!(fs::read_dir(&bytes.0).unwrap().count(), 1);
    }
}
