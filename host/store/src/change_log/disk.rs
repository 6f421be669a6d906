//! The files of a log, as far as they are needed: so that a test can be a disk that loses what was
//! not synced.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A disk.
pub(super) trait Disk: Send + Sync {
    /// Makes a directory, and those above it.
    fn make_directory(&self, path: &Path) -> io::Result<()>;
    /// Writes a small file for whoever looks at the directory, if it is not there.
    fn name(&self, path: &Path, text: &str) -> io::Result<()>;
    /// The files in a directory, in no order.
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;
    /// Makes an empty file; one of this name is replaced. It is found again once the directory is
    /// synced.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file for reading.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Brings the names of a directory to the disk.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
}

/// A file of it.
pub(super) trait DiskFile: Send + Sync {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Writes all of it at this place.
    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Fills all of it from this place on.
    fn read(&self, into: &mut [u8], at: u64) -> io::Result<()>;
    /// Brings what was written to the disk.
    fn sync(&self) -> io::Result<()>;
}

/// The file system.
pub(super) struct Files;

impl Disk for Files {
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)?;
        // Its own name has to be found again too.
        path.parent().map_or(Ok(()), |parent| self.sync_directory(parent))
    }

    fn name(&self, path: &Path, text: &str) -> io::Result<()> {
        if path.exists() { Ok(()) } else { std::fs::write(path, text) }
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        std::fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path())).collect()
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = File::options().create(true).truncate(true).read(true).write(true).open(path)?;
        Ok(Arc::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(File::open(path)?))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

impl DiskFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn read(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(into, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
