//! What one request carries.

use std::sync::Arc;
use std::time::Duration;

use crate::message::Message;
use crate::sent::Requests;

/// Messages of one request, in the order of their positions. Never empty.
#[derive(Clone, Debug)]
pub struct Batch {
    messages: Vec<Arc<Message>>,
    requests: Option<Arc<Requests>>,
}

impl Batch {
    /// None if there is nothing to send.
    #[must_use]
    pub fn new(messages: Vec<Arc<Message>>) -> Option<Self> {
        (!messages.is_empty()).then_some(Self { messages, requests: None })
    }

    /// Has the sink note there what it sends.
    #[must_use]
    pub fn noted(self, requests: Arc<Requests>) -> Self {
        Self { requests: Some(requests), ..self }
    }

    /// Where to note what is sent, if somebody wants to see it.
    #[must_use]
    pub fn requests(&self) -> Option<&Arc<Requests>> {
        self.requests.as_ref()
    }

    /// The messages, at least one.
    #[must_use]
    pub fn messages(&self) -> &[Arc<Message>] {
        &self.messages
    }
}

/// How a sink wants its batches cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPolicy {
    /// At most this many messages (1 or more).
    pub messages_max: usize,
    /// At most this many bytes in a request, but always one message.
    pub bytes_max: usize,
    /// A message whose payload is larger is put aside and never sent; None: only the destination can
    /// say so.
    pub message_bytes_max: Option<usize>,
    /// Bytes of a request beside its messages.
    pub request_overhead: usize,
    /// Bytes of a request beside the payload, for each message.
    pub message_overhead: usize,
    /// How long the first message of an incomplete batch waits for company.
    pub linger: Duration,
    /// At most this many requests at once (1 or more).
    pub requests_max: usize,
    /// Whether one request may carry several messages of a group.
    pub grouping: Grouping,
    /// Whether the messages of one request must have one route.
    pub one_route: bool,
}

/// Whether one request may carry several messages of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// The request succeeds or fails as a whole, so a run of one group may ride together, in order.
    Together,
    /// Messages of a request can fail one by one, so two of a group never ride together: the later
    /// could get through before the earlier.
    Apart,
}
