//! A small disk of its own for the engine's state, which can be filled: a tmpfs, which takes root.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// What the change log takes in a campaign of minutes is much less.
const SIZE: &str = "size=192m";

/// A mounted disk; unmounted with its value.
pub(crate) struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    pub(crate) fn mount() -> Result<Self> {
        ensure!(tests::is_root(), "only root may mount a small disk");
        let dir = tempfile::Builder::new().prefix("sequin-disk-").tempdir()?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", SIZE, "chaos"]).arg(dir.path());
        let output = mount.output().context("start mount")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "mount a small disk: {}", said.trim());
        Ok(Self { dir })
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Leaves no byte free.
    pub(crate) fn fill(&self) -> Result<()> {
        let mut file = File::create(self.ballast())?;
        let mut bytes = vec![0; 1 << 20];
        // Smaller and smaller pieces, until nothing goes in any more.
        while !bytes.is_empty() {
            if file.write_all(&bytes).is_err() {
                bytes.truncate(bytes.len() / 2);
            }
        }
        Ok(())
    }

    pub(crate) fn free(&self) -> Result<()> {
        std::fs::remove_file(self.ballast()).context("remove the ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: nothing of it is wanted any more, whoever still has it open.
        Command::new("umount").arg("-l").arg(self.dir.path()).status().ok();
    }
}
