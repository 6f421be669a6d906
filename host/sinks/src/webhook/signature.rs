//! Signatures as Standard Webhooks 1.0 has them: `webhook-id`, `webhook-timestamp` and
//! `webhook-signature`, which is `v1,` and the HMAC-SHA256 of `id.timestamp.body` in base64, one for
//! each key. Any of its libraries verifies them.
//!
//! What is signed is the JSON: a receiver's framework has undone a `Content-Encoding` before the
//! application sees the body.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use model::message::Message;
use options::signing::SigningKey;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// Adds the three headers, over any of these names that are there.
pub(super) fn sign(
    headers: &mut HeaderMap,
    keys: &[SigningKey],
    url: &str,
    messages: &[Arc<Message>],
    body: &[u8],
    seconds: i64,
) {
    let id = id(url, messages, body);
    let timestamp = seconds.to_string();
    let signatures: Vec<String> =
        keys.iter().filter_map(|key| signature(key, &id, &timestamp, body)).collect();
    let pairs = [
        ("webhook-id", id),
        ("webhook-timestamp", timestamp),
        ("webhook-signature", signatures.join(" ")),
    ];
    for (name, value) in pairs {
        // All three are ASCII.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// What a receiver recognises a repeat by: the same whenever the same messages are sent to the same
/// place with the same body, on any node and after any restart, and another for everything else.
fn id(url: &str, messages: &[Arc<Message>], body: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(url.as_bytes());
    for message in messages {
        hash.update(b"\n");
        // Not the idempotency key alone: a transform may make the same body of another database's
        // row, whose key is the same.
        hash.update(message.deduplication_id().as_bytes());
    }
    hash.update(b"\n\n");
    hash.update(body);
    let mut id = "msg_".to_owned();
    // 128 bits are more than enough not to meet twice.
    for byte in hash.finalize().iter().take(16) {
        // Writing to a text cannot fail.
        write!(id, "{byte:02x}").ok();
    }
    id
}

fn signature(key: &SigningKey, id: &str, timestamp: &str, body: &[u8]) -> Option<String> {
    // A key of any length will do: it is never refused.
    let mut mac = Hmac::<Sha256>::new_from_slice(key.reveal()).ok()?;
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::writes;

    /// The example that the libraries of the standard are tested with.
    #[test]
    fn signatures_are_those_of_the_standard() {
        let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let (id, timestamp) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330");
        let signature = signature(&key, id, timestamp, br#"{"test": 2432232314}"#).unwrap();
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn b113_b114_the_id_is_the_same_for_a_repeat_and_for_nothing_else() {
        let (one, two) = (writes(1..=1), writes(1..=2));
        let first = id("https://a.test", one.messages(), b"body");
        assert_eq!(first, id("https://a.test", one.messages(), b"body"));
        assert!(first.len() == 36 && !first.contains('.'), "{first}");
        // B113: a row of another database with the same position and the same body.
        let elsewhere = Message { scope: "elsewhere".into(), ..Message::clone(&one.messages()[0]) };
        assert_ne!(first, id("https://a.test", &[Arc::new(elsewhere)], b"body"));
        for other in [
            id("https://b.test", one.messages(), b"body"),
            id("https://a.test", two.messages(), b"body"),
            id("https://a.test", one.messages(), b"other"),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn each_key_signs() {
        let keys =
            ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"]
                .map(|text| SigningKey::parse(text).unwrap());
        let mut headers = HeaderMap::new();
        let batch = writes(1..=1);
        sign(&mut headers, &keys, "https://a.test", batch.messages(), b"{}", 1_614_265_330);
        let signatures = headers.get("webhook-signature").unwrap().to_str().unwrap();
        let parts: Vec<_> = signatures.split(' ').collect();
        assert!(parts.len() == 2 && parts.iter().all(|part| part.starts_with("v1,")));
        assert_ne!(parts[0], parts[1]);
        assert_eq!(headers.get("webhook-timestamp").unwrap(), "1614265330");
    }
}
