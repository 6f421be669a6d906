//! Parts of the tree that are handed on as they are: configurations of functions, annotations.

use super::{Kind, Node, Number};

/// The node as JSON.
pub(crate) fn json(node: &Node) -> String {
    let mut text = String::new();
    write(node, &mut text);
    text
}

fn write(node: &Node, out: &mut String) {
    match &node.kind {
        Kind::Null | Kind::Anything => out.push_str("null"),
        Kind::Bool(bool) => out.push_str(if *bool { "true" } else { "false" }),
        Kind::Number(number) => out.push_str(&number.to_string()),
        Kind::Text(text) => model::json::string(out, text),
        Kind::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Kind::Map(entries) => {
            out.push('{');
            for (index, entry) in entries.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                model::json::string(out, &entry.key);
                out.push(':');
                write(&entry.value, out);
            }
            out.push('}');
        }
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Signed(number) => number.fmt(f),
            Self::Unsigned(number) => number.fmt(f),
            // As JSON: with a point or an exponent. The parser lets no NaN or infinity through.
            Self::Float(number) => write!(f, "{number:?}"),
        }
    }
}
