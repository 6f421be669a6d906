//! Judges what a receiver got: complete, in order per key, and repeated only as a kill may repeat.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

/// Where a message stands: commit LSN and index.
pub(crate) fn position(message: &Value) -> (u64, u64) {
    let metadata = &message["metadata"];
    (metadata["commit_lsn"].as_u64().unwrap(), metadata["commit_idx"].as_u64().unwrap())
}

/// Per key, the messages as they came.
pub(crate) fn by_key(messages: &[Value]) -> HashMap<String, Vec<&Value>> {
    let mut keys: HashMap<String, Vec<&Value>> = HashMap::new();
    for message in messages {
        keys.entry(message["record"]["id"].to_string()).or_default().push(message);
    }
    keys
}

/// Per key, first arrivals are in the order of positions and the last word is the newest; a repeat
/// has the idempotency key of the first. Returns how many messages were repeats.
pub(crate) fn check_order(messages: &[Value]) -> usize {
    let mut repeats = 0;
    for (key, messages) in by_key(messages) {
        let mut seen: HashMap<(u64, u64), &Value> = HashMap::new();
        let mut newest = (0, 0);
        for message in &messages {
            let at = position(message);
            let idempotency_key = &message["metadata"]["idempotency_key"];
            if let Some(before) = seen.insert(at, idempotency_key) {
                assert_eq!(before, idempotency_key, "a repeat has the same idempotency key");
                repeats += 1;
            } else {
                assert!(newest < at, "key {key}: {at:?} came first after {newest:?}");
                newest = at;
            }
        }
        assert_eq!(position(messages.last().unwrap()), newest, "key {key}: the last is the newest");
    }
    repeats
}

/// How many different messages there are.
pub(crate) fn distinct(messages: &[Value]) -> usize {
    messages.iter().map(position).collect::<HashSet<_>>().len()
}

/// The rows as a consumer that applied the messages in order has them: id and value.
pub(crate) fn replayed(messages: &[Value]) -> Vec<(i64, i64)> {
    let mut rows: HashMap<i64, i64> = HashMap::new();
    for message in messages {
        let record = &message["record"];
        let id = record["id"].as_i64().unwrap();
        if message["action"] == "delete" {
            rows.remove(&id);
        } else {
            rows.insert(id, record["value"].as_i64().unwrap());
        }
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_unstable();
    rows
}
