//! The engine: runs slots, takes in other ones while they run, and stops them in the order in which
//! nothing is lost or repeated.

use std::sync::Arc;
use std::time::Duration;

use model::store::{ChangeLogs, Epoch, Letters, Owners, Progress, Scratch};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::backfill::{self, Backfills, Facts};
use crate::budget::Budget;
use crate::crew::{Member, Wanted};
use crate::desk::Desks;
use crate::health::Health;
use crate::moved::{Moving, NotMoved};
use crate::rollout::Rollouts;
use crate::slot_run::SlotRun;
use crate::spec::{SinkSpec, SlotSpec};
use crate::status::{ConfigStatus, Fault, SinkStatus, SlotStatus, Status};
use crate::supervise::{Supervisor, TaskKind};

/// Edits that wait for the one before: each waits for its answer, so more are not asked for.
const EDITS_MAX: usize = 4;

/// What the engine keeps where.
#[derive(Clone)]
pub struct Stores {
    /// How far each sink came.
    pub progress: Arc<dyn Progress>,
    /// Messages put aside.
    pub letters: Arc<dyn Letters>,
    /// Whose the slots are.
    pub owners: Arc<dyn Owners>,
    /// What sinks that are behind have still to deliver.
    pub logs: Arc<dyn ChangeLogs>,
    /// What is known of backfills.
    pub backfills: Arc<dyn model::store::Backfills>,
    /// What is known of rollouts.
    pub rollouts: Arc<dyn model::store::Rollouts>,
    /// Room on the disk for messages that wait.
    pub scratch: Arc<dyn Scratch>,
    /// This process' token for all of them.
    pub epoch: Epoch,
}

/// Limits of a run, and its clock.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long requests under way may take after a stop.
    pub drain_deadline: Duration,
    /// No more may be in the change log of a slot, in bytes; nor of messages that wait.
    pub change_log_bytes_max: u64,
    /// The time of day, in microseconds since 1970: commits are compared with it.
    pub clock_us: fn() -> i64,
}

/// The engine, ready to run.
pub struct Engine {
    slots: Vec<SlotSpec>,
    status: Arc<Status>,
    stores: Stores,
    settings: Settings,
    pub(crate) supervisor: Supervisor,
    handle: Handle,
    pub(crate) backfills: Backfills,
    pub(crate) rollouts: Rollouts,
    edits: mpsc::Receiver<Edit>,
    pub(crate) runs: Vec<Run>,
}

/// Changes what an engine runs.
#[derive(Clone)]
pub struct Handle {
    edits: mpsc::Sender<Edit>,
    pub(crate) desks: Desks,
    pub(crate) stores: Stores,
    pub(crate) supervisor: Supervisor,
    backfills: Backfills,
    rollouts: Rollouts,
}

struct Edit {
    slots: Vec<SlotSpec>,
    moving: Option<Moving>,
    done: oneshot::Sender<Result<(), NotMoved>>,
}

/// The engine has stopped.
#[derive(Debug, thiserror::Error)]
#[error("the engine has stopped")]
pub struct Stopped;

/// A slot that runs.
pub(crate) struct Run {
    /// Without its sinks.
    pub(crate) spec: SlotSpec,
    pub(crate) status: Arc<SlotStatus>,
    pub(crate) wanted: watch::Sender<Wanted>,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<Option<()>>,
}

impl Handle {
    /// From now on these slots and sinks are to run, and no others. What has the name and the
    /// revision that it had goes on untouched. Returns once slots that are gone have stopped and new
    /// ones are started; sinks may still be on their way.
    ///
    /// # Errors
    /// The engine has stopped.
    pub async fn apply(&self, slots: Vec<SlotSpec>) -> Result<(), Stopped> {
        // Without names that change there is nothing to refuse.
        self.edit(slots, None).await.map(drop)
    }

    /// The same, where some of it had another name before: it keeps what is kept of it. Where that is
    /// not done, what ran goes on.
    ///
    /// # Errors
    /// The engine has stopped. Inside: why the names are as they were.
    pub async fn apply_moved(
        &self,
        slots: Vec<SlotSpec>,
        moving: Moving,
    ) -> Result<Result<(), NotMoved>, Stopped> {
        self.edit(slots, Some(moving)).await
    }

    async fn edit(
        &self,
        slots: Vec<SlotSpec>,
        moving: Option<Moving>,
    ) -> Result<Result<(), NotMoved>, Stopped> {
        let (done, applied) = oneshot::channel();
        self.edits.send(Edit { slots, moving, done }).await.map_err(|_| Stopped)?;
        applied.await.map_err(|_| Stopped)
    }
}

impl Handle {
    /// Its backfills.
    #[must_use]
    pub fn backfills(&self) -> &Backfills {
        &self.backfills
    }

    /// Its rollouts.
    #[must_use]
    pub fn rollouts(&self) -> &Rollouts {
        &self.rollouts
    }
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
        let (sender, edits) = mpsc::channel(EDITS_MAX);
        let shown = slots.iter().map(|spec| Arc::new(slot_status(spec))).collect::<Vec<_>>();
        for (spec, status) in slots.iter().zip(&shown) {
            let sinks = spec.sinks.iter().map(|sink| Arc::new(sink_status(sink))).collect();
            status.sinks.set(sinks);
        }
        let status = Arc::new(Status {
            slots: shown.into(),
            budget,
            config: ConfigStatus::default(),
            health: Health::default(),
        });
        let Stores { backfills, epoch, .. } = &stores;
        let backfills = Backfills::new(Arc::clone(backfills), *epoch, settings.clock_us);
        let rollouts = Rollouts::new(&stores, settings.clock_us, supervisor.clone());
        let handle = Handle {
            edits: sender,
            desks: Desks::default(),
            stores: stores.clone(),
            supervisor: supervisor.clone(),
            backfills: backfills.clone(),
            rollouts: rollouts.clone(),
        };
        let runs = Vec::new();
        Self {
            slots,
            status,
            stores,
            settings,
            supervisor,
            handle,
            backfills,
            rollouts,
            edits,
            runs,
        }
    }

    /// What it is to run first; empty once it runs.
    #[must_use]
    pub fn slots(&self) -> &[SlotSpec] {
        &self.slots
    }

    /// A sink of those that are to run first cannot be started after all.
    pub fn unfit(&mut self, sink: &str, fault: &Fault) {
        let sinks = self.slots.iter_mut().flat_map(|slot| &mut slot.sinks);
        for spec in sinks.filter(|spec| *spec.name == *sink) {
            spec.fault = Some(fault.clone());
        }
    }

    /// What it shows of itself.
    #[must_use]
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// Changes what it runs, while it runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs until cancelled and everything under way is settled and recorded.
    pub async fn run(mut self, cancelled: CancellationToken) {
        let slots = std::mem::take(&mut self.slots);
        self.apply(slots, &cancelled).await;
        loop {
            tokio::select! {
                biased;
                () = cancelled.cancelled() => break,
                Some(Edit { slots, moving, done }) = self.edits.recv() => {
                    let moved = match moving {
                        Some(moving) => self.rename(moving, &slots, &cancelled).await,
                        None => Ok(()),
                    };
                    if moved.is_ok() {
                        self.apply(slots, &cancelled).await;
                    }
                    // Whoever asked may be gone.
                    done.send(moved).ok();
                }
            }
        }
        for run in self.runs {
            // A panic was told by the supervisor.
            drop(run.task.await);
        }
    }

    /// Makes what runs what is to run.
    async fn apply(&mut self, slots: Vec<SlotSpec>, cancelled: &CancellationToken) {
        self.tell(&slots).await;
        let cancelling = backfill::cancel_without_sink(self.backfills.clone());
        self.supervisor.spawn(TaskKind::Backfill, "sinks that are gone", cancelling);
        let (mut stay, mut leave) = (Vec::new(), Vec::new());
        for run in std::mem::take(&mut self.runs) {
            let same = |spec: &SlotSpec| {
                spec.database == run.spec.database && spec.revision == run.spec.revision
            };
            if slots.iter().any(same) {
                stay.push(run);
            } else {
                info!(slot.name = %run.status.name, "the slot's run ends: it was removed or changed");
                run.stop.cancel();
                leave.push(run);
            }
        }
        let known = self.status.slots.list();
        let mut begin = Vec::new();
        let mut shown = Vec::new();
        for mut spec in slots {
            let sinks = std::mem::take(&mut spec.sinks);
            let run = stay.iter().find(|run| run.spec.database == spec.database);
            let is_it = |status: &&Arc<SlotStatus>| {
                status.database == spec.database && status.name == spec.name
            };
            let status = match (run, known.iter().find(is_it)) {
                (Some(run), _) => Arc::clone(&run.status),
                (None, Some(status)) => Arc::clone(status),
                (None, None) => Arc::new(slot_status(&spec)),
            };
            let before = run.map(|run| Arc::clone(&run.wanted.borrow()));
            let wanted = members(sinks, before.as_deref().unwrap_or_default(), &status);
            status.sinks.set(wanted.iter().map(|member| Arc::clone(&member.status)).collect());
            shown.push(Arc::clone(&status));
            match run {
                Some(run) => {
                    run.wanted.send_if_modified(|before| {
                        let is_other = !is_same(before, &wanted);
                        *before = wanted;
                        is_other
                    });
                }
                None => begin.push((spec, status, wanted)),
            }
        }
        self.status.slots.set(shown);
        self.runs = stay;
        // One that comes may read the same slot of a server as one that goes.
        for run in leave {
            drop(run.task.await);
        }
        for (spec, status, wanted) in begin {
            let run = self.begin(spec, status, wanted, cancelled);
            self.runs.push(run);
        }
    }

    /// Tells what stands beside the slots which sinks are to run.
    pub(crate) async fn tell(&self, slots: &[SlotSpec]) {
        let facts = slots.iter().flat_map(|slot| slot.sinks.iter().map(|sink| facts(slot, sink)));
        self.backfills.set_sinks(facts.collect());
        self.rollouts.set_sinks(slots).await;
    }

    /// Begins the run of a slot with these sinks.
    pub(crate) fn begin(
        &self,
        spec: SlotSpec,
        status: Arc<SlotStatus>,
        wanted: Wanted,
        cancelled: &CancellationToken,
    ) -> Run {
        let (wanted, receiver) = watch::channel(wanted);
        let run = SlotRun {
            name: Arc::clone(&spec.name),
            database: Arc::clone(&spec.database),
            connect: Arc::clone(&spec.connect),
            on_mismatch: spec.on_mismatch,
            backfill: spec.backfill.clone(),
            backfills: self.backfills.clone(),
            rollouts: self.rollouts.clone(),
            wanted: receiver,
            status: Arc::clone(&status),
            budget: Arc::clone(&self.status.budget),
            stores: self.stores.clone(),
            settings: self.settings,
            supervisor: self.supervisor.clone(),
            desks: self.handle.desks.clone(),
        };
        let stop = cancelled.child_token();
        let task = self.supervisor.spawn(TaskKind::Slot, &spec.name, run.run(stop.clone()));
        Run { spec, status, wanted, stop, task }
    }
}

/// What backfills have to know of a sink.
fn facts(slot: &SlotSpec, sink: &SinkSpec) -> Facts {
    Facts {
        id: Arc::clone(&sink.id),
        name: Arc::clone(&sink.name),
        database: Arc::clone(&slot.database),
        selection: sink.selection.clone(),
    }
}

/// The sinks of a slot: those that stay as they were are taken over from `before`.
fn members(sinks: Vec<SinkSpec>, before: &[Arc<Member>], slot: &SlotStatus) -> Wanted {
    let stays = |sink: &SinkSpec| {
        let same = |member: &&Arc<Member>| {
            member.spec.name == sink.name && member.spec.revision == sink.revision
        };
        before.iter().find(same).map(Arc::clone)
    };
    let statuses = slot.sinks.list();
    let kept: Vec<Option<Arc<Member>>> = sinks.iter().map(stays).collect();
    let mut paused = Vec::with_capacity(sinks.len());
    let mut fresh = Vec::new();
    for (sink, kept) in sinks.into_iter().zip(&kept) {
        paused.push(sink.paused);
        if kept.is_none() {
            fresh.push(sink);
        }
    }
    crate::share::share(&mut fresh);
    let mut fresh = fresh.into_iter().map(|spec| {
        let known = statuses.iter().find(|status| status.name == spec.name);
        let status = known.map_or_else(|| Arc::new(sink_status(&spec)), Arc::clone);
        if let Some(fault) = &spec.fault {
            error!(sink.name = %spec.name, code = fault.code, %fault, "the sink is not started; what comes is kept for it");
            status.unfit(fault);
        }
        let paused = watch::Sender::new(spec.paused);
        Arc::new(Member { spec: Arc::new(spec), status, paused })
    });
    let members = kept.into_iter().zip(paused).filter_map(|(kept, paused)| {
        let member = kept.or_else(|| fresh.next())?;
        if member.paused.send_if_modified(|now| std::mem::replace(now, paused) != paused) {
            info!(sink.name = %member.spec.name, paused, "the sink is paused, or goes on");
            // Whoever lets it go on has looked at what it put aside.
            member.status.trip.resume();
        }
        member.status.paused.set(u64::from(paused));
        Some(member)
    });
    members.collect()
}

fn is_same(before: &Wanted, wanted: &Wanted) -> bool {
    before.len() == wanted.len()
        && before.iter().zip(wanted.iter()).all(|(before, wanted)| Arc::ptr_eq(before, wanted))
}

fn sink_status(sink: &SinkSpec) -> SinkStatus {
    let status = SinkStatus {
        id: Arc::clone(&sink.id),
        name: Arc::clone(&sink.name),
        ..SinkStatus::default()
    };
    status.paused.set(u64::from(sink.paused));
    status
}

fn slot_status(spec: &SlotSpec) -> SlotStatus {
    SlotStatus {
        name: Arc::clone(&spec.name),
        database: Arc::clone(&spec.database),
        ..SlotStatus::default()
    }
}
