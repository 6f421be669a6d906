//! What a request carries.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use model::message::Message;

const OPEN: &str = r#"{"data":["#;
const CLOSE: &str = "]}";

/// Bytes of a wrapped body beside its messages, each with a comma: the last has none.
pub(super) const WRAPPING_BYTES: usize = OPEN.len() + CLOSE.len() - 1;

/// `{"data":[…]}`, or the message as it is. The payloads are JSON already.
pub(super) fn body(messages: &[Arc<Message>], wrapped: bool) -> Bytes {
    if let ([message], false) = (messages, wrapped) {
        return Bytes::copy_from_slice(message.payload.as_bytes());
    }
    let mut body = String::with_capacity(bytes(messages, wrapped));
    body.push_str(OPEN);
    for (index, message) in messages.iter().enumerate() {
        if index > 0 {
            body.push(',');
        }
        body.push_str(&message.payload);
    }
    body.push_str(CLOSE);
    body.into()
}

/// How many bytes the body has.
pub(super) fn bytes(messages: &[Arc<Message>], wrapped: bool) -> usize {
    let payloads: usize = messages.iter().map(|message| message.payload.len()).sum();
    match messages {
        [_] if !wrapped => payloads,
        _ => OPEN.len() + payloads + messages.len().saturating_sub(1) + CLOSE.len(),
    }
}

/// The body as gzip. At the fastest level: this is done between the requests of a sink, and JSON
/// shrinks to a tenth all the same.
pub(super) fn gzip(body: &[u8]) -> std::io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::writes;

    #[test]
    fn the_size_is_known_before_the_body_is_made() {
        for (count, wrapped) in [(1, true), (1, false), (2, true), (10, true)] {
            let batch = writes(1..=count);
            let made = body(batch.messages(), wrapped);
            assert_eq!(made.len(), bytes(batch.messages(), wrapped), "{count} {wrapped}");
        }
    }
}
