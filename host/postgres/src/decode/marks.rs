//! Marks: messages that backfills write into the log, to know where in the stream a page belongs.

use std::sync::Arc;

/// `pg_logical_emit_message(true, PREFIX, text)`. Beside the prefixes of annotations; the
/// predecessor's own begin with `sequin:` too, and go on otherwise.
pub(crate) const PREFIX: &[u8] = b"sequin:mark";

/// Ours are far shorter. What somebody else writes with this prefix is not to take memory.
pub(crate) const TEXT_BYTES_MAX: usize = 1024;

/// What a mark says. One that cannot be ours is none.
pub(super) fn read(content: &[u8]) -> Option<Arc<str>> {
    let text = std::str::from_utf8(content).ok()?;
    (text.len() <= TEXT_BYTES_MAX).then(|| text.into())
}
