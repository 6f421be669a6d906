//! What a sink sends for a change.

use std::sync::Arc;

use crate::change::Operation;
use crate::groups::Groups;
use crate::json::Digits;
use crate::position::Position;
use crate::relation::Relation;
use crate::route::Route;

/// One message, encoded once, copied out of its page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The change it came from.
    pub position: Position,
    /// Its index among the outputs of that change: 0, or more if a transform made many.
    pub output: u32,
    /// Whose order it must respect.
    pub groups: Groups,
    /// The rows it is about, by their keys, whatever else groups it.
    pub rows: Groups,
    /// The table it is about, if that is known.
    pub relation: Option<Arc<Relation>>,
    /// What happened to its row, if that is known.
    pub operation: Option<Operation>,
    /// What a state sink does with it. A log sink sends the payload whatever this is.
    pub effect: Effect,
    /// The identity of the document, for state sinks.
    pub key: Option<Box<str>>,
    /// JSON. Empty for a removal from a state sink.
    pub payload: Box<str>,
    /// The document lacks columns whose values were not sent (unchanged TOAST): it may complete an
    /// existing document, and must neither replace one nor become one by itself.
    pub partial: bool,
    /// Where a router sends it, found fit by the sink; None: where the sink sends everything. Messages
    /// of one route share it.
    pub route: Option<Arc<Route>>,
    /// The same for every delivery of this message, on any node, after any restart. Another
    /// database may have a message of the same key.
    pub idempotency_key: Box<str>,
    /// Which sink of which database sends it; shared by all its messages.
    pub scope: Arc<str>,
}

/// What a message does to the state of an index, cache or table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write the document.
    Write,
    /// Set these fields of the document that is there. Where none is there is nothing to do: it is
    /// another row's to make.
    Complete,
    /// Remove it, if it is there: the row was deleted, or left the set.
    Remove,
}

impl Message {
    /// What a destination that deduplicates knows it by: the idempotency key, and before it what
    /// tells this sink of this database from all others that feed the same destination. ASCII without
    /// blanks, at most 93 characters.
    #[must_use]
    pub fn deduplication_id(&self) -> String {
        format!("{}:{}", self.scope, self.idempotency_key)
    }

    /// What it takes in memory, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let key = self.key.as_ref().map_or(0, |key| key.len());
        // Of a route that many share too: it may as well be of this one alone.
        let route = self.route.as_ref().map_or(0, |route| route.bytes());
        size_of::<Self>() + self.payload.len() + self.idempotency_key.len() + key + route
    }
}

/// The key that a consumer may use to recognise a repeat: base64 of `commit_lsn:ordinal`, as the
/// predecessor wrote it; further outputs of one change add `:output`.
#[must_use]
pub fn idempotency_key(position: Position, output: u32) -> Box<str> {
    let mut key = String::new();
    push_idempotency_key(&mut key, position, output);
    key.into()
}

/// Appends it: once for each row, and so without a heap of its own.
pub(crate) fn push_idempotency_key(out: &mut String, position: Position, output: u32) {
    // Three numbers of at most 20 digits, and two colons.
    let (mut plain, mut len) = ([0; 64], 0);
    let mut push = |text: &str| {
        if let Some(to) = plain.get_mut(len..len + text.len()) {
            to.copy_from_slice(text.as_bytes());
        }
        len += text.len();
    };
    push(Digits::of(position.commit_lsn.0).as_str());
    push(":");
    push(Digits::of(position.ordinal).as_str());
    if output > 0 {
        push(":");
        push(Digits::of(output.into()).as_str());
    }
    push_base64(out, plain.get(..len).unwrap_or_default());
}

/// Appends base64 (RFC 4648, with padding) of at most 64 bytes.
fn push_base64(out: &mut String, bytes: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let encoded = |a: u8, b: u8, c: u8| {
        let digit = |bits: u8| ALPHABET.get(usize::from(bits & 0x3F)).copied().unwrap_or(b'=');
        [digit(a >> 2), digit(a << 4 | b >> 4), digit(b << 2 | c >> 6), digit(c)]
    };
    let mut text = [[b'='; 4]; 22];
    let (groups, rest) = bytes.as_chunks();
    let mut places = text.iter_mut();
    for ([a, b, c], place) in groups.iter().zip(&mut places) {
        *place = encoded(*a, *b, *c);
    }
    // A byte that is not there is no digit.
    if let (Some([first, second, third, _]), [a, b @ ..]) = (places.next(), rest) {
        let b = b.first().copied();
        let [x, y, z, _] = encoded(*a, b.unwrap_or_default(), 0);
        (*first, *second) = (x, y);
        if b.is_some() {
            *third = z;
        }
    }
    let text = text.as_flattened().get(..bytes.len().div_ceil(3) * 4).unwrap_or_default();
    out.push_str(std::str::from_utf8(text).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Lsn;

    #[test]
    fn idempotency_keys_are_the_predecessors() {
        let position = Position::new(Lsn(24_034_832), 7);
        // base64("24034832:7")
        assert_eq!(&*idempotency_key(position, 0), "MjQwMzQ4MzI6Nw==");
        let position = Position::new(Lsn(u64::MAX), u64::MAX);
        // base64("18446744073709551615:18446744073709551615:4294967295")
        let longest = "MTg0NDY3NDQwNzM3MDk1NTE2MTU6MTg0NDY3NDQwNzM3MDk1NTE2MTU6NDI5NDk2NzI5NQ==";
        assert_eq!(&*idempotency_key(position, u32::MAX), longest);
        assert_ne!(idempotency_key(position, 1), idempotency_key(position, 0));
    }

    #[test]
    fn base64_is_that_of_the_standard() {
        // RFC 4648, section 10.
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
            ("\u{3bf}\u{3ff}?>~", "zr/Pvz8+fg=="),
        ] {
            let mut out = String::new();
            push_base64(&mut out, plain.as_bytes());
            assert_eq!(out, text, "{plain}");
        }
    }
}
