//! The sinks of one slot while it streams: starts them, lets them go, puts others in their place.
//!
//! Neither the slot nor a neighbour waits for any of it. A sink that has to go takes in nothing from
//! that moment on; what it has under way is awaited within the drain deadline.
//!
//! One that is removed owes nothing any more. One that is changed owes what it had not settled and
//! what comes meanwhile: the one goes to the change log before its next version starts, the other as
//! it comes, and there the next version finds both. So does one that was stopped by a fault: it is
//! started again after a while. A new one begins behind what was read already. One that cannot be
//! started stands in its place, and owes what comes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use model::acks::Settled;
use model::backoff::Backoff;
use model::position::Position;
use model::store::{Address, Part};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::backfill::{Registry, View};
use crate::budget::{Budget, Share, WakeOnDrop};
use crate::bury::Burial;
use crate::deliver::{Deliver, Room};
use crate::derive::Shapes;
use crate::desk::Desks;
use crate::fan_out::{Hands, Outlet};
use crate::intake::Intake;
use crate::ledger::Ledger;
use crate::progress::Ledgers;
use crate::rollout::{Rolled, Rollouts, Seat};
use crate::router::Routes;
use crate::run::{Settings, Stores};
use crate::spec::SinkSpec;
use crate::spool::backlog::Backlog;
use crate::spool::read::Read;
use crate::spool::{Owner, Spool, keep};
use crate::status::SinkStatus;
use crate::supervise::{Supervisor, TaskKind};

/// Portions that wait for the plugins of one sink. They grow when they are encoded, so few may wait:
/// what passes the budget is at most these, a page each.
const PORTIONS_MAX: usize = 32;

/// Groups of messages between intake and lanes: the delivery takes them at once.
const ADMITTED_MAX: usize = 16;

/// One version of a sink that is to run.
pub(crate) struct Member {
    pub(crate) spec: Arc<SinkSpec>,
    /// Of all its versions.
    pub(crate) status: Arc<SinkStatus>,
    /// Changes while it runs.
    pub(crate) paused: watch::Sender<bool>,
}

/// All sinks that are to run.
pub(crate) type Wanted = Arc<[Arc<Member>]>;

/// What sinks of one stream are started with.
pub(crate) struct Place {
    pub(crate) origin: Arc<str>,
    pub(crate) settled: Arc<Notify>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) stores: Stores,
    pub(crate) settings: Settings,
    pub(crate) supervisor: Supervisor,
    pub(crate) ledgers: Ledgers,
    pub(crate) spool: Arc<Spool>,
    pub(crate) desks: Desks,
    pub(crate) backfills: Arc<Registry>,
    pub(crate) rollouts: Rollouts,
}

/// Before a sink that was stopped by a fault is started again.
const RESTART: Backoff = Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(300) };

/// A sink that ran as long had no fault in its start.
const STEADY: Duration = Duration::from_secs(600);

/// A sink that runs, or whose next version waits until the one before has gone.
struct Running {
    member: Arc<Member>,
    /// Tells what runs from what ran under its name before.
    id: u64,
    stop: CancellationToken,
    /// It was told to stop, or has stopped.
    leaving: bool,
    started: Instant,
    /// How often in a row it was stopped by a fault soon after its start.
    faults: u32,
}

/// What happened to the crew.
pub(crate) enum Event {
    /// Others are wanted.
    Wanted,
    /// The tasks of a sink have ended.
    Ended { sink: Arc<str>, id: u64 },
    /// What a sink owes is in the change log: it may be started again.
    Ready(Arc<str>),
}

/// The sinks of a slot.
pub(crate) struct Crew {
    place: Place,
    wanted: watch::Receiver<Wanted>,
    /// Sinks that are done with the streams before this one.
    done_before: Option<mpsc::Receiver<Arc<str>>>,
    /// As the slot sees them.
    pub(crate) outlets: Vec<Outlet>,
    /// Each with the outlet of the same index.
    running: Vec<Running>,
    events: FuturesUnordered<BoxFuture<'static, Event>>,
    /// Of how many sinks the tasks have not ended.
    alive: usize,
    /// Who was told to stop and is not ready for another.
    leaving_names: Vec<Arc<str>>,
    next_id: u64,
    dice: fastrand::Rng,
}

impl Crew {
    /// Nobody yet.
    pub(crate) fn new(place: Place, wanted: watch::Receiver<Wanted>) -> Self {
        Self {
            place,
            wanted,
            done_before: None,
            outlets: Vec::new(),
            running: Vec::new(),
            events: FuturesUnordered::new(),
            alive: 0,
            leaving_names: Vec::new(),
            next_id: 0,
            dice: fastrand::Rng::new(),
        }
    }

    /// What happens next. Cancel-safe.
    pub(crate) async fn event(&mut self) -> Event {
        tokio::select! {
            biased;
            Some(event) = self.events.next(), if !self.events.is_empty() => event,
            sink = next(&mut self.done_before) => Event::Ready(sink),
            Ok(()) = self.wanted.changed() => Event::Wanted,
            else => std::future::pending().await,
        }
    }

    /// Sinks wait until they are done with the streams before this one; `done` tells of each. What
    /// comes meanwhile goes to the change log.
    pub(crate) fn begin_behind(
        &mut self,
        restored: Vec<(Arc<Member>, Settled)>,
        done: mpsc::Receiver<Arc<str>>,
    ) {
        self.done_before = Some(done);
        for (member, settled) in restored {
            self.leaving_names.push(Arc::clone(&member.spec.name));
            self.reserve(member, settled, Address::default());
        }
    }

    /// Who owes nothing of what was read.
    pub(crate) fn settled(&mut self) -> Vec<Arc<str>> {
        let settled = self
            .outlets
            .iter_mut()
            .filter_map(|outlet| outlet.owes_nothing().then(|| Arc::clone(&outlet.spec.name)));
        settled.collect()
    }

    /// Lets a sink go that owes nothing, when no other version is to take its place here. What it has
    /// settled stays on record.
    pub(crate) fn retire(&mut self, name: &str) {
        let index = self.running.iter().position(|running| *running.member.spec.name == *name);
        let Some(index) = index else { return };
        self.let_go(index);
        self.outlets.remove(index);
        self.running.remove(index);
        self.place.spool.remove_owner(name);
        self.place.backfills.remove_sink(name);
    }

    /// Acts on it. `read` is what the slot has read already.
    pub(crate) fn take(&mut self, event: Event, read: Position) {
        match event {
            Event::Wanted => self.reconcile(read),
            Event::Ended { sink, id } => self.ended(sink, id),
            Event::Ready(name) => self.ready(&name),
        }
    }

    /// The tasks of a sink have ended. What it owes goes to the change log, and then it is started
    /// again: the version that is wanted by then.
    fn ended(&mut self, sink: Arc<str>, id: u64) {
        self.alive -= 1;
        let index = self.running.iter().position(|running| running.id == id);
        let Some((running, outlet)) =
            index.and_then(|index| self.running.get_mut(index).zip(self.outlets.get(index)))
        else {
            // It was removed, and owes nothing.
            return self.ready(&sink);
        };
        let mut delay = Duration::ZERO;
        if !std::mem::replace(&mut running.leaving, true) {
            running.faults =
                if running.started.elapsed() < STEADY { running.faults + 1 } else { 1 };
            delay = RESTART.delay(running.faults, self.dice.f64());
            info!(sink.name = %sink, in_seconds = delay.as_secs_f64(), "the sink was stopped by a fault and is started again");
            self.leaving_names.push(Arc::clone(&sink));
        }
        let (spool, ledger) = (Arc::clone(&self.place.spool), Arc::clone(&outlet.hands.ledger));
        self.events.push(Box::pin(async move {
            let restart = Instant::now() + delay;
            if keep::keep_all(&spool, &sink, &ledger).await.is_none() {
                // The slot stops, and what is open is sent again.
                return std::future::pending().await;
            }
            tokio::time::sleep_until(restart).await;
            Event::Ready(sink)
        }));
    }

    fn ready(&mut self, name: &str) {
        self.leaving_names.retain(|leaving| **leaving != *name);
        let wanted = self.wanted.borrow().iter().find(|member| *member.spec.name == *name).cloned();
        let index = self.running.iter().position(|running| *running.member.spec.name == *name);
        // Whoever is not wanted has lost his outlet at once.
        if let Some((index, member)) = index.zip(wanted) {
            self.replace(index, member);
        }
    }

    /// Compares who runs with who is to run.
    fn reconcile(&mut self, read: Position) {
        let wanted = Arc::clone(&self.wanted.borrow_and_update());
        let mut index = 0;
        while let Some(running) = self.running.get(index) {
            let name = Arc::clone(&running.member.spec.name);
            let next = wanted.iter().find(|member| member.spec.name == name);
            if next.is_some_and(|next| Arc::ptr_eq(next, &running.member)) {
                index += 1;
                continue;
            }
            let is_removed = next.is_none();
            if let Some(next) = next {
                next.status.begun.send_replace(Some((next.spec.revision, read)));
            }
            self.let_go(index);
            if is_removed {
                info!(sink.name = %name, "the sink is removed: what it owed is dropped");
                self.outlets.remove(index);
                self.running.remove(index);
                self.place.ledgers.remove(&name);
                self.place.spool.remove_owner(&name);
                self.place.backfills.remove_sink(&name);
                // What it owed may have held the slot back.
                self.place.settled.notify_one();
            } else {
                index += 1;
            }
        }
        for member in wanted.iter() {
            let name = &member.spec.name;
            let runs = self.running.iter().any(|running| running.member.spec.name == *name);
            if !runs {
                info!(sink.name = %name, behind = %read.commit_lsn, "the sink is new");
                let settled = Settled { high: read, open: Vec::new() };
                if self.leaving_names.contains(name) {
                    let end = self.place.spool.log.end(Part::Stream);
                    self.reserve(Arc::clone(member), settled, end);
                } else {
                    self.add(Arc::clone(member), settled);
                }
            }
        }
    }

    /// Tells a sink to stop, once.
    fn let_go(&mut self, index: usize) {
        let Some(running) = self.running.get_mut(index) else { return };
        running.stop.cancel();
        if !std::mem::replace(&mut running.leaving, true) {
            self.leaving_names.push(Arc::clone(&running.member.spec.name));
        }
    }

    /// Starts the next version of a sink, which finds in the change log what the one before owed.
    fn replace(&mut self, index: usize, member: Arc<Member>) {
        let Some(outlet) = self.outlets.get(index) else { return };
        let Hands { ledger, backlog, .. } = &outlet.hands;
        let settled = ledger.lock().settled(usize::MAX);
        let begin = self.place.spool.begin_behind(ledger, backlog);
        info!(
            sink.name = %member.spec.name, owed = settled.open.len(), "the sink is started anew"
        );
        let faults = self.running.get(index).map_or(0, |running| running.faults);
        let (spec, status) = (Arc::clone(&member.spec), Arc::clone(&member.status));
        let (hands, running) = self.start(member, settled, begin);
        if let Some(outlet) = self.outlets.get_mut(index) {
            outlet.replace(spec, status, hands);
        }
        if let Some(place) = self.running.get_mut(index) {
            *place = Running { faults, ..running };
        }
    }

    /// Starts a sink behind what it has settled.
    pub(crate) fn add(&mut self, member: Arc<Member>, settled: Settled) {
        let (spec, status) = (Arc::clone(&member.spec), Arc::clone(&member.status));
        status.begun.send_replace(Some((spec.revision, settled.high)));
        let (hands, running) = self.start(member, settled, Address::default());
        self.outlets.push(Outlet::new(spec, status, hands));
        self.running.push(running);
    }

    /// Keeps the place of a sink that cannot start yet: its predecessor of the same name has still
    /// requests under way, or it has to deliver of the stream before. It owes what stands in the log
    /// from `begin` on, and what comes until it can start.
    fn reserve(&mut self, member: Arc<Member>, settled: Settled, begin: Address) {
        let place = &self.place;
        let ledger = Arc::new(Ledger::new(settled, Arc::clone(&place.settled)));
        let backlog = Arc::new(Backlog::new(begin, false));
        let share = self.place.budget.share();
        self.register(&member, &ledger, &backlog, &share);
        let (intake, _) = mpsc::channel(1);
        let hands = Hands { ledger, intake, share, backlog };
        let (spec, status) = (Arc::clone(&member.spec), Arc::clone(&member.status));
        self.outlets.push(Outlet::new(spec, status, hands));
        let running = self.running(member, CancellationToken::new());
        self.running.push(Running { leaving: true, ..running });
    }

    fn register(
        &self,
        member: &Member,
        ledger: &Arc<Ledger>,
        backlog: &Arc<Backlog>,
        share: &Arc<Share>,
    ) -> Owner {
        let (place, spec) = (&self.place, &member.spec);
        place.ledgers.set(&spec.name, ledger);
        let owner = Owner {
            sink: Arc::clone(&spec.name),
            status: Arc::clone(&member.status),
            ledger: Arc::clone(ledger),
            backlog: Arc::clone(backlog),
            on_full: spec.on_full,
            share: Arc::downgrade(share),
        };
        place.spool.add_owner(owner.clone());
        owner
    }

    fn running(&mut self, member: Arc<Member>, stop: CancellationToken) -> Running {
        self.next_id += 1;
        let (id, started) = (self.next_id, Instant::now());
        Running { member, id, stop, leaving: false, started, faults: 0 }
    }

    fn start(&mut self, member: Arc<Member>, settled: Settled, begin: Address) -> (Hands, Running) {
        let place = &self.place;
        let Member { spec, status, paused } = &*member;
        // Whatever stopped it, and whatever was said of another version: here it begins anew.
        status.stopped.set(None);
        status.fault.set(None);
        status.waiting.set(None);
        status.warnings.clear_all();
        status.trip.resume();
        let seat = Seat::Live { floor: settled.high };
        let ledger = Arc::new(Ledger::new(settled, Arc::clone(&place.settled)));
        let backlog = Arc::new(Backlog::new(begin, place.spool.is_empty()));
        let share = place.budget.share();
        let owner = self.register(&member, &ledger, &backlog, &share);
        place.backfills.set_sink(View {
            spec: Arc::clone(spec),
            status: Arc::clone(status),
            ledger: Arc::clone(&ledger),
            share: Arc::clone(&share),
        });
        if let Some(fault) = &spec.fault {
            status.unfit(fault);
            status.spooling.set(1);
            let (intake, _) = mpsc::channel(1);
            let stop = CancellationToken::new();
            let gone = stop.clone().cancelled_owned();
            let running = self.running_until(member, stop, gone);
            return (Hands { ledger, intake, share, backlog }, running);
        }
        let (portions_in, portions) = mpsc::channel(PORTIONS_MAX);
        let (lanes, admitted) = mpsc::channel(ADMITTED_MAX);
        let stop = CancellationToken::new();
        let burial = Burial {
            letters: Arc::clone(&place.stores.letters),
            epoch: place.stores.epoch,
            origin: Arc::clone(&place.origin),
            spec: Arc::clone(spec),
            status: Arc::clone(status),
            lettered: Arc::default(),
        };
        let desk = (&place.budget, &share, &place.rollouts);
        let commands = place.desks.open(&burial, desk, &stop);
        let intake = Intake {
            spec: Arc::clone(spec),
            status: Arc::clone(status),
            ledger: Arc::clone(&ledger),
            budget: Arc::clone(&place.budget),
            share: Arc::clone(&share),
            burial: burial.clone(),
            portions,
            lanes,
            is_live: true,
            routes: Routes::default(),
            shapes: Shapes::default(),
            rollouts: place.rollouts.clone(),
            seat,
            rolled: Arc::new(Rolled::nothing(status)),
            _gone: WakeOnDrop(Arc::clone(&place.budget)),
        };
        let deliver = Deliver {
            spec: Arc::clone(spec),
            status: Arc::clone(status),
            ledger: Arc::clone(&ledger),
            burial,
            room: Room {
                scratch: Arc::clone(&place.stores.scratch),
                budget: Arc::clone(&place.budget),
                share: Arc::clone(&share),
                bytes_max: place.settings.change_log_bytes_max,
            },
            admitted,
            commands,
            paused: paused.subscribe(),
            drain_deadline: place.settings.drain_deadline,
        };
        let read = Read {
            spool: Arc::clone(&place.spool),
            owner,
            share: Arc::clone(&share),
            budget: Arc::clone(&place.budget),
            portions: portions_in.clone(),
        };
        // One of them alone is no sink: when one stops, all do.
        let stopped = || {
            let (status, stop) = (Arc::clone(status), stop.clone());
            move |panic: &str| {
                status.stopped.set(format!("a fault of the engine: {panic}"));
                stop.cancel();
            }
        };
        let (supervisor, name) = (&place.supervisor, &spec.name);
        let tasks = [
            supervisor.spawn_watched(TaskKind::Intake, name, intake.run(stop.clone()), stopped()),
            supervisor.spawn_watched(TaskKind::Deliver, name, deliver.run(stop.clone()), stopped()),
            supervisor.spawn_watched(TaskKind::Spool, name, read.run(stop.clone()), stopped()),
        ];
        let running = self.running_until(member, stop, join(tasks));
        (Hands { ledger, intake: portions_in, share, backlog }, running)
    }

    /// One that has ended once `gone` has.
    fn running_until(
        &mut self,
        member: Arc<Member>,
        stop: CancellationToken,
        gone: impl Future<Output = ()> + Send + 'static,
    ) -> Running {
        let sink = Arc::clone(&member.spec.name);
        let running = self.running(member, stop);
        let id = running.id;
        self.alive += 1;
        self.events.push(Box::pin(async move {
            gone.await;
            Event::Ended { sink, id }
        }));
        running
    }

    /// Stops all of them and waits until they have.
    pub(crate) async fn stop(&mut self) {
        for index in 0..self.running.len() {
            self.let_go(index);
        }
        while self.alive > 0
            && let Some(event) = self.events.next().await
        {
            self.alive -= usize::from(matches!(event, Event::Ended { .. }));
        }
    }
}

/// The next sink that is told; never, once nobody tells any more.
async fn next(told: &mut Option<mpsc::Receiver<Arc<str>>>) -> Arc<str> {
    if let Some(told) = told
        && let Some(sink) = told.recv().await
    {
        return sink;
    }
    *told = None;
    std::future::pending().await
}

/// Waits for tasks. One that panicked was told by its supervisor already.
async fn join(tasks: [JoinHandle<Option<()>>; 3]) {
    for task in tasks {
        drop(task.await);
    }
}
