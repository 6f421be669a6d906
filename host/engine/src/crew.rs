//! The sinks of one slot while it streams: starts them, lets them go, puts others in their place.
//!
//! Neither the slot nor a neighbour waits for any of it. A sink that has to go takes in nothing from
//! that moment on; what it has under way is awaited within the drain deadline.
//!
//! One that is removed owes nothing any more. One that is changed owes what it had not settled and
//! what came meanwhile: its ledger holds the slot back, and the stream is opened anew from there,
//! where its neighbours skip what they had. A new one begins behind what was read already.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use model::acks::Settled;
use model::position::Position;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::budget::{Budget, WakeOnDrop};
use crate::bury::Burial;
use crate::deliver::Deliver;
use crate::derive::Shapes;
use crate::fan_out::Outlet;
use crate::intake::Intake;
use crate::ledger::Ledger;
use crate::progress::Ledgers;
use crate::router::Routes;
use crate::run::{Settings, Stores};
use crate::spec::SinkSpec;
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
}

/// A sink that runs, or that ran until it was told to stop.
struct Running {
    member: Arc<Member>,
    stop: CancellationToken,
    /// Empty once it was told to stop.
    tasks: Vec<JoinHandle<Option<()>>>,
}

/// What happened to the crew.
pub(crate) enum Event {
    /// Others are wanted.
    Wanted,
    /// All tasks of the sink of this name have ended.
    Gone(Arc<str>),
}

/// The sinks of a slot.
pub(crate) struct Crew {
    place: Place,
    wanted: watch::Receiver<Wanted>,
    /// As the slot sees them.
    pub(crate) outlets: Vec<Outlet>,
    /// Each with the outlet of the same index.
    running: Vec<Running>,
    leaving: FuturesUnordered<BoxFuture<'static, Arc<str>>>,
    /// Who is in `leaving`: at most one of a name.
    leaving_names: Vec<Arc<str>>,
}

impl Crew {
    /// Nobody yet.
    pub(crate) fn new(place: Place, wanted: watch::Receiver<Wanted>) -> Self {
        Self {
            place,
            wanted,
            outlets: Vec::new(),
            running: Vec::new(),
            leaving: FuturesUnordered::new(),
            leaving_names: Vec::new(),
        }
    }

    /// What happens next. Cancel-safe.
    pub(crate) async fn event(&mut self) -> Event {
        tokio::select! {
            biased;
            Some(name) = self.leaving.next(), if !self.leaving.is_empty() => Event::Gone(name),
            Ok(()) = self.wanted.changed() => Event::Wanted,
            else => std::future::pending().await,
        }
    }

    /// Acts on it. `read` is what the slot has read already. True if the stream must be opened anew,
    /// from the confirmed position: a sink owes what was read before.
    #[must_use]
    pub(crate) fn take(&mut self, event: Event, read: Position) -> bool {
        match event {
            Event::Wanted => {
                self.reconcile(read);
                false
            }
            Event::Gone(name) => {
                self.leaving_names.retain(|leaving| *leaving != name);
                let wanted = self.find_wanted(&name);
                let index =
                    self.running.iter().position(|running| running.member.spec.name == name);
                // Whoever is not wanted has lost his outlet at once.
                index.zip(wanted).is_some_and(|(index, member)| self.replace(index, member))
            }
        }
    }

    fn find_wanted(&mut self, name: &str) -> Option<Arc<Member>> {
        self.wanted.borrow().iter().find(|member| *member.spec.name == *name).map(Arc::clone)
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
            self.let_go(index);
            if is_removed {
                info!(sink.name = %name, "the sink is removed: what it owed is dropped");
                self.outlets.remove(index);
                self.running.remove(index);
                self.place.ledgers.remove(&name);
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
                    self.reserve(Arc::clone(member), settled);
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
        let tasks = std::mem::take(&mut running.tasks);
        if tasks.is_empty() {
            return;
        }
        let name = Arc::clone(&running.member.spec.name);
        self.leaving_names.push(Arc::clone(&name));
        self.leaving.push(Box::pin(async move {
            join(tasks).await;
            name
        }));
    }

    /// Starts the next version of a sink. True if it owes something.
    fn replace(&mut self, index: usize, member: Arc<Member>) -> bool {
        let Some(outlet) = self.outlets.get(index) else { return false };
        let (settled, owes) = {
            let acks = outlet.ledger.lock();
            (acks.settled(usize::MAX), !acks.is_empty())
        };
        info!(
            sink.name = %member.spec.name, owed = settled.open.len(), "the sink is started anew"
        );
        let (outlet, running) = self.start(member, settled);
        for (place, outlet) in self.outlets.get_mut(index).into_iter().zip([outlet]) {
            *place = outlet;
        }
        for (place, running) in self.running.get_mut(index).into_iter().zip([running]) {
            *place = running;
        }
        owes
    }

    /// Starts a sink behind what it has settled.
    pub(crate) fn add(&mut self, member: Arc<Member>, settled: Settled) {
        let (outlet, running) = self.start(member, settled);
        self.outlets.push(outlet);
        self.running.push(running);
    }

    /// Keeps the place of a sink whose predecessor of the same name has still requests under way: it
    /// owes what comes until it can start.
    fn reserve(&mut self, member: Arc<Member>, settled: Settled) {
        let ledger = Arc::new(Ledger::new(settled, Arc::clone(&self.place.settled)));
        self.place.ledgers.set(&member.spec.name, &ledger);
        let (closed, _) = mpsc::channel(1);
        let (spec, status) = (Arc::clone(&member.spec), Arc::clone(&member.status));
        self.outlets.push(Outlet::new(spec, ledger, status, closed));
        self.running.push(Running { member, stop: CancellationToken::new(), tasks: Vec::new() });
    }

    fn start(&self, member: Arc<Member>, settled: Settled) -> (Outlet, Running) {
        let place = &self.place;
        let Member { spec, status, paused } = &*member;
        // Whatever stopped it, and whatever was said of another version: here it begins anew.
        status.stopped.set(None);
        status.waiting.set(None);
        status.warnings.clear_all();
        status.trip.resume();
        let ledger = Arc::new(Ledger::new(settled, Arc::clone(&place.settled)));
        place.ledgers.set(&spec.name, &ledger);
        let (portions_in, portions) = mpsc::channel(PORTIONS_MAX);
        let (lanes, admitted) = mpsc::channel(ADMITTED_MAX);
        let stop = CancellationToken::new();
        let burial = Burial {
            letters: Arc::clone(&place.stores.letters),
            epoch: place.stores.epoch,
            origin: Arc::clone(&place.origin),
            spec: Arc::clone(spec),
            status: Arc::clone(status),
        };
        let intake = Intake {
            spec: Arc::clone(spec),
            status: Arc::clone(status),
            ledger: Arc::clone(&ledger),
            budget: Arc::clone(&place.budget),
            burial: burial.clone(),
            portions,
            lanes,
            routes: Routes::default(),
            shapes: Shapes::default(),
            _gone: WakeOnDrop(Arc::clone(&place.budget)),
        };
        let deliver = Deliver {
            spec: Arc::clone(spec),
            status: Arc::clone(status),
            ledger: Arc::clone(&ledger),
            burial,
            admitted,
            paused: paused.subscribe(),
            drain_deadline: place.settings.drain_deadline,
        };
        let stopped = || {
            let status = Arc::clone(status);
            move |panic: &str| status.stopped.set(format!("a fault of the engine: {panic}"))
        };
        let (supervisor, name) = (&place.supervisor, &spec.name);
        let intake = intake.run(stop.clone());
        let deliver = deliver.run(stop.clone());
        let tasks = vec![
            supervisor.spawn_watched(TaskKind::Intake, name, intake, stopped()),
            supervisor.spawn_watched(TaskKind::Deliver, name, deliver, stopped()),
        ];
        let outlet = Outlet::new(Arc::clone(spec), ledger, Arc::clone(status), portions_in);
        (outlet, Running { member, stop, tasks })
    }

    /// Stops all of them and waits until they have.
    pub(crate) async fn stop(&mut self) {
        for index in 0..self.running.len() {
            self.let_go(index);
        }
        while self.leaving.next().await.is_some() {}
        self.leaving_names.clear();
    }
}

/// Waits for tasks. One that panicked was told by its supervisor already.
async fn join(tasks: Vec<JoinHandle<Option<()>>>) {
    for task in tasks {
        drop(task.await);
    }
}
