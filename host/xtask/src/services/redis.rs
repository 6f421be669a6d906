//! Redis, to which tests send.

use super::packages;
use crate::env;

/// Makes sure that it is found.
///
/// # Errors
/// It cannot be installed.
pub(super) fn ensure() -> anyhow::Result<()> {
    let given = env::get("REDIS_BIN").is_some();
    if given || env::find_executable("redis-server").is_some() {
        return Ok(());
    }
    packages::install(&["redis-server"])
}
