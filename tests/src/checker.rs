//! Judges what a receiver got: complete, in order per key, and repeated only as a kill may repeat.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;

use serde_json::Value;

/// Where a message stands: commit LSN and index.
pub fn position(message: &Value) -> (u64, u64) {
    let metadata = &message["metadata"];
    (metadata["commit_lsn"].as_u64().unwrap(), metadata["commit_idx"].as_u64().unwrap())
}

/// Per key, the messages as they came.
pub fn by_key(messages: &[Value]) -> HashMap<String, Vec<&Value>> {
    let mut keys: HashMap<String, Vec<&Value>> = HashMap::new();
    for message in messages {
        keys.entry(message["record"]["id"].to_string()).or_default().push(message);
    }
    keys
}

/// Per key, first arrivals are in the order of positions and the last word is the newest; a repeat
/// has the idempotency key of the first. Returns how many messages were repeats.
///
/// # Errors
/// What is out of order, key by key.
pub fn order<'a, K: Ord + Debug>(
    messages: &'a [Value],
    key: impl Fn(&'a Value) -> K,
) -> Result<usize, Vec<String>> {
    let mut keys: BTreeMap<K, Vec<&Value>> = BTreeMap::new();
    for message in messages {
        keys.entry(key(message)).or_default().push(message);
    }
    let (mut repeats, mut wrong) = (0, Vec::new());
    for (key, messages) in keys {
        let mut seen: HashMap<(u64, u64), &Value> = HashMap::new();
        let (mut newest, mut last) = ((0, 0), (0, 0));
        for message in messages {
            let at = position(message);
            let idempotency_key = &message["metadata"]["idempotency_key"];
            if let Some(before) = seen.insert(at, idempotency_key) {
                if before != idempotency_key {
                    wrong.push(format!(
                        "key {key:?}: the repeat of {at:?} has another idempotency key"
                    ));
                }
                repeats += 1;
            } else if newest < at {
                newest = at;
            } else {
                wrong.push(format!("key {key:?}: {at:?} came first after {newest:?}"));
            }
            last = at;
        }
        if last != newest {
            wrong.push(format!("key {key:?}: the last word is {last:?}, the newest {newest:?}"));
        }
    }
    if wrong.is_empty() { Ok(repeats) } else { Err(wrong) }
}

/// The same, for tests of one table with a key `id`.
///
/// # Panics
/// If anything is out of order.
pub fn check_order(messages: &[Value]) -> usize {
    order(messages, |message| message["record"]["id"].to_string())
        .unwrap_or_else(|wrong| panic!("{}", wrong.join("\n")))
}

/// How many different messages there are.
pub fn distinct(messages: &[Value]) -> usize {
    messages.iter().map(position).collect::<HashSet<_>>().len()
}

/// The rows as a consumer that applied the messages in order has them: id and value.
pub fn replayed(messages: &[Value]) -> Vec<(i64, i64)> {
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
