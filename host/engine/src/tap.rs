//! The rows that the functions of a sink are asked about, copied for somebody who records them.
//!
//! As in a trace nobody else notices, and a sink that is not recorded pays for one load of a number
//! a batch. What is copied is bounded by number and bytes, so that a reader who takes nothing costs
//! no more than that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::change::Change;
use tokio::sync::mpsc;

use crate::encode;
use crate::spec::SinkSpec;

/// Messages of one recording.
pub const MESSAGES_MAX: usize = 10_000;

/// Bytes of one recording; the message that passes it is the last.
const BYTES_MAX: usize = 32 << 20;

/// Recordings of one sink at once.
const READERS_MAX: usize = 4;

/// Who records one sink.
#[derive(Debug, Default)]
pub struct Tap {
    on: AtomicBool,
    readers: Mutex<Vec<Reader>>,
}

#[derive(Debug)]
struct Reader {
    messages: mpsc::Sender<String>,
    left: usize,
    bytes_left: usize,
}

impl Tap {
    /// The next so many messages; the channel ends behind them. None if too many record already.
    pub(crate) fn open(&self, count: usize) -> Option<mpsc::Receiver<String>> {
        let left = count.clamp(1, MESSAGES_MAX);
        let mut readers = self.readers();
        readers.retain(|reader| !reader.messages.is_closed());
        if readers.len() >= READERS_MAX {
            return None;
        }
        let (messages, receiver) = mpsc::channel(left);
        readers.push(Reader { messages, left, bytes_left: BYTES_MAX });
        self.on.store(true, Ordering::Relaxed);
        Some(receiver)
    }

    pub(crate) fn show(&self, spec: &SinkSpec, changes: &[Change]) {
        if !self.on.load(Ordering::Relaxed) {
            return;
        }
        let mut readers = self.readers();
        for change in changes {
            if readers.is_empty() {
                break;
            }
            let text = encode::input(spec, change);
            readers.retain_mut(|reader| reader.take(&text));
        }
        self.on.store(!readers.is_empty(), Ordering::Relaxed);
    }

    fn readers(&self) -> MutexGuard<'_, Vec<Reader>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// Whether it wants more.
    fn take(&mut self, text: &str) -> bool {
        self.left = self.left.saturating_sub(1);
        self.bytes_left = self.bytes_left.saturating_sub(text.len());
        // There is a place for each that was asked for.
        self.messages.try_send(text.to_owned()).is_ok() && self.left > 0 && self.bytes_left > 0
    }
}
