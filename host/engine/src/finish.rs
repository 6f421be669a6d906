//! What the change logs of earlier streams of a slot still have for its sinks: it was confirmed to a
//! server that was replaced, and the one in its place may not send it again.
//!
//! It is delivered beside the stream of now, each sink for itself: a sink takes part in a stream once
//! it owes nothing of those before, and what comes meanwhile goes to the change log. So its order
//! holds, and one that is down keeps neither the slot nor its neighbours from going on.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use model::lsn::Lsn;
use model::position::Position;
use model::store::{Address, ChangeLog, Part};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::crew::{Crew, Event, Member, Wanted};
use crate::slot_run::{SlotRun, Stage};
use crate::status::SlotStatus;

/// How often it is looked whether a sink owes nothing more.
const TICK: Duration = Duration::from_millis(50);

/// What the slot says while there is something left.
const FINISHING: &str = "earlier_stream";

/// Tells of each sink that is done with the streams before.
pub(crate) type Done = mpsc::Receiver<Arc<str>>;

/// A stream that was read before, with the log that it left.
pub(crate) struct Before {
    origin: Arc<str>,
    log: Arc<dyn ChangeLog>,
}

/// The streams before, while they are finished.
pub(crate) struct Finishing<'a> {
    all: BoxFuture<'a, ()>,
    stop: CancellationToken,
}

impl Finishing<'_> {
    /// Runs beside the stream of now, and no longer than that.
    pub(crate) async fn beside<T>(mut self, stream: impl Future<Output = T>) -> T {
        let mut stream = std::pin::pin!(stream);
        let mut finished = false;
        let ended = loop {
            tokio::select! {
                biased;
                ended = &mut stream => break ended,
                () = &mut self.all, if !finished => finished = true,
            }
        };
        if !finished {
            self.stop.cancel();
            self.all.await;
        }
        ended
    }
}

impl SlotRun {
    /// The streams of the slot before this one that have left a log, the oldest first. None if
    /// cancelled, or if part of a log is lost.
    pub(crate) async fn streams_before(
        &self,
        origin: &str,
        cancelled: &CancellationToken,
    ) -> Option<Vec<Before>> {
        let (owners, logs) = (&self.stores.owners, &self.stores.logs);
        let mut before = Vec::new();
        for stream in self.ask(|| owners.streams(&self.name), cancelled).await? {
            if *stream == *origin || !self.ask(|| logs.exists(&stream), cancelled).await? {
                continue;
            }
            let confirmed = self.ask(|| self.stores.progress.confirmed(&stream), cancelled).await?;
            let synced = confirmed.unwrap_or_default().log;
            // Nothing of it is sent again by that server.
            let log = self.open_log(&stream, Lsn(u64::MAX), synced, cancelled).await?;
            let is_empty =
                [Part::Stream, Part::Kept].iter().all(|part| log.end(*part) == Address::default());
            if !is_empty {
                before.push(Before { origin: stream.into(), log });
            }
        }
        Some(before)
    }

    /// What finishes the streams before, and who tells of each sink that it is done with them; nobody
    /// if there are none.
    pub(crate) fn finishing<'a>(
        &'a self,
        before: Vec<Before>,
        sinks: &Wanted,
        cancelled: &CancellationToken,
    ) -> (Finishing<'a>, Option<Done>) {
        let stop = cancelled.child_token();
        let mut done: Option<Done> = None;
        let mut stages: Vec<BoxFuture<'a, Option<()>>> = Vec::new();
        for Before { origin, log } in before {
            // Each tells once.
            let (tell, told) = mpsc::channel(sinks.len().max(1));
            let behind = done.replace(told);
            let stage = self.finish(origin, log, Arc::clone(sinks), behind, tell, stop.clone());
            stages.push(Box::pin(stage));
        }
        let slot = &self.name;
        let is_any = done.is_some();
        let all = async move {
            let ended = join_all(stages).await;
            if is_any && ended.iter().all(Option::is_some) {
                self.status.warnings.clear(FINISHING, slot);
                info!(slot.name = %slot, "what was logged of the stream before is delivered");
            }
        };
        (Finishing { all: Box::pin(all), stop }, done)
    }

    /// Delivers what the log of an earlier stream still has for the sinks, and forgets it. None if
    /// stopped before.
    async fn finish(
        &self,
        origin: Arc<str>,
        log: Arc<dyn ChangeLog>,
        sinks: Wanted,
        behind: Option<Done>,
        done: mpsc::Sender<Arc<str>>,
        stop: CancellationToken,
    ) -> Option<()> {
        let mut restored = Vec::new();
        for member in sinks.iter() {
            let settled = self.restore(&origin, &member.spec.name, &stop).await?;
            restored.push((Arc::clone(member), settled));
        }
        let mut rest = Rest {
            wanted: self.wanted.clone(),
            here: watch::Sender::new(sinks),
            leaving: BTreeSet::new(),
            done,
        };
        let here = rest.here.subscribe();
        // Its own: what the slot shows is of the stream of now.
        let status = Arc::new(SlotStatus {
            name: Arc::clone(&self.name),
            database: Arc::clone(&self.database),
            ..SlotStatus::default()
        });
        let (stage, mut crew) =
            self.begin(&origin, Lsn::ZERO, log, (here, restored), behind, &status);
        let finished = self.wait(&mut rest, &mut crew, &origin, &stop).await;
        self.end(stage, crew).await;
        finished?;
        let (logs, epoch) = (&self.stores.logs, self.stores.epoch);
        // The next start finds that nobody owes anything of it.
        if let Err(error) = logs.forget(epoch, &origin).await {
            error!(slot.name = %self.name, origin = %origin, %error, "the log of an earlier stream cannot be removed");
        }
        Some(())
    }

    /// Until nobody is left who owes something of it. None if stopped before.
    async fn wait(
        &self,
        rest: &mut Rest,
        crew: &mut Crew,
        origin: &str,
        stop: &CancellationToken,
    ) -> Option<()> {
        // Nobody is new to it.
        let read = Position::new(Lsn(u64::MAX), u64::MAX);
        let mut ticks = tokio::time::interval(TICK);
        let mut told = String::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                event = crew.event() => {
                    // One that was let go in the delay before it was to be started again is ready, and
                    // has no tasks that end.
                    let ended = match &event {
                        Event::Ended { sink, .. } | Event::Ready(sink) => Some(Arc::clone(sink)),
                        Event::Wanted => None,
                    };
                    crew.take(event, read);
                    if let Some(sink) = ended {
                        rest.ended(sink);
                    }
                }
                changed = rest.wanted.changed() => {
                    // Its sender is gone when the engine stops.
                    if changed.is_err() {
                        stop.cancelled().await;
                        return None;
                    }
                    rest.follow();
                }
                _ = ticks.tick() => {
                    for name in crew.settled() {
                        rest.retire(crew, &name);
                    }
                    if rest.is_over() {
                        return Some(());
                    }
                    let owing = rest.names();
                    if !owing.is_empty() && owing != told {
                        self.tell(origin, &owing);
                        told = owing;
                    }
                }
            }
        }
    }

    fn tell(&self, origin: &str, owing: &str) {
        let problem = format!(
            "the server is another one: {owing} still owe some of what was logged of the stream \
             before, and get what comes now behind it"
        );
        self.status.warnings.clear(FINISHING, &self.name);
        if self.status.warnings.raise(FINISHING, &self.name, problem) {
            warn!(slot.name = %self.name, code = FINISHING, origin, owing, "finishing the stream before");
        }
    }

    async fn end(&self, stage: Stage, mut crew: Crew) {
        crew.stop().await;
        let recording = stage.end_log().await;
        self.end_recording(recording).await;
    }
}

/// The sinks that are still at an earlier stream.
struct Rest {
    /// All that are to run.
    wanted: watch::Receiver<Wanted>,
    /// Those that are to run here.
    here: watch::Sender<Wanted>,
    /// Whose tasks are still to end.
    leaving: BTreeSet<Arc<str>>,
    done: mpsc::Sender<Arc<str>>,
}

impl Rest {
    /// Takes over edits of those that are here; a new one is none of them.
    fn follow(&mut self) {
        let wanted = Arc::clone(&self.wanted.borrow_and_update());
        let here = Arc::clone(&self.here.borrow());
        let edited = here.iter().filter_map(|old| {
            let new = wanted.iter().find(|new| new.spec.name == old.spec.name);
            if new.is_none() {
                self.leaving.insert(Arc::clone(&old.spec.name));
            }
            new.cloned()
        });
        let edited: Wanted = edited.collect();
        self.here.send_replace(edited);
    }

    /// One that owes nothing goes on to the next stream, once its tasks have ended.
    fn retire(&mut self, crew: &mut Crew, name: &Arc<str>) {
        crew.retire(name);
        self.leaving.insert(Arc::clone(name));
        let here = Arc::clone(&self.here.borrow());
        let others = here.iter().filter(|member| member.spec.name != *name).cloned();
        let others: Wanted = others.collect::<Vec<Arc<Member>>>().into();
        self.here.send_replace(others);
    }

    fn ended(&mut self, sink: Arc<str>) {
        if self.leaving.remove(&sink) {
            // Nobody listens any more when the slot stops.
            self.done.try_send(sink).ok();
        }
    }

    fn is_over(&self) -> bool {
        self.here.borrow().is_empty() && self.leaving.is_empty()
    }

    fn names(&self) -> String {
        let here = self.here.borrow();
        here.iter().map(|member| &*member.spec.name).collect::<Vec<_>>().join(", ")
    }
}
