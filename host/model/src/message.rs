//! What a sink sends for a change.

use crate::groups::Groups;
use crate::position::Position;

/// One message, encoded once, copied out of its page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The change it came from.
    pub position: Position,
    /// Its index among the outputs of that change: 0, or more if a transform made many.
    pub output: u32,
    /// Whose order it must respect.
    pub groups: Groups,
    /// What a state sink does with it. A log sink sends the payload whatever this is.
    pub effect: Effect,
    /// The identity of the document, for state sinks.
    pub key: Option<Box<str>>,
    /// JSON. Empty for a removal from a state sink.
    pub payload: Box<str>,
    /// The document lacks columns whose values were not sent (unchanged TOAST): it may complete an
    /// existing document, and must neither replace one nor become one by itself.
    pub partial: bool,
    /// The same for every delivery of this message, on any node, after any restart.
    pub idempotency_key: Box<str>,
}

/// What a message does to the state of an index, cache or table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write the document.
    Write,
    /// Remove it, if it is there: the row was deleted, or left the set.
    Remove,
}

impl Message {
    /// What it takes in memory, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let key = self.key.as_ref().map_or(0, |key| key.len());
        size_of::<Self>() + self.payload.len() + self.idempotency_key.len() + key
    }
}

/// The key that a consumer may use to recognise a repeat: base64 of `commit_lsn:ordinal`, as the
/// predecessor wrote it; further outputs of one change add `:output`.
#[must_use]
pub fn idempotency_key(position: Position, output: u32) -> Box<str> {
    use base64::Engine as _;
    let mut plain = format!("{}:{}", position.commit_lsn.0, position.ordinal);
    if output > 0 {
        crate::json::push_fmt(&mut plain, format_args!(":{output}"));
    }
    base64::engine::general_purpose::STANDARD.encode(plain).into()
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
        assert_ne!(idempotency_key(position, 1), idempotency_key(position, 0));
    }
}
