//! What a transaction says of its own changes, with `pg_logical_emit_message(true, …)`.
//!
//! The prefixes are the predecessor's.

use std::sync::Arc;

use serde::de::IgnoredAny;

/// The content, JSON, belongs to the changes that follow in the transaction.
pub(super) const SET: &[u8] = b"sequin:transaction_annotations.set";

/// From here on none does.
pub(super) const CLEAR: &[u8] = b"sequin:transaction_annotations.clear";

/// The content as JSON text, if it is JSON.
pub(super) fn read(content: &[u8]) -> Option<Arc<str>> {
    let text = std::str::from_utf8(content).ok()?;
    serde_json::from_str::<IgnoredAny>(text).is_ok().then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b023_only_json_is_taken() {
        for good in ["{\"by\": 7}", "null", "\"x\"", " [1]\n"] {
            assert_eq!(read(good.as_bytes()).as_deref(), Some(good));
        }
        for bad in ["", "{", "{} {}", "{'a': 1}", "undefined"] {
            assert_eq!(read(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(read(b"\"\xFF\""), None, "not UTF-8");
        let deep = "[".repeat(100_000);
        assert_eq!(read(deep.as_bytes()), None, "and deep ones end");
    }
}
