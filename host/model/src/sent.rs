//! What a sink sent, for who traces it.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Requests of one delivery that are kept.
const REQUESTS_MAX: usize = 32;

/// Of a body: more is cut off.
const BODY_MAX: usize = 16 << 10;

/// A request as it was sent, without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Of HTTP.
    pub method: String,
    /// Without what may be secret of it.
    pub url: String,
    /// Names and values; of those that may be secret `…`.
    pub headers: Vec<(String, String)>,
    /// What was sent, before it was compressed.
    pub body: Text,
    /// None: there was none.
    pub answer: Option<Answer>,
}

/// What a destination answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Of HTTP.
    pub status: u16,
    /// As far as it was read.
    pub body: Text,
}

/// The beginning of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// At most 16 KiB.
    pub text: String,
    /// Of all of it.
    pub bytes: usize,
}

impl Text {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let shown = bytes.get(..BODY_MAX).unwrap_or(bytes);
        Self { text: String::from_utf8_lossy(shown).into_owned(), bytes: bytes.len() }
    }
}

impl Request {
    /// The memory that it takes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len());
        let answer = self.answer.as_ref().map_or(0, |answer| answer.body.text.len());
        self.url.len() + self.body.text.len() + answer + headers.sum::<usize>()
    }
}

/// Where a sink notes the requests of one delivery, in their order.
#[derive(Debug, Default)]
pub struct Requests(Mutex<Vec<Request>>);

impl Requests {
    /// It is being sent. Of very many only the first are kept.
    pub fn note(&self, request: Request) {
        let mut kept = self.lock();
        if kept.len() < REQUESTS_MAX {
            kept.push(request);
        }
    }

    /// The last of them was answered so.
    pub fn answer(&self, answer: Answer) {
        if let Some(last) = self.lock().last_mut() {
            last.answer.get_or_insert(answer);
        }
    }

    /// All of them.
    #[must_use]
    pub fn take(&self) -> Vec<Request> {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Request>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
