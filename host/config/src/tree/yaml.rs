//! The tree as YAML again, with everything filled in.

use super::{Entry, Kind, Node};

/// Words that YAML would read as something else than a text, in some version or parser of it.
const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];

/// The node as a YAML document.
pub(crate) fn yaml(node: &Node) -> String {
    let mut text = String::new();
    match &node.kind {
        Kind::Map(entries) if !entries.is_empty() => map(entries, 0, &mut text),
        Kind::List(items) if !items.is_empty() => list(items, 0, &mut text),
        _ => {
            scalar(node, &mut text);
            text.push('\n');
        }
    }
    text
}

fn map(entries: &[Entry], indent: usize, out: &mut String) {
    for (index, Entry { key, value, .. }) in entries.iter().enumerate() {
        if index > 0 || !out.ends_with("- ") {
            out.push_str(&" ".repeat(indent));
        }
        plain(key, out);
        out.push(':');
        match &value.kind {
            Kind::Map(entries) if !entries.is_empty() => {
                out.push('\n');
                map(entries, indent + 2, out);
            }
            Kind::List(items) if !items.is_empty() => {
                out.push('\n');
                list(items, indent + 2, out);
            }
            _ => {
                out.push(' ');
                scalar(value, out);
                out.push('\n');
            }
        }
    }
}

fn list(items: &[Node], indent: usize, out: &mut String) {
    for item in items {
        out.push_str(&" ".repeat(indent));
        out.push_str("- ");
        match &item.kind {
            Kind::Map(entries) if !entries.is_empty() => map(entries, indent + 2, out),
            // A list in a list, and what holds nothing: YAML reads JSON.
            _ => {
                scalar(item, out);
                out.push('\n');
            }
        }
    }
}

fn scalar(node: &Node, out: &mut String) {
    match &node.kind {
        Kind::Text(text) => plain(text, out),
        _ => out.push_str(&super::json(node)),
    }
}

/// A text as it is where nothing could read it otherwise, else in quotes.
fn plain(text: &str, out: &mut String) {
    let first = text.starts_with(|char: char| char.is_ascii_alphabetic() || "_/".contains(char));
    let rest = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_/.-".contains(&byte));
    if first && rest && !WORDS.contains(&text.to_ascii_lowercase().as_str()) {
        out.push_str(text);
    } else {
        model::json::string(out, text);
    }
}
