//! The run of one slot: its stream, its sinks and its records, on one server after another, and the
//! order in which they stop.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use model::BoxFuture;
use model::acks::Settled;
use model::lsn::Lsn;
use model::position::Position;
use model::source::{Connect, Missing, Source, SourceError};
use model::store::{ChangeLog, Confirmed, StoreError, Synced};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::backfill::{self, Backfills, Conductor, Registry};
use crate::budget::Budget;
use crate::confirm::Confirm;
use crate::crew::{Crew, Member, Place, Wanted};
use crate::desk::Desks;
use crate::finish::Done;
use crate::owner::Owner;
use crate::progress::{Ledgers, Recorder};
use crate::recorded::Recorded;
use crate::rollout::Rollouts;
use crate::run::{Settings, Stores};
use crate::slot::{self, End, Slot};
use crate::spec::OnMismatch;
use crate::spool::{self, Spool};
use crate::status::SlotStatus;
use crate::supervise::{Supervisor, TaskKind};

/// How long to wait before the store is asked again at start.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// What runs beside the sinks of one stream.
pub(crate) struct Stage {
    settled: Arc<Notify>,
    spool: Arc<Spool>,
    recorded: Arc<Recorded>,
    registry: Arc<Registry>,
    logging: [JoinHandle<Option<()>>; 2],
    recording: Recording,
}

/// The task that records progress.
pub(crate) struct Recording {
    stop: CancellationToken,
    task: JoinHandle<Option<Result<(), StoreError>>>,
}

impl Stage {
    /// Ends the log once its sinks have stopped. What they came to is still to be recorded.
    pub(crate) async fn end_log(self) -> Recording {
        self.spool.stop.cancel();
        for task in self.logging {
            join(task).await;
        }
        self.recording
    }
}

pub(crate) struct SlotRun {
    pub(crate) name: Arc<str>,
    pub(crate) database: Arc<str>,
    pub(crate) connect: Arc<dyn Connect>,
    pub(crate) on_mismatch: OnMismatch,
    pub(crate) backfill: Option<backfill::Source>,
    pub(crate) backfills: Backfills,
    pub(crate) rollouts: Rollouts,
    /// Its sinks, as they come and go.
    pub(crate) wanted: watch::Receiver<Wanted>,
    pub(crate) status: Arc<SlotStatus>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) stores: Stores,
    pub(crate) settings: Settings,
    pub(crate) supervisor: Supervisor,
    pub(crate) desks: Desks,
}

impl SlotRun {
    pub(crate) async fn run(self, cancelled: CancellationToken) {
        let mut next = self.open(&cancelled).await;
        while let Some(source) = next {
            next = self.run_on(source, &cancelled).await;
        }
        // What made it end stays visible until it is told to stop.
        cancelled.cancelled().await;
    }

    /// Opens the stream for the first time in this process. A slot that was used before is not
    /// created anew: that would hide what is lost. None if cancelled.
    async fn open(&self, cancelled: &CancellationToken) -> Option<Box<dyn Source>> {
        let slot = format!("{}/{}", self.database, self.name);
        let known = self.ask(|| self.stores.progress.is_known(&slot), cancelled).await?;
        let missing = if known { Missing::Refuse } else { Missing::Create };
        if let Some((_, last)) =
            self.ask(|| self.stores.owners.last_stream(&self.name), cancelled).await?
        {
            // What is told of a slot that is gone begins there.
            self.status.confirmed.set(last.0);
        }
        let connect = self.connect.as_ref();
        let source = slot::open(connect, missing, &self.status, cancelled).await?;
        if !known {
            let owner = self.owner(cancelled).await?;
            if let Err(error) = owner.first_meeting(source.as_ref()) {
                slot::tell(&self.status, &error, true);
                return None;
            }
        }
        let epoch = self.stores.epoch;
        self.ask(|| self.stores.progress.remember(epoch, &slot), cancelled).await?;
        Some(source)
    }

    /// Runs the slot and its sinks on one server. Returns the stream of another server, if that is
    /// what took its place.
    async fn run_on(
        &self,
        source: Box<dyn Source>,
        cancelled: &CancellationToken,
    ) -> Option<Box<dyn Source>> {
        let origin: Arc<str> = source.origin().into();
        let owner = self.owner(cancelled).await?;
        let last = self.ask(|| self.stores.owners.last_stream(&self.name), cancelled).await?;
        if let Some((last, confirmed)) = last.as_ref().filter(|(last, _)| **last != *origin)
            && let Err(error) = owner.other_stream(source.as_ref(), last, *confirmed)
        {
            slot::tell(&self.status, &error, true);
            return None;
        }
        let before = self.streams_before(&origin, cancelled).await?;
        let Confirmed { lsn: mut confirmed, log: synced } =
            self.confirmed(&origin, source.slot_position(), cancelled).await?;
        let mut highest = confirmed;
        let mut restored = Vec::new();
        let mut wanted = self.wanted.clone();
        let sinks = Arc::clone(&wanted.borrow_and_update());
        for member in sinks.iter() {
            let settled = self.restore(&origin, &member.spec.name, cancelled).await?;
            highest = highest.max(settled.high.commit_lsn);
            restored.push((Arc::clone(member), settled));
        }
        if let Err(error) = self.check_positions(&owner, source.as_ref(), confirmed, highest) {
            // Until the process is started anew: nothing that an operator does mends it before.
            slot::tell(&self.status, &error, true);
            return None;
        }
        if source.slot_position() > confirmed {
            // What lies between is accepted as lost: what comes is compared with this from now on.
            confirmed = source.slot_position();
            let (progress, epoch) = (&self.stores.progress, self.stores.epoch);
            let go_on = Confirmed { lsn: confirmed, log: synced };
            let record = || progress.record(epoch, &origin, Vec::new(), Some(go_on));
            self.ask(record, cancelled).await?;
        }
        let log = self.open_log(&origin, source.slot_position(), synced, cancelled).await?;
        let (finishing, done) = self.finishing(before, &sinks, cancelled);
        // What another version replaces lets go of its destination, as a file of its lock.
        drop(sinks);
        let (stage, crew) =
            self.begin(&origin, confirmed, log, (wanted, restored), done, &self.status);
        let stop_backfills = CancellationToken::new();
        let backfilling = self.conduct(&stage.registry, stop_backfills.clone());

        let mut slot = Slot {
            status: Arc::clone(&self.status),
            budget: Arc::clone(&self.budget),
            connect: Arc::clone(&self.connect),
            crew,
            spool: Arc::clone(&stage.spool),
            settled: Arc::clone(&stage.settled),
            confirm: Confirm::default(),
            recorded: Arc::clone(&stage.recorded),
            backfills: Arc::clone(&stage.registry),
            clock_us: self.settings.clock_us,
            owner,
            stores: self.stores.clone(),
            supervisor: self.supervisor.clone(),
            read: Position::default(),
        };
        // Reading stops first, then sending; what was under way is settled, recorded, confirmed.
        let end = finishing.beside(slot.run(source, cancelled)).await;
        slot.crew.stop().await;
        stop_backfills.cancel();
        if let Some(task) = backfilling {
            join(task).await;
        }
        let recording = stage.end_log().await;
        slot.want_settled();
        self.end_recording(recording).await;
        match end {
            End::Stopped(open) => {
                self.close(slot, open).await;
                None
            }
            End::OtherServer(source) => Some(source),
        }
    }

    /// Starts the sinks of a stream, and what records and logs for them; with `done` each of them once
    /// that tells of it.
    pub(crate) fn begin(
        &self,
        origin: &Arc<str>,
        confirmed: Lsn,
        log: Arc<dyn ChangeLog>,
        (wanted, restored): (watch::Receiver<Wanted>, Vec<(Arc<Member>, Settled)>),
        done: Option<Done>,
        status: &Arc<SlotStatus>,
    ) -> (Stage, Crew) {
        let settled = Arc::new(Notify::new());
        let bytes_max = self.settings.change_log_bytes_max;
        let (spool, to_log) = Spool::new(log, Arc::clone(status), bytes_max, Arc::clone(&settled));
        let recorded = Arc::new(Recorded::new(confirmed, Arc::clone(&settled)));
        let ledgers = Ledgers::default();
        let registry = Registry::new(Arc::clone(&recorded));
        let place = Place {
            origin: Arc::clone(origin),
            settled: Arc::clone(&settled),
            budget: Arc::clone(&self.budget),
            stores: self.stores.clone(),
            settings: self.settings,
            supervisor: self.supervisor.clone(),
            ledgers: ledgers.clone(),
            spool: Arc::clone(&spool),
            desks: self.desks.clone(),
            backfills: Arc::clone(&registry),
            rollouts: self.rollouts.clone(),
        };
        let mut crew = Crew::new(place, wanted);
        match done {
            Some(done) => crew.begin_behind(restored, done),
            None => restored.into_iter().for_each(|(member, settled)| crew.add(member, settled)),
        }
        let stop_recording = CancellationToken::new();
        let (progress, epoch) = (Arc::clone(&self.stores.progress), self.stores.epoch);
        let (origin, confirmed) = (Arc::clone(origin), Arc::clone(&recorded));
        let recorder =
            Recorder::new(progress, epoch, origin, ledgers, confirmed, Arc::clone(&spool));
        let recording = self.record(recorder, stop_recording.clone());
        let recording = self.supervisor.spawn(TaskKind::Progress, &self.name, recording);
        let write = spool::write::run(Arc::clone(&spool), to_log);
        let keep = spool::keep::run(Arc::clone(&spool), Arc::clone(&self.budget));
        let logging = [
            self.supervisor.spawn(TaskKind::Log, &self.name, write),
            self.supervisor.spawn(TaskKind::Log, &self.name, keep),
        ];
        let recording = Recording { stop: stop_recording, task: recording };
        (Stage { settled, spool, recorded, registry, logging, recording }, crew)
    }

    pub(crate) async fn end_recording(&self, recording: Recording) {
        recording.stop.cancel();
        if let Some(Err(error)) = join(recording.task).await {
            error!(slot.name = %self.name, %error, "the last progress is not recorded: a restart repeats");
        }
    }

    /// Who may read the slot. None if cancelled.
    async fn owner(&self, cancelled: &CancellationToken) -> Option<Owner> {
        let owners = &self.stores.owners;
        let accepted = self.ask(|| owners.accepted(&self.name), cancelled).await?;
        Some(Owner::new(owners.claim(&self.name), accepted, self.on_mismatch))
    }

    /// Runs the backfills of this stream, if whole tables can be read.
    fn conduct(
        &self,
        registry: &Arc<Registry>,
        stop: CancellationToken,
    ) -> Option<JoinHandle<Option<()>>> {
        let conductor = Conductor {
            backfills: self.backfills.clone(),
            database: Arc::clone(&self.database),
            source: self.backfill.clone()?,
            registry: Arc::clone(registry),
            budget: Arc::clone(&self.budget),
            status: Arc::clone(&self.status),
            supervisor: self.supervisor.clone(),
        };
        Some(self.supervisor.spawn(TaskKind::Backfill, &self.name, conductor.run(stop)))
    }

    /// Records; once another process has taken over the store, this one stops.
    fn record(
        &self,
        recorder: Recorder,
        stop: CancellationToken,
    ) -> impl Future<Output = Result<(), StoreError>> + use<> {
        let fatal = self.supervisor.fatal().clone();
        async move {
            let recorded = recorder.run(stop).await;
            if let Err(error @ StoreError::Fenced { .. }) = &recorded {
                error!(%error, "stopping");
                fatal.cancel();
            }
            recorded
        }
    }

    /// What is recorded for a sink. None if cancelled.
    pub(crate) async fn restore(
        &self,
        origin: &str,
        sink: &str,
        cancelled: &CancellationToken,
    ) -> Option<Settled> {
        let load = || self.stores.progress.load(origin, sink);
        self.ask(load, cancelled).await.map(Option::unwrap_or_default)
    }

    /// Asks the store until it answers. None if cancelled.
    pub(crate) async fn ask<'a, T>(
        &self,
        question: impl Fn() -> BoxFuture<'a, Result<T, StoreError>>,
        cancelled: &CancellationToken,
    ) -> Option<T> {
        loop {
            match question().await {
                Ok(answer) => return Some(answer),
                Err(error) => {
                    error!(slot.name = %self.name, %error, "the store does not answer; trying again");
                    self.status.problem.set(format!("the store does not answer: {error}"));
                }
            }
            let deadline = tokio::time::Instant::now() + STORE_RETRY;
            tokio::select! {
                biased;
                () = cancelled.cancelled() => return None,
                () = tokio::time::sleep_until(deadline) => {}
            }
        }
    }

    /// What is recorded to be confirmed. At first that is where the slot stands. None if cancelled.
    async fn confirmed(
        &self,
        origin: &str,
        at: Lsn,
        cancelled: &CancellationToken,
    ) -> Option<Confirmed> {
        let (progress, epoch) = (&self.stores.progress, self.stores.epoch);
        if let Some(recorded) = self.ask(|| progress.confirmed(origin), cancelled).await? {
            return Some(recorded);
        }
        let confirmed = Confirmed { lsn: at, ..Confirmed::default() };
        let record = || progress.record(epoch, origin, Vec::new(), Some(confirmed));
        self.ask(record, cancelled).await.map(|()| confirmed)
    }

    /// Opens the change log of a stream that sends everything from `refetched` on. None if
    /// cancelled, or if part of the log is lost that the server has no more.
    pub(crate) async fn open_log(
        &self,
        origin: &str,
        refetched: Lsn,
        synced: Synced,
        cancelled: &CancellationToken,
    ) -> Option<Arc<dyn ChangeLog>> {
        let Stores { logs, epoch, .. } = &self.stores;
        let open = || -> BoxFuture<'_, Result<_, StoreError>> {
            Box::pin(async move {
                match logs.open(*epoch, origin, refetched, Some(synced)).await {
                    Ok(log) => Ok(Ok(log)),
                    Err(StoreError::Damaged { what, .. }) => Ok(Err(what)),
                    Err(error) => Err(error),
                }
            })
        };
        match self.ask(open, cancelled).await? {
            Ok(log) => Some(log),
            Err(message) => {
                let name = &self.name;
                let help = format!(
                    "put the directory back if there is a copy; to go on without what is missing, \
                     stop the engine and run `sequin accept-loss {name}`, and load the tables anew"
                );
                let error = SourceError::Definite { code: "change_log_damaged", message, help };
                slot::tell(&self.status, &error, true);
                None
            }
        }
    }

    /// Compares the server with what is on record here: the highest position confirmed, and the
    /// highest of any sink.
    fn check_positions(
        &self,
        owner: &Owner,
        source: &dyn Source,
        confirmed: Lsn,
        highest: Lsn,
    ) -> Result<(), SourceError> {
        if source.slot_position() > confirmed {
            let (code, message) = slot::moved(&self.name, source.slot_position(), confirmed);
            owner.unless_accepted(code, message)?;
        }
        // Going on would skip new changes whose positions were used before.
        if let Some(at) = source.server_position().filter(|at| highest > *at) {
            return Err(SourceError::Definite {
                code: "server_set_back",
                message: format!(
                    "the sinks of slot {} have settled up to {highest}, but the server stands at \
                     {at}: it was restored from an older backup",
                    self.name
                ),
                help: format!(
                    "stop the engine and run `sequin accept-loss {}` to deliver from the slot's own \
                     position",
                    self.name
                ),
            });
        }
        Ok(())
    }

    /// The last confirmation, so that a restart is sent nothing again.
    async fn close(&self, mut slot: Slot, open: Option<Box<dyn Source>>) {
        let Some(mut source) = open else { return };
        slot.confirm_settled(source.as_mut());
        match source.close().await {
            Ok(()) => info!(slot.name = %self.name, "stream closed"),
            Err(error) => {
                warn!(slot.name = %self.name, %error, "the stream was not closed in order");
            }
        }
    }
}

/// Waits for a task. None if it panicked, which its supervisor has told already.
async fn join<T>(task: JoinHandle<Option<T>>) -> Option<T> {
    task.await.ok().flatten()
}
