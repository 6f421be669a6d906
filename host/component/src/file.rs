//! Writes a component.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::error::Error;

/// Writes these bytes to the file, unless they are there already; whether it did. The directory is
/// made if it is not there. Who watches the file never sees half of it.
///
/// # Errors
/// If the file system refuses.
pub fn write_if_changed(file: &Path, bytes: &[u8]) -> Result<bool, Error> {
    if std::fs::read(file).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    write(file, bytes).map_err(Error::io(format!("write {}", file.display())))?;
    Ok(true)
}

fn write(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let dir = match file.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(dir)?;
    let mut temporary = tempfile::NamedTempFile::new_in(dir)?;
    temporary.write_all(bytes)?;
    temporary.as_file().set_permissions(Permissions::from_mode(0o644))?;
    temporary.persist(file)?;
    Ok(())
}
