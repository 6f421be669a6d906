//! Runs slots and their sinks, and stops them in the order in which nothing is lost or repeated.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use model::BoxFuture;
use model::acks::Settled;
use model::lsn::Lsn;
use model::source::{Missing, Source, SourceError};
use model::store::{Epoch, Letters, Progress, StoreError};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::budget::{Budget, WakeOnDrop};
use crate::bury::Burial;
use crate::confirm::Confirm;
use crate::deliver::Deliver;
use crate::derive::Shapes;
use crate::fan_out::Outlet;
use crate::intake::Intake;
use crate::ledger::Ledger;
use crate::progress::Recorder;
use crate::recorded::Recorded;
use crate::router::Routes;
use crate::slot::{self, End, Slot};
use crate::spec::{SinkSpec, SlotSpec};
use crate::status::{SinkStatus, SlotStatus, Status};
use crate::supervise::{Supervisor, TaskKind};

/// Portions that wait for the plugins of one sink. They grow when they are encoded, so few may wait:
/// what passes the budget is at most these, a page each.
const PORTIONS_MAX: usize = 32;

/// Groups of messages between intake and lanes: the delivery takes them at once.
const ADMITTED_MAX: usize = 16;

/// How long to wait before the store is asked again at start.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// What the engine keeps where.
#[derive(Clone)]
pub struct Stores {
    /// How far each sink came.
    pub progress: Arc<dyn Progress>,
    /// Messages put aside.
    pub letters: Arc<dyn Letters>,
    /// This process' token for both.
    pub epoch: Epoch,
}

/// Limits of a run.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long requests under way may take after a stop.
    pub drain_deadline: Duration,
}

/// The engine, ready to run.
pub struct Engine {
    slots: Vec<(SlotSpec, Arc<SlotStatus>)>,
    status: Arc<Status>,
    stores: Stores,
    settings: Settings,
    supervisor: Supervisor,
}

impl Engine {
    /// Prepares to run these slots within one byte budget.
    #[must_use]
    pub fn new(
        slots: Vec<SlotSpec>,
        budget: Arc<Budget>,
        stores: Stores,
        settings: Settings,
        supervisor: Supervisor,
    ) -> Self {
        let slots: Vec<_> = slots
            .into_iter()
            .map(|mut spec| {
                crate::share::share(&mut spec.sinks);
                let status = Arc::new(slot_status(&spec));
                (spec, status)
            })
            .collect();
        let shown = slots.iter().map(|(_, status)| Arc::clone(status)).collect();
        let status = Arc::new(Status { slots: shown, budget });
        Self { slots, status, stores, settings, supervisor }
    }

    /// What it shows of itself.
    #[must_use]
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// Runs until cancelled and everything under way is settled and recorded.
    pub async fn run(self, cancelled: CancellationToken) {
        let budget = &self.status.budget;
        let runs = self.slots.into_iter().map(|(spec, status)| {
            let name = Arc::clone(&spec.name);
            let run = SlotRun {
                spec,
                status,
                budget: Arc::clone(budget),
                stores: self.stores.clone(),
                settings: self.settings,
                supervisor: self.supervisor.clone(),
            };
            self.supervisor.spawn(TaskKind::Slot, &name, run.run(cancelled.clone()))
        });
        let runs: Vec<JoinHandle<Option<()>>> = runs.collect();
        for run in runs {
            join(run).await;
        }
    }
}

fn slot_status(spec: &SlotSpec) -> SlotStatus {
    let sink = |sink: &SinkSpec| {
        let (id, name) = (Arc::clone(&sink.id), Arc::clone(&sink.name));
        Arc::new(SinkStatus { id, name, ..SinkStatus::default() })
    };
    SlotStatus {
        name: Arc::clone(&spec.name),
        database: Arc::clone(&spec.database),
        sinks: spec.sinks.iter().map(sink).collect(),
        ..SlotStatus::default()
    }
}

struct SlotRun {
    spec: SlotSpec,
    status: Arc<SlotStatus>,
    budget: Arc<Budget>,
    stores: Stores,
    settings: Settings,
    supervisor: Supervisor,
}

impl SlotRun {
    async fn run(mut self, cancelled: CancellationToken) {
        let sinks: Vec<Arc<SinkSpec>> =
            std::mem::take(&mut self.spec.sinks).into_iter().map(Arc::new).collect();
        let mut next = self.open(&cancelled).await;
        while let Some(source) = next {
            next = self.run_on(source, &sinks, &cancelled).await;
        }
        // What made it end stays visible until the process is told to stop.
        cancelled.cancelled().await;
    }

    /// Opens the stream for the first time in this process. A slot that was used before is not
    /// created anew: that would hide what is lost. None if cancelled.
    async fn open(&self, cancelled: &CancellationToken) -> Option<Box<dyn Source>> {
        let slot = format!("{}/{}", self.spec.database, self.spec.name);
        let known = self.ask(|| self.stores.progress.is_known(&slot), cancelled).await?;
        let missing = if known { Missing::Refuse } else { Missing::Create };
        let connect = self.spec.connect.as_ref();
        let source = slot::open(connect, missing, &self.status, cancelled).await?;
        let epoch = self.stores.epoch;
        self.ask(|| self.stores.progress.remember(epoch, &slot), cancelled).await?;
        Some(source)
    }

    /// Runs the slot and its sinks on one server. Returns the stream of another server, if that is
    /// what took its place.
    async fn run_on(
        &self,
        source: Box<dyn Source>,
        sinks: &[Arc<SinkSpec>],
        cancelled: &CancellationToken,
    ) -> Option<Box<dyn Source>> {
        let origin: Arc<str> = source.origin().into();
        let settled = Arc::new(Notify::new());
        let stop_sinks = CancellationToken::new();
        let mut outlets = Vec::new();
        let mut sink_tasks = Vec::new();
        let mut ledgers = Vec::new();
        let confirmed = self.confirmed(&origin, source.slot_position(), cancelled).await?;
        let mut highest = confirmed;
        let mut restored = Vec::new();
        for spec in sinks {
            let settled = self.restore(&origin, &spec.name, cancelled).await?;
            highest = highest.max(settled.high.commit_lsn);
            restored.push(settled);
        }
        if let Err(error) = self.check_positions(source.as_ref(), confirmed, highest) {
            // Until the process is started anew: nothing that an operator does mends it before.
            slot::tell(&self.status, &error, true);
            return None;
        }
        let recorded = Arc::new(Recorded::new(confirmed, Arc::clone(&settled)));
        for ((spec, status), restored) in sinks.iter().zip(&self.status.sinks).zip(restored) {
            let ledger = Arc::new(Ledger::new(restored, Arc::clone(&settled)));
            ledgers.push((Arc::clone(&spec.name), Arc::clone(&ledger)));
            let (spec, status) = (Arc::clone(spec), Arc::clone(status));
            let outlet =
                self.start_sink(spec, status, ledger, &origin, &stop_sinks, &mut sink_tasks);
            outlets.push(outlet);
        }
        let stop_recording = CancellationToken::new();
        let progress = Arc::clone(&self.stores.progress);
        let recorder =
            Recorder::new(progress, self.stores.epoch, origin, ledgers, Arc::clone(&recorded));
        let recording = self.record(recorder, stop_recording.clone());
        let recording = self.supervisor.spawn(TaskKind::Progress, &self.spec.name, recording);

        let mut slot = Slot {
            status: Arc::clone(&self.status),
            budget: Arc::clone(&self.budget),
            connect: Arc::clone(&self.spec.connect),
            outlets,
            settled,
            confirm: Confirm::default(),
            recorded,
        };
        // Reading stops first, then sending; what was under way is settled, recorded, confirmed.
        let end = slot.run(source, cancelled).await;
        stop_sinks.cancel();
        for task in sink_tasks {
            join(task).await;
        }
        slot.want_settled();
        stop_recording.cancel();
        if let Some(Err(error)) = join(recording).await {
            error!(slot.name = %self.spec.name, %error, "the last progress is not recorded: a restart repeats");
        }
        match end {
            End::Stopped(open) => {
                self.close(slot, open).await;
                None
            }
            End::OtherServer(source) => Some(source),
        }
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
    async fn restore(
        &self,
        origin: &str,
        sink: &str,
        cancelled: &CancellationToken,
    ) -> Option<Settled> {
        let load = || self.stores.progress.load(origin, sink);
        self.ask(load, cancelled).await.map(Option::unwrap_or_default)
    }

    /// Asks the store until it answers. None if cancelled.
    async fn ask<'a, T>(
        &self,
        question: impl Fn() -> BoxFuture<'a, Result<T, StoreError>>,
        cancelled: &CancellationToken,
    ) -> Option<T> {
        loop {
            match question().await {
                Ok(answer) => return Some(answer),
                Err(error) => {
                    error!(slot.name = %self.spec.name, %error, "the store does not answer; trying again");
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
    async fn confirmed(&self, origin: &str, at: Lsn, cancelled: &CancellationToken) -> Option<Lsn> {
        let (progress, epoch) = (&self.stores.progress, self.stores.epoch);
        if let Some(recorded) = self.ask(|| progress.confirmed(origin), cancelled).await? {
            return Some(recorded);
        }
        let record = || progress.record(epoch, origin, Vec::new(), Some(at));
        self.ask(record, cancelled).await.map(|()| at)
    }

    /// Compares the server with what is on record here: the highest position confirmed, and the
    /// highest of any sink.
    fn check_positions(
        &self,
        source: &dyn Source,
        confirmed: Lsn,
        highest: Lsn,
    ) -> Result<(), SourceError> {
        if source.slot_position() > confirmed {
            return Err(slot::moved(&self.spec.name, source.slot_position(), confirmed));
        }
        // Going on would skip new changes whose positions were used before.
        if let Some(at) = source.server_position().filter(|at| highest > *at) {
            return Err(SourceError::Definite {
                code: "server_set_back",
                message: format!(
                    "the sinks of slot {} have settled up to {highest}, but the server stands at \
                     {at}: it was restored from an older backup",
                    self.spec.name
                ),
                help: format!(
                    "stop the engine and run `sequin accept-loss {}` to deliver from the slot's own \
                     position",
                    self.spec.name
                ),
            });
        }
        Ok(())
    }

    fn start_sink(
        &self,
        spec: Arc<SinkSpec>,
        status: Arc<SinkStatus>,
        ledger: Arc<Ledger>,
        origin: &Arc<str>,
        stop: &CancellationToken,
        tasks: &mut Vec<JoinHandle<Option<()>>>,
    ) -> Outlet {
        // Whatever stopped it on another server: here it begins anew.
        status.stopped.set(None);
        let (portions_in, portions) = mpsc::channel(PORTIONS_MAX);
        let (lanes, admitted) = mpsc::channel(ADMITTED_MAX);
        let burial = Burial {
            letters: Arc::clone(&self.stores.letters),
            epoch: self.stores.epoch,
            origin: Arc::clone(origin),
            spec: Arc::clone(&spec),
            status: Arc::clone(&status),
        };
        let intake = Intake {
            spec: Arc::clone(&spec),
            status: Arc::clone(&status),
            ledger: Arc::clone(&ledger),
            budget: Arc::clone(&self.budget),
            burial: burial.clone(),
            portions,
            lanes,
            routes: Routes::default(),
            shapes: Shapes::default(),
            _gone: WakeOnDrop(Arc::clone(&self.budget)),
        };
        let deliver = Deliver {
            spec: Arc::clone(&spec),
            status: Arc::clone(&status),
            ledger: Arc::clone(&ledger),
            burial,
            admitted,
            drain_deadline: self.settings.drain_deadline,
        };
        let stopped = |status: &Arc<SinkStatus>| {
            let status = Arc::clone(status);
            move |panic: &str| status.stopped.set(format!("a fault of the engine: {panic}"))
        };
        let name = &spec.name;
        let intake = intake.run(stop.clone());
        tasks.push(self.supervisor.spawn_watched(TaskKind::Intake, name, intake, stopped(&status)));
        let deliver = deliver.run(stop.clone());
        tasks.push(self.supervisor.spawn_watched(
            TaskKind::Deliver,
            name,
            deliver,
            stopped(&status),
        ));
        Outlet::new(spec, ledger, status, portions_in)
    }

    /// The last confirmation, so that a restart is sent nothing again.
    async fn close(&self, mut slot: Slot, open: Option<Box<dyn Source>>) {
        let Some(mut source) = open else { return };
        slot.confirm_settled(source.as_mut());
        match source.close().await {
            Ok(()) => info!(slot.name = %self.spec.name, "stream closed"),
            Err(error) => {
                warn!(slot.name = %self.spec.name, %error, "the stream was not closed in order");
            }
        }
    }
}

/// Waits for a task. None if it panicked, which its supervisor has told already.
async fn join<T>(task: JoinHandle<Option<T>>) -> Option<T> {
    task.await.ok().flatten()
}
