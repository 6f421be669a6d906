//! Consumers who fetch their messages: however long they take, nothing is counted, and a stop does
//! not wait for them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::BoxFuture;
use model::batch::{Batch, BatchPolicy, Grouping};
use model::message::Message;
use model::pull::{LeaseId, Leased, Pull, PullError};
use model::sink::{Sink, SinkError, SinkKind, Verdict};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fake::log::{Log, Row};
use crate::fake::sink::Recording;
use crate::fake::store::Store;
use crate::fake::{engine, run_until, sink_spec};
use crate::spec::SinkSpec;

const MIB: usize = 1 << 20;
/// Longer than any other request may take.
const REQUEST_DEADLINE_AND_MORE: Duration = Duration::from_secs(7_400);

/// Where messages lie until they are fetched.
#[derive(Default)]
struct Shelf {
    lying: Mutex<VecDeque<(Arc<Message>, oneshot::Sender<Verdict>)>>,
}

impl Shelf {
    fn len(&self) -> usize {
        self.lying.lock().unwrap().len()
    }

    fn fetch(&self) -> Arc<Message> {
        let (message, fetched) = self.lying.lock().unwrap().pop_front().unwrap();
        fetched.send(Verdict::Delivered).unwrap();
        message
    }
}

impl Sink for Shelf {
    fn kind(&self) -> SinkKind {
        SinkKind::Log
    }

    fn batch_policy(&self) -> BatchPolicy {
        BatchPolicy {
            messages_max: 1,
            bytes_max: MIB,
            message_bytes_max: None,
            request_overhead: 0,
            message_overhead: 0,
            linger: Duration::ZERO,
            requests_max: 100,
            grouping: Grouping::Apart,
            one_route: false,
        }
    }

    fn check(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async { Ok(()) })
    }

    fn deliver<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Vec<Verdict>, SinkError>> {
        Box::pin(async {
            let (fetched, verdict) = oneshot::channel();
            let message = Arc::clone(&batch.messages()[0]);
            self.lying.lock().unwrap().push_back((message, fetched));
            Ok(vec![verdict.await.unwrap()])
        })
    }

    fn pull(self: Arc<Self>) -> Option<Arc<dyn Pull>> {
        Some(self)
    }
}

impl Pull for Shelf {
    fn receive(&self, _: usize, _: Duration) -> BoxFuture<'_, Result<Vec<Leased>, PullError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn ack(&self, _: &[LeaseId]) -> Result<(), PullError> {
        Ok(())
    }

    fn nack(&self, _: &[LeaseId]) {}

    fn stop(&self) {
        for (_, fetched) in self.lying.lock().unwrap().drain(..) {
            fetched.send(Verdict::Untried).unwrap();
        }
    }
}

fn spec(shelf: &Arc<Shelf>) -> SinkSpec {
    let sink = Arc::<Shelf>::clone(shelf);
    // The first attempt that counts would be the last.
    SinkSpec { sink, attempts_max: Some(1), ..sink_spec("a", &Recording::willing()) }
}

#[tokio::test(start_paused = true)]
async fn b124_a_message_waits_for_its_consumer_for_hours_and_no_attempt_is_counted() {
    let log = Log::new();
    log.commit(vec![Row::update(1, 0)]);
    let (shelf, store) = (Arc::new(Shelf::default()), Arc::default());
    let (engine, status, _) = engine(&log, vec![spec(&shelf)], &store, MIB);
    let stop = CancellationToken::new();
    let consumer = async {
        tokio::time::sleep_until(Instant::now() + REQUEST_DEADLINE_AND_MORE).await;
        assert_eq!(shelf.len(), 1);
        shelf.fetch();
        tokio::time::sleep_until(Instant::now() + Duration::from_secs(1)).await;
        stop.cancel();
    };
    tokio::join!(engine.run(stop.clone()), consumer);
    let sink = &status.slots.list()[0].sinks.list()[0];
    assert_eq!((sink.delivered.get(), sink.failed.get(), sink.buried.get()), (1, 0, 0));
    assert_eq!(log.confirmed(), log.end());
}

#[tokio::test(start_paused = true)]
async fn b184_a_stop_does_not_wait_for_consumers_and_their_messages_come_again() {
    let log = Log::new();
    for n in 0..6 {
        log.commit(vec![Row::update(n % 3, n)]);
    }
    let store: Arc<Store> = Arc::default();
    let shelf = Arc::new(Shelf::default());
    let (first, status, _) = engine(&log, vec![spec(&shelf)], &store, MIB);
    let mut fetched = Vec::new();
    let mut stopped = None;
    run_until(first, || {
        // One of each group.
        let ready = shelf.len() == 3;
        if ready {
            fetched.push(shelf.fetch().position);
            stopped = Some(Instant::now());
        }
        ready
    })
    .await;
    assert!(stopped.unwrap().elapsed() < Duration::from_secs(1));
    let sink = &status.slots.list()[0].sinks.list()[0];
    assert_eq!((sink.delivered.get(), sink.failed.get(), sink.buried.get()), (1, 0, 0));
    assert!(sink.last_error.get().is_none());

    // The same shelf, and what was not fetched; nothing of what was.
    let (again, _, _) = engine(&log, vec![spec(&shelf)], &store, MIB);
    run_until(again, || {
        while shelf.len() > 0 {
            fetched.push(shelf.fetch().position);
        }
        fetched.len() == 6
    })
    .await;
    assert_eq!(log.confirmed(), log.end());
    fetched.sort();
    fetched.dedup();
    assert_eq!(fetched.len(), 6);
}
