//! A process that is killed at a named point. From then on nothing that it does reaches the world:
//! it touches the world by these ports alone, so this is what a kill at that very point leaves.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use model::BoxFuture;
use model::acks::Settled;
use model::batch::{Batch, BatchPolicy};
use model::groups::GroupKey;
use model::lsn::Lsn;
use model::message::Message;
use model::position::Position;
use model::route::{Route, RouteError};
use model::sink::{Sink, SinkError, SinkKind, Verdict};
use model::source::{Connect, Event, Missing, Source, SourceError};
use model::store::{
    Close, Confirmed, Counts, Edit, Epoch, KeyPage, Letter, LetterBox, LetterId, LetterPage,
    LetterQuery, Letters, Progress, StoreError, StoredLetter,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::log::Log;
use super::sink::Recording;
use super::store::Store;

/// Where a process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// Changes were handed over, and nothing was done with them.
    Decoded,
    /// The sink has taken messages in, and its answer is not heard.
    Delivered,
    /// Its answer is judged, and that is not on record.
    Settled,
    /// It is on record, and not confirmed.
    Recorded,
    /// The server was told.
    Confirmed,
}

/// One life, and what ends it.
#[derive(Clone)]
pub(crate) struct Life {
    /// None: it is left to finish.
    point: Option<Point>,
    /// How often the point is still passed alive.
    left: Arc<AtomicUsize>,
    dead: CancellationToken,
}

impl Life {
    /// Ends the `nth` time (from 0) that the point is reached.
    pub(crate) fn new(point: Option<Point>, nth: usize) -> Self {
        Self { point, left: Arc::new(AtomicUsize::new(nth)), dead: CancellationToken::new() }
    }

    /// Once it is over.
    pub(crate) async fn over(&self) {
        self.dead.cancelled().await;
    }

    pub(crate) fn is_over(&self) -> bool {
        self.dead.is_cancelled()
    }

    /// The process is at this point.
    fn at(&self, point: Point) {
        let here = self.point == Some(point) && !self.is_over();
        if here
            && self
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                .is_err()
        {
            self.dead.cancel();
        }
    }

    /// What goes on only while it lives.
    async fn lives<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            () = self.over() => pending().await,
            done = work => done,
        }
    }

    /// Goes on if it lives still.
    async fn survived<T>(&self, done: T) -> T {
        if self.is_over() { pending().await } else { done }
    }
}

/// A port as a mortal process has it.
pub(crate) struct Mortal<T> {
    pub(crate) life: Life,
    pub(crate) port: T,
}

impl<T> Mortal<T> {
    pub(crate) fn new(life: &Life, port: T) -> Arc<Self> {
        Arc::new(Self { life: life.clone(), port })
    }
}

impl Connect for Mortal<Log> {
    fn connect(&self, missing: Missing) -> BoxFuture<'_, Result<Box<dyn Source>, SourceError>> {
        Box::pin(async move {
            let port = self.life.lives(self.port.connect(missing)).await?;
            let stream: Box<dyn Source> = Box::new(Mortal { life: self.life.clone(), port });
            Ok(stream)
        })
    }
}

impl Source for Mortal<Box<dyn Source>> {
    fn origin(&self) -> &str {
        self.port.origin()
    }

    fn server_position(&self) -> Option<Lsn> {
        self.port.server_position()
    }

    fn slot_position(&self) -> Lsn {
        self.port.slot_position()
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Event, SourceError>> {
        Box::pin(async move {
            let event = self.life.lives(self.port.next()).await;
            // The process has it in its hands when it dies.
            self.life.at(Point::Decoded);
            event
        })
    }

    fn confirm(&mut self, flushed: Lsn) {
        if !self.life.is_over() {
            self.port.confirm(flushed);
            self.life.at(Point::Confirmed);
        }
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move { self.life.lives(self.port.close()).await })
    }
}

impl Sink for Mortal<Arc<Recording>> {
    fn kind(&self) -> SinkKind {
        self.port.kind()
    }

    fn batch_policy(&self) -> BatchPolicy {
        self.port.batch_policy()
    }

    fn check(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        self.port.check()
    }

    fn check_route(&self, route: &Route) -> Result<(), RouteError> {
        self.port.check_route(route)
    }

    fn deliver<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Vec<Verdict>, SinkError>> {
        Box::pin(async move {
            let answer = self.life.lives(self.port.deliver(batch)).await;
            if answer.as_ref().is_ok_and(|verdicts| verdicts.contains(&Verdict::Delivered)) {
                self.life.at(Point::Delivered);
            }
            self.life.survived(answer).await
        })
    }
}

/// The store, and the sink whose progress it keeps.
pub(crate) type Memory = (Arc<Store>, Arc<Recording>);

impl Progress for Mortal<Memory> {
    fn is_known<'a>(&'a self, slot: &'a str) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.port.0.is_known(slot)
    }

    fn remember<'a>(
        &'a self,
        epoch: Epoch,
        slot: &'a str,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.port.0.remember(epoch, slot)
    }

    fn load<'a>(
        &'a self,
        origin: &'a str,
        sink: &'a str,
    ) -> BoxFuture<'a, Result<Option<Settled>, StoreError>> {
        self.port.0.load(origin, sink)
    }

    fn confirmed<'a>(
        &'a self,
        origin: &'a str,
    ) -> BoxFuture<'a, Result<Option<Confirmed>, StoreError>> {
        self.port.0.confirmed(origin)
    }

    fn record<'a>(
        &'a self,
        epoch: Epoch,
        origin: &'a str,
        sinks: Vec<(String, Settled)>,
        confirmed: Option<Confirmed>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let (store, sink) = &self.port;
            for (name, settled) in &sinks {
                let known = store.load(origin, name).await?.unwrap_or_default();
                let is_news = |message: &Arc<Message>| {
                    settled.contains(message.position) && !known.contains(message.position)
                };
                if sink.received().iter().any(is_news) {
                    self.life.at(Point::Settled);
                }
            }
            // The fake writes as soon as it is called.
            let record = async {
                // A disk takes a while, in which other tasks have their turn.
                tokio::time::sleep_until(Instant::now() + Duration::from_millis(1)).await;
                store.record(epoch, origin, sinks, confirmed).await
            };
            let recorded = self.life.lives(record).await;
            // The first record says where a new slot begins.
            if confirmed.is_some_and(|confirmed| confirmed.lsn > Lsn::ZERO) {
                self.life.at(Point::Recorded);
            }
            self.life.survived(recorded).await
        })
    }
}

impl LetterBox for Mortal<Memory> {
    fn list(&self, query: LetterQuery) -> BoxFuture<'_, Result<LetterPage, StoreError>> {
        self.port.0.list(query)
    }

    fn get(&self, letter: LetterId) -> BoxFuture<'_, Result<Option<StoredLetter>, StoreError>> {
        self.port.0.get(letter)
    }

    fn counts(&self) -> BoxFuture<'_, Result<Vec<Counts>, StoreError>> {
        self.port.0.counts()
    }
}

impl Letters for Mortal<Memory> {
    fn bury(&self, epoch: Epoch, letters: Arc<[Letter]>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(
            async move { self.life.lives(async { self.port.0.bury(epoch, letters).await }).await },
        )
    }

    fn keys<'a>(
        &'a self,
        sink: &'a str,
        after: LetterId,
    ) -> BoxFuture<'a, Result<KeyPage, StoreError>> {
        self.port.0.keys(sink, after)
    }

    fn supersede<'a>(
        &'a self,
        epoch: Epoch,
        origin: &'a str,
        sink: &'a str,
        rows: Vec<(GroupKey, Position)>,
    ) -> BoxFuture<'a, Result<Vec<LetterId>, StoreError>> {
        let marked = async move { self.port.0.supersede(epoch, origin, sink, rows).await };
        Box::pin(self.life.lives(marked))
    }

    fn close<'a>(
        &'a self,
        epoch: Epoch,
        letter: LetterId,
        how: Close,
        reason: &'a str,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.port.0.close(epoch, letter, how, reason)
    }

    fn failed_again<'a>(
        &'a self,
        epoch: Epoch,
        letter: LetterId,
        error: &'a str,
        attempts: u32,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.port.0.failed_again(epoch, letter, error, attempts)
    }

    fn edit(
        &self,
        epoch: Epoch,
        letter: LetterId,
        edit: Edit,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.port.0.edit(epoch, letter, edit)
    }
}
