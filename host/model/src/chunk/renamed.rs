//! Chunks of sinks that have another name by now.

use super::bytes::{Bytes, push_number, push_text};
use super::read::Corrupt;

/// The chunk as if its sinks had these names; None if they have the ones that it was written with.
///
/// # Errors
/// These bytes are no chunk.
pub fn renamed(
    chunk: &[u8],
    mut name: impl FnMut(&str) -> Option<String>,
) -> Result<Option<Vec<u8>>, Corrupt> {
    let mut bytes = Bytes(chunk);
    let version = bytes.byte()?;
    let count = bytes.count()?;
    let mut is_other = false;
    let mut renamed = vec![version];
    push_number(&mut renamed, count as u64);
    for _ in 0..count {
        let known = bytes.text()?;
        let other = name(known);
        is_other |= other.is_some();
        push_text(&mut renamed, other.as_deref().unwrap_or(known));
    }
    renamed.extend_from_slice(bytes.0);
    Ok(is_other.then_some(renamed))
}
