//! The port to consumers who fetch messages by themselves: a sink that has one keeps messages until
//! somebody comes for them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::BoxFuture;
use crate::message::Message;

/// What consumers do with a stream. A message that was received is *leased*: nobody else gets it,
/// nor anything of its group, until it is acknowledged, given back, or its time is over.
pub trait Pull: Send + Sync {
    /// Leases up to `messages_max` messages, oldest first. While there is none it waits, at most for
    /// `wait`; then there are none in the answer. Nothing is leased if the future is dropped.
    ///
    /// # Errors
    /// Too many wait already.
    fn receive(
        &self,
        messages_max: usize,
        wait: Duration,
    ) -> BoxFuture<'_, Result<Vec<Leased>, PullError>>;

    /// Settles the messages of these leases. A lease that is not known, or is over since the message
    /// was leased anew, or was acknowledged before, is passed over.
    ///
    /// # Errors
    /// Some messages were taken back because the engine stops. The others are settled.
    fn ack(&self, leases: &[LeaseId]) -> Result<(), PullError>;

    /// Gives messages back: they are there for the next consumer at once, in their order.
    fn nack(&self, leases: &[LeaseId]);

    /// Takes all messages back: what is not acknowledged by now counts as never sent. The next
    /// delivery of the sink begins anew.
    fn stop(&self);
}

/// A message that a consumer holds.
#[derive(Clone, Debug)]
pub struct Leased {
    /// What to acknowledge it by.
    pub id: LeaseId,
    /// It.
    pub message: Arc<Message>,
}

/// One lease of one message, written as a UUID. Leased again, the message has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseId(u128);

/// Why a stream does not do what a consumer wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PullError {
    /// Another one would be one too many.
    #[error("{waiting_max} consumers wait for messages of this stream already")]
    Waiting {
        /// How many may.
        waiting_max: usize,
    },
    /// The engine stops, or the sink does.
    #[error("messages were taken back, because the stream stopped: they come again")]
    Stopped,
}

/// A text is no UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID")]
pub struct NoLeaseId;

impl LeaseId {
    /// Of a number that nobody else has. Marked as a UUID of its maker's own making (version 8,
    /// RFC 9562): 6 of the bits are not its own.
    #[must_use]
    pub const fn new(number: u128) -> Self {
        Self(number & !(0xF << 76) & !(0b11 << 62) | 0x8 << 76 | 0b10 << 62)
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bits) = self;
        let (a, b, c) = (bits >> 96, bits >> 80 & 0xFFFF, bits >> 64 & 0xFFFF);
        let (d, e) = (bits >> 48 & 0xFFFF, bits & 0xFFFF_FFFF_FFFF);
        write!(f, "{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
    }
}

impl FromStr for LeaseId {
    type Err = NoLeaseId;

    /// Any UUID: one that is not ours is the id of no lease.
    fn from_str(text: &str) -> Result<Self, NoLeaseId> {
        let mut bits = 0;
        for (at, byte) in text.bytes().enumerate() {
            let digit = char::from(byte).to_digit(16);
            match (at, digit) {
                (8 | 13 | 18 | 23, None) if byte == b'-' => {}
                (8 | 13 | 18 | 23, _) | (36.., _) | (_, None) => return Err(NoLeaseId),
                (_, Some(digit)) => bits = bits << 4 | u128::from(digit),
            }
        }
        if text.len() == 36 { Ok(Self(bits)) } else { Err(NoLeaseId) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_ids_are_written_and_read_as_uuids() {
        let id = LeaseId::new(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        assert_eq!(id.to_string(), "01234567-89ab-8def-8123-456789abcdef");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
        let long = format!("{id}0");
        for bad in ["", "x", "01234567-89ab-8def-8123-456789abcde", &long, &long.replace('-', "0")]
        {
            assert_eq!(bad.parse::<LeaseId>(), Err(NoLeaseId), "{bad}");
        }
        assert!("01234567-89ab-8def-8123-456789abcdeé".parse::<LeaseId>().is_err());
        assert!("+1234567-89ab-8def-8123-456789abcdef".parse::<LeaseId>().is_err());
    }
}
