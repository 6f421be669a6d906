//! A stream that consumers fetch from: a delivery offers its message, and lasts until a consumer has
//! acknowledged it.
//!
//! The engine delivers a message only when everything before it in its group is settled, so no two
//! consumers ever hold a group. Offers, leases and who waits are in memory: after a kill everything
//! that was not settled is offered again.

mod offers;

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::BoxFuture;
use model::batch::{Batch, BatchPolicy, Grouping};
use model::message::Message;
use model::pull::{LeaseId, Leased, Pull, PullError};
use model::sink::{Sink, SinkError, SinkKind, Verdict};
use options::sequin_stream::Ready;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use offers::{End, OfferId, Offers};

/// A stream.
pub(crate) struct SequinStream {
    offers: Mutex<Offers>,
    /// Something became visible.
    news: Notify,
    waiting: AtomicUsize,
    options: Ready,
}

impl SequinStream {
    pub(crate) fn new(options: &Ready, seed: u64) -> Self {
        let (waiting, options) = (AtomicUsize::new(0), options.clone());
        Self { offers: Mutex::new(Offers::new(seed)), news: Notify::new(), waiting, options }
    }

    /// Nothing that is done under the lock can fail half-way.
    fn offers(&self) -> MutexGuard<'_, Offers> {
        self.offers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn offer(&self, message: &Arc<Message>) -> Offered<'_> {
        let (id, end) = self.offers().offer(Arc::clone(message));
        self.news.notify_waiters();
        Offered { stream: self, id, end }
    }

    async fn lease(&self, max: usize, wait: Duration) -> Result<Vec<Leased>, PullError> {
        let deadline = Instant::now() + wait;
        let mut place = None;
        loop {
            let mut news = pin!(self.news.notified());
            // From here on nothing new is missed.
            news.as_mut().enable();
            let next_end = {
                let mut offers = self.offers();
                let now = Instant::now();
                let leased = offers.lease(max, now, self.options.visibility_timeout);
                if !leased.is_empty() || now >= deadline {
                    return Ok(leased);
                }
                offers.next_end()
            };
            if place.is_none() {
                place = Some(self.wait()?);
            }
            let until = next_end.map_or(deadline, |end| end.min(deadline));
            // Either way, the next look tells.
            tokio::time::timeout_at(until, news).await.ok();
        }
    }

    fn wait(&self) -> Result<Waiting<'_>, PullError> {
        let waiting_max = self.options.waiting_max;
        let place = Waiting(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) < waiting_max {
            Ok(place)
        } else {
            Err(PullError::Waiting { waiting_max })
        }
    }
}

/// One of those who wait.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A message on offer. Taken back when the delivery ends without an answer.
struct Offered<'a> {
    stream: &'a SequinStream,
    id: OfferId,
    end: oneshot::Receiver<End>,
}

impl Offered<'_> {
    async fn ended(mut self) -> Verdict {
        match (&mut self.end).await {
            Ok(End::Acknowledged) => Verdict::Delivered,
            Ok(End::TakenBack) | Err(_) => Verdict::Untried,
        }
    }
}

impl Drop for Offered<'_> {
    fn drop(&mut self) {
        self.stream.offers().take_back(self.id);
    }
}

impl Sink for SequinStream {
    fn kind(&self) -> SinkKind {
        SinkKind::Log
    }

    fn batch_policy(&self) -> BatchPolicy {
        BatchPolicy {
            messages_max: 1,
            bytes_max: usize::MAX,
            message_bytes_max: None,
            request_overhead: 0,
            message_overhead: 0,
            linger: Duration::ZERO,
            requests_max: self.options.ack_pending_max,
            grouping: Grouping::Apart,
            one_route: false,
        }
    }

    /// It is here.
    fn check(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async { Ok(()) })
    }

    fn deliver<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Vec<Verdict>, SinkError>> {
        Box::pin(async move {
            let offered: Vec<_> =
                batch.messages().iter().map(|message| self.offer(message)).collect();
            let mut verdicts = Vec::with_capacity(offered.len());
            for offered in offered {
                verdicts.push(offered.ended().await);
            }
            Ok(verdicts)
        })
    }

    fn pull(self: Arc<Self>) -> Option<Arc<dyn Pull>> {
        Some(self)
    }
}

impl Pull for SequinStream {
    fn receive(
        &self,
        messages_max: usize,
        wait: Duration,
    ) -> BoxFuture<'_, Result<Vec<Leased>, PullError>> {
        Box::pin(self.lease(messages_max, wait))
    }

    fn ack(&self, leases: &[LeaseId]) -> Result<(), PullError> {
        let mut offers = self.offers();
        for lease in leases {
            offers.acknowledge(*lease);
        }
        if leases.iter().any(|lease| offers.was_taken_back(*lease)) {
            return Err(PullError::Stopped);
        }
        Ok(())
    }

    fn nack(&self, leases: &[LeaseId]) {
        let mut offers = self.offers();
        for lease in leases {
            offers.give_back(*lease);
        }
        drop(offers);
        self.news.notify_waiters();
    }

    fn stop(&self) {
        self.offers().take_all_back();
    }
}

#[cfg(test)]
mod tests;
