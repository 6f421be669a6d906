//! The port: a connected slot as `model::source::Source`.
//!
//! ```text
//!   engine                         thread "slot-<name>", a runtime of its own
//!   next()  ◄── 16 batches ◄──  reader: socket, frames, decode, seal
//!   confirm() ── atomic, notify ──►  status updates on their own clock
//!   close() / drop ── tokens ──►  last status, goodbye / stop
//! ```
//!
//! The reader owns both connections and never waits for the engine: while the queue is full it
//! stops reading and goes on answering the server, so a slow sink never costs the connection.
//!
//! Guarantees: events come in commit order; a confirmed position never goes back, never passes what
//! was received and never passes what the engine said; an error ends the stream after the events
//! before it.

pub(crate) mod examine;
mod feedback;
pub mod measure;
mod open;
mod pace;
mod pulse;
mod reader;
mod standby;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use model::BoxFuture;
use model::lsn::Lsn;
use model::source::{Claim, Connect, Event, Held, Missing, Source, SourceError};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::error;
use crate::lineage::Lineages;
use crate::options::Options;
use crate::retained::Trail;

/// Batches between reader and engine: enough that neither waits for the other's turn, few enough
/// that a stalled engine holds at most 16 × 256 KiB (and one large row each).
const QUEUE_MAX: usize = 16;

/// Opens the slot of its options.
#[derive(Debug)]
pub struct Connector {
    options: Arc<Options>,
    /// From one connection to the next.
    lineages: Arc<Lineages>,
    trail: Arc<Trail>,
}

impl Connector {
    /// Nothing is checked or opened before [`Connect::connect`].
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options: Arc::new(options), lineages: Arc::default(), trail: Arc::default() }
    }
}

impl Connect for Connector {
    fn connect(&self, missing: Missing) -> BoxFuture<'_, Result<Box<dyn Source>, SourceError>> {
        Box::pin(async move {
            self.options.check()?;
            let (opened_sender, opened) = oneshot::channel();
            let (events_sender, events) = mpsc::channel(QUEUE_MAX);
            let (done_sender, done) = oneshot::channel();
            let (claim, claims) = watch::channel(None);
            let link = Link {
                stop: CancellationToken::new(),
                closing: CancellationToken::new(),
                confirmed: Arc::default(),
                held: Held::default(),
                lineages: Arc::clone(&self.lineages),
                trail: Arc::clone(&self.trail),
                claim: claims,
                events: events_sender,
            };
            // Dropped with this future or with the stream: the thread stops.
            let stop = link.stop.clone().drop_guard();
            let (closing, confirmed) = (link.closing.clone(), Arc::clone(&link.confirmed));
            let held = link.held.clone();
            if self.options.heartbeat.is_some() {
                held.expect_beats();
            }
            let options = Arc::clone(&self.options);
            let thread = std::thread::Builder::new()
                .name(format!("slot-{}", options.slot))
                .spawn(move || work(options, missing, link, opened_sender, done_sender))
                .map_err(|error| error::transient(format!("cannot start a thread: {error}")))?;
            let standby_slot = self.options.slot_on_standby();
            let Opened { origin, server_position, slot_position, decoded_before } =
                opened.await.unwrap_or_else(|_| Err(ended(None)))?;
            let stream = Stream {
                origin,
                server_position,
                slot_position,
                decoded_before,
                slot: self.options.slot.as_str().into(),
                standby_slot,
                claim,
                held,
                events,
                confirmed,
                closing,
                done,
                thread: Some(thread),
                _stop: stop,
            };
            Ok(Box::new(stream) as Box<dyn Source>)
        })
    }
}

/// What the reader reports once the stream runs.
#[derive(Debug)]
struct Opened {
    origin: String,
    server_position: Option<Lsn>,
    slot_position: Lsn,
    decoded_before: Option<u64>,
}

/// What connects the reader with its [`Stream`].
#[derive(Debug)]
struct Link {
    /// Stop now, without goodbye.
    stop: CancellationToken,
    /// Send the last status and say goodbye.
    closing: CancellationToken,
    confirmed: Arc<Confirmed>,
    /// What the server keeps for the slot.
    held: Held,
    lineages: Arc<Lineages>,
    trail: Arc<Trail>,
    /// Whose the slot is, once the engine has said so.
    claim: watch::Receiver<Option<Claim>>,
    events: mpsc::Sender<Result<Event, SourceError>>,
}

/// The position that the engine confirmed.
#[derive(Debug, Default)]
struct Confirmed {
    position: AtomicU64,
    raised: Notify,
}

impl Confirmed {
    fn raise(&self, position: Lsn) {
        // The number alone is passed on, nothing is published with it.
        if self.position.fetch_max(position.0, Ordering::Relaxed) < position.0 {
            self.raised.notify_one();
        }
    }

    fn get(&self) -> Lsn {
        Lsn(self.position.load(Ordering::Relaxed))
    }
}

/// The thread's whole life.
fn work(
    options: Arc<Options>,
    missing: Missing,
    link: Link,
    opened: oneshot::Sender<Result<Opened, SourceError>>,
    done: oneshot::Sender<Result<(), SourceError>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            // If nobody waits for it any more, there is nobody to tell.
            opened.send(Err(error::transient(format!("cannot start a runtime: {error}")))).ok();
            return;
        }
    };
    let outcome = runtime.block_on(async {
        let stop = link.stop.clone();
        let life = async {
            let (reader, facts) = match open::open(options, missing, link).await {
                Ok(opened) => opened,
                Err(error) => {
                    opened.send(Err(error)).ok();
                    return Ok(());
                }
            };
            if opened.send(Ok(facts)).is_err() {
                return Ok(());
            }
            reader.run().await
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            outcome = life => outcome,
        }
    });
    // A name that is still being looked up must not keep the thread.
    runtime.shutdown_background();
    done.send(outcome).ok();
}

/// An open stream: the engine's end of it.
struct Stream {
    origin: String,
    server_position: Option<Lsn>,
    slot_position: Lsn,
    decoded_before: Option<u64>,
    slot: Arc<str>,
    /// What claims call it if this is a standby.
    standby_slot: String,
    claim: watch::Sender<Option<Claim>>,
    held: Held,
    events: mpsc::Receiver<Result<Event, SourceError>>,
    confirmed: Arc<Confirmed>,
    closing: CancellationToken,
    done: oneshot::Receiver<Result<(), SourceError>>,
    /// None once it was joined.
    thread: Option<JoinHandle<()>>,
    _stop: DropGuard,
}

impl Source for Stream {
    fn origin(&self) -> &str {
        &self.origin
    }

    fn server_position(&self) -> Option<Lsn> {
        self.server_position
    }

    fn slot_position(&self) -> Lsn {
        self.slot_position
    }

    fn decoded_before(&self) -> Option<u64> {
        self.decoded_before
    }

    fn claim(&mut self, claim: Claim) {
        self.claim.send_replace(Some(claim));
    }

    fn held(&self) -> Option<Held> {
        Some(self.held.clone())
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Event, SourceError>> {
        Box::pin(async {
            match self.events.recv().await {
                Some(Ok(Event::Changes(mut batch))) if self.server_position.is_none() => {
                    // The log of a standby has the claims of its primary's slots, too.
                    batch.claims.retain(|(_, claim)| *claim.slot == *self.standby_slot);
                    for (_, claim) in &mut batch.claims {
                        claim.slot = Arc::clone(&self.slot);
                    }
                    Ok(Event::Changes(batch))
                }
                Some(event) => event,
                None => Err(ended(self.thread.take())),
            }
        })
    }

    fn confirm(&mut self, flushed: Lsn) {
        self.confirmed.raise(flushed);
    }

    fn close(mut self: Box<Self>) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            self.closing.cancel();
            // The reader bounds its goodbye.
            let outcome = (&mut self.done).await;
            let thread = self.thread.take();
            match outcome {
                Ok(outcome) => {
                    // Its last act was to send this: it is gone at once.
                    thread.map(JoinHandle::join);
                    outcome
                }
                Err(_) => Err(ended(thread)),
            }
        })
    }
}

/// The reader ended without a word of its own: by a panic, or after its error was handed over.
fn ended(thread: Option<JoinHandle<()>>) -> SourceError {
    match thread.filter(JoinHandle::is_finished).map(JoinHandle::join) {
        Some(Err(_)) => error::transient("the slot's reader panicked; this is a bug"),
        Some(Ok(())) | None => error::transient("the stream has ended"),
    }
}
