//! What of a resource nobody is shown: told by the names of keys, since what a function's `config` holds
//! is known to its author alone.

use crate::tree::{Entry, Kind, Node};

/// In place of a secret.
pub const HIDDEN: &str = "(secret)";

/// Parts of names of keys below which everything is a secret.
const PARTS: [&str; 12] = [
    "password",
    "secret",
    "token",
    "api_key",
    "apikey",
    "private_key",
    "credential",
    "encrypted",
    "authorization",
    "cookie",
    "_seed",
    "connection_string",
];

/// Names of keys, whole.
const WHOLE: [&str; 7] =
    ["jwt", "auth_value", "shared_access_key", "access_key_id", "x-api-key", "seed", "headers"];

/// Keys that are called like a secret, and are none.
const NONE: [&str; 1] = ["secrets"];

/// Whether what stands below the key is a secret.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let key = key.as_str();
    let plain = key.replace('-', "_");
    let is_like = PARTS.iter().any(|part| plain.contains(part)) || WHOLE.contains(&key);
    is_like && !NONE.contains(&key)
}

/// Whether a text is an address that holds a password or, as those of webhooks, a token in its path or
/// its query.
pub(super) fn is_secret_address(key: &str, text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let (authority, beyond) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let has_login = authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'));
    let is_hook = key == "url" && scheme.starts_with("http") && !["", "/"].contains(&beyond);
    has_login || is_hook
}

/// Puts a word in place of each secret.
pub(super) fn hide(node: &mut Node) {
    each(node, &mut Vec::new(), &mut |_| HIDDEN.to_owned());
}

/// Puts a variable of the environment in place of each secret; `above` is what the resource is called.
pub(super) fn refer(above: &[&str], node: &mut Node) {
    let mut path = above.iter().map(|part| (*part).to_owned()).collect();
    each(node, &mut path, &mut |path| format!("${{{}}}", variable(path)));
}

/// `SINK_ORDERS_DESTINATION_PASSWORD`.
fn variable(path: &[String]) -> String {
    let parts = path.iter().filter(|part| !part.is_empty()).map(|part| {
        let letter =
            |char: char| if char.is_ascii_alphanumeric() { char.to_ascii_uppercase() } else { '_' };
        part.chars().map(letter).collect::<String>()
    });
    parts.collect::<Vec<_>>().join("_")
}

fn each(node: &mut Node, path: &mut Vec<String>, put: &mut impl FnMut(&[String]) -> String) {
    match &mut node.kind {
        Kind::Map(entries) => {
            for Entry { key, value, .. } in entries {
                path.push(key.clone());
                if is_secret(key) {
                    all(value, path, put);
                } else {
                    each(value, path, put);
                }
                path.pop();
            }
        }
        Kind::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                path.push(index.to_string());
                each(item, path, put);
                path.pop();
            }
        }
        Kind::Text(text) if is_secret_address(last(path), text) => *text = put(path),
        _ => {}
    }
}

fn last(path: &[String]) -> &str {
    path.last().map_or("", String::as_str)
}

/// Everything below a secret key; its structure stays, and the names of headers.
fn all(node: &mut Node, path: &mut Vec<String>, put: &mut impl FnMut(&[String]) -> String) {
    match &mut node.kind {
        Kind::Map(entries) => {
            let is_pair = entries.len() == 2 && entries.iter().any(|it| it.key == "value");
            for Entry { key, value, .. } in entries {
                if is_pair && key == "key" {
                    continue;
                }
                path.push(key.clone());
                all(value, path, put);
                path.pop();
            }
        }
        Kind::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                path.push(index.to_string());
                all(item, path, put);
                path.pop();
            }
        }
        Kind::Null | Kind::Bool(_) | Kind::Anything => {}
        Kind::Number(_) | Kind::Text(_) => node.kind = Kind::Text(put(path)),
    }
}
