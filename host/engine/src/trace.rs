//! What passes through one sink, shown to somebody who asked for it, for a while.
//!
//! Kept in a ring of fixed size beside the sink's own tasks: nobody else notices, and whoever is not
//! traced pays for one load of a number.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::change::Change;
use model::message::Message;
use model::position::Position;
use model::sent::Request;
use tokio::time::Instant;

use crate::encode;
use crate::spec::SinkSpec;

/// Events that are kept.
const EVENTS_MAX: usize = 1_000;

/// Rows that are shown: more than the ring holds.
const ROWS_MAX: u64 = 1_000;

/// Bytes of them, but always one event.
const BYTES_MAX: usize = 4 << 20;

/// Of one text: more is cut off, and that is said.
const TEXT_MAX: usize = 64 << 10;

/// The trace of one sink.
#[derive(Debug, Default)]
pub struct Trace {
    on: AtomicBool,
    /// Rows that are still to be shown.
    inputs: AtomicU64,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    until: Option<Instant>,
    /// The changes that are shown.
    shown: HashSet<Position>,
    events: VecDeque<Event>,
    bytes: usize,
    next: u64,
}

/// Something that happened to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Rises by one from event to event; one that is missing was pushed out.
    pub number: u64,
    /// The change.
    pub position: Position,
    /// What happened.
    pub what: Happened,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// A row came in: its message before any function.
    Input(String),
    /// This is to be sent, as [`model::outgoing`] writes it, for the output of this index.
    Output(u32, String),
    /// A request that the message went in, with others perhaps: told with the first of them that is
    /// shown.
    Request(Box<Request>),
    /// Nothing is sent for the row: a function dropped it, or it was put aside.
    Nothing(String),
    /// It was sent in a request of so many messages, which took so long, and this was the answer.
    Sent {
        /// Which output.
        output: u32,
        /// Messages of the request.
        messages: usize,
        /// How long it took.
        took: Duration,
        /// `delivered`, or what the destination said.
        verdict: String,
    },
}

impl Trace {
    /// Shows the next so many messages, for so long at most. Nothing of before is shown any more.
    pub fn start(&self, messages: u64, time: Duration) {
        let mut kept = self.kept();
        *kept = Kept { until: Some(Instant::now() + time), next: kept.next, ..Kept::default() };
        self.inputs.store(messages.min(ROWS_MAX), Ordering::Relaxed);
        self.on.store(true, Ordering::Relaxed);
    }

    /// Shows no more. What was seen stays until the next start.
    pub fn stop(&self) {
        self.on.store(false, Ordering::Relaxed);
        self.kept().until = None;
    }

    /// Whether messages are shown.
    #[must_use]
    pub fn is_on(&self) -> bool {
        if !self.on.load(Ordering::Relaxed) {
            return false;
        }
        let is_over = self.kept().until.is_none_or(|until| until <= Instant::now());
        if is_over {
            self.on.store(false, Ordering::Relaxed);
        }
        !is_over
    }

    /// Events behind this number.
    #[must_use]
    pub fn events(&self, after: u64) -> Vec<Event> {
        self.kept().events.iter().filter(|event| event.number > after).cloned().collect()
    }

    pub(crate) fn input(&self, spec: &SinkSpec, change: &Change) {
        // Of the last one all that follows is shown too, as far as no later one is let in.
        if self.is_on()
            && self
                .inputs
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
        {
            self.kept().shown.insert(change.position);
            self.add(change.position, Happened::Input(encode::input(spec, change)));
        }
    }

    pub(crate) fn output(&self, message: &Message) {
        let written = || Happened::Output(message.output, model::outgoing::write(message));
        self.tell(message.position, written);
    }

    /// Whether what happens to this change is shown.
    pub(crate) fn shows(&self, position: Position) -> bool {
        self.is_on() && self.kept().shown.contains(&position)
    }

    pub(crate) fn tell(&self, position: Position, what: impl FnOnce() -> Happened) {
        // Of a row that is shown all is shown, and of others nothing.
        if self.shows(position) {
            self.add(position, what());
        }
    }

    fn add(&self, position: Position, mut what: Happened) {
        let text = match &mut what {
            Happened::Input(text) | Happened::Output(_, text) | Happened::Nothing(text) => text,
            Happened::Sent { verdict, .. } => verdict,
            // Bounded where it was noted.
            Happened::Request(request) => &mut request.url,
        };
        if text.len() > TEXT_MAX {
            let whole = text.len();
            text.truncate(text.floor_char_boundary(TEXT_MAX));
            text.push_str(&format!("… ({whole} bytes)"));
        }
        let bytes = what.bytes();
        let mut kept = self.kept();
        kept.next += 1;
        let number = kept.next;
        kept.bytes += bytes;
        kept.events.push_back(Event { number, position, what });
        while kept.events.len() > EVENTS_MAX || (kept.bytes > BYTES_MAX && kept.events.len() > 1) {
            let oldest = kept.events.pop_front();
            kept.bytes -= oldest.map_or(0, |event| event.what.bytes());
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Happened {
    fn bytes(&self) -> usize {
        match self {
            Self::Input(text) | Self::Output(_, text) | Self::Nothing(text) => text.len(),
            Self::Sent { verdict, .. } => verdict.len(),
            Self::Request(request) => request.bytes(),
        }
    }
}
