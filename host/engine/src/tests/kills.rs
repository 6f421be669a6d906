//! Kills at each named point between the log and its confirmation, with a flaky sink.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use model::acks::Settled;
use model::batch::Grouping;
use model::lsn::Lsn;
use model::message::Message;
use model::position::Position;
use model::sink::SinkKind;
use model::store::Progress as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::simulation::{check_received, flaky};
use crate::budget::Budget;
use crate::fake::change_log::Disk;
use crate::fake::kill::{Life, Mortal, Point};
use crate::fake::log::{Log, Row};
use crate::fake::sink::Recording;
use crate::fake::store::Store;
use crate::fake::{settings, sink_spec, slot_spec};
use crate::run::{Engine, Settings, Stores};
use crate::spec::SinkSpec;
use crate::supervise::Supervisor;

const ORIGIN: &str = "fake/0/slot";

/// Transactions of one run.
const TRANSACTIONS: usize = 40;

/// Each point is tried the first time that it is reached, the second time, and so on.
const TIMES: usize = 12;

const SINKS: [(SinkKind, Grouping); 3] = [
    (SinkKind::Log, Grouping::Together),
    (SinkKind::Log, Grouping::Apart),
    (SinkKind::State, Grouping::Apart),
];

/// What a run leaves.
struct World {
    log: Log,
    store: Arc<Store>,
    sink: Arc<Recording>,
    changes: usize,
}

/// What outlives a kill.
struct Left {
    received: Vec<Arc<Message>>,
    settled: Settled,
    recorded: Lsn,
    confirmed: Lsn,
    /// In the change log.
    logged: HashSet<Lsn>,
    handed: usize,
}

impl World {
    fn new((kind, grouping): (SinkKind, Grouping), seed: u64) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        let (log, store) = (Log::new(), Arc::default());
        let mut changes = 0;
        for n in 0..TRANSACTIONS {
            let rows = dice.usize(1..4);
            changes += rows;
            log.commit((0..rows).map(|_| Row::update(dice.u64(0..8), n)).collect());
        }
        Self { log, store, sink: flaky(kind, grouping, dice), changes }
    }

    /// Runs until the life is over or everything is confirmed.
    fn live(&self, life: &Life) {
        let spec = SinkSpec {
            sink: Mortal::new(life, Arc::clone(&self.sink)),
            ..sink_spec("a", &self.sink)
        };
        let mut slot = slot_spec(&self.log, vec![spec]);
        slot.connect = Mortal::new(life, self.log.clone());
        let memory = Mortal::new(life, (Arc::clone(&self.store), Arc::clone(&self.sink)));
        let progress = Arc::<Mortal<_>>::clone(&memory);
        let logs = Arc::<Disk>::clone(&self.store.disk);
        let owners = Arc::<Store>::clone(&self.store);
        let backfills = Arc::<Store>::default();
        let epoch = self.store.next_epoch();
        let rollouts = Arc::<Store>::default();
        let scratch = self.store.scratch();
        let letters = memory;
        let stores =
            Stores { progress, letters, owners, logs, backfills, rollouts, scratch, epoch };
        let settings = Settings { clock_us: || 0, ..settings() };
        let budget = Budget::new(1 << 16);
        let engine = Engine::new(vec![slot], budget, stores, settings, Supervisor::default());
        self.log.is_read_by(&engine.status());
        // A runtime of its own: dropping it ends every task where it waits.
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let deadline = Instant::now() + Duration::from_secs(86_400);
            let all_is_confirmed = async {
                while !self.log.settled() {
                    assert!(Instant::now() < deadline, "it is never settled");
                    tokio::time::sleep_until(Instant::now() + Duration::from_millis(17)).await;
                }
            };
            tokio::select! {
                biased;
                () = life.over() => {}
                () = engine.run(CancellationToken::new()) => {}
                () = all_is_confirmed => {}
            }
        });
    }

    fn left(&self, handed: usize) -> Left {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let settled = runtime.block_on(self.store.load(ORIGIN, "a")).unwrap();
        Left {
            received: self.sink.received(),
            settled: settled.unwrap_or_default(),
            recorded: self.store.recorded(ORIGIN).unwrap_or_default(),
            confirmed: self.log.confirmed(),
            logged: self.store.disk.commits_of(ORIGIN, "a"),
            handed,
        }
    }
}

/// One kill, and a life after it. False if the point was not reached so often.
fn kill(kind: (SinkKind, Grouping), point: Point, nth: usize) -> bool {
    let world = World::new(kind, nth as u64);
    let life = Life::new(Some(point), nth);
    world.live(&life);
    if !life.is_over() {
        return false;
    }
    let left = world.left(nth);
    world.live(&Life::new(None, 0));
    assert!(world.log.settled(), "everything is settled in the end");
    let received = world.sink.received();
    check_received(&received, world.changes);
    check_repeats(point, &left, received.get(left.received.len()..).unwrap_or_default());
    true
}

/// What is sent again is what was not on record, and it is recognised as the same.
fn check_repeats(point: Point, left: &Left, after: &[Arc<Message>]) {
    assert!(left.confirmed <= left.recorded, "recorded before it is confirmed");
    let name = |message: &Message| (message.position, message.output);
    let before: HashMap<(Position, u32), &Arc<Message>> =
        left.received.iter().map(|message| (name(message), message)).collect();
    let mut repeats = 0;
    for message in after {
        let Some(first) = before.get(&name(message)) else { continue };
        assert_eq!(message, *first, "the same message, of the same idempotency key");
        assert!(!left.settled.contains(message.position), "{message:?} was on record");
        let commit_lsn = message.position.commit_lsn;
        let may_come = commit_lsn >= left.recorded || left.logged.contains(&commit_lsn);
        assert!(may_come, "{message:?} was to be confirmed");
        repeats += 1;
    }
    match point {
        Point::Decoded => {
            let handed = Log::commit_lsn(left.handed);
            let taken_in = before.keys().any(|(position, _)| position.commit_lsn == handed);
            assert!(!taken_in, "nothing was done with it");
        }
        Point::Delivered | Point::Settled => assert!(repeats > 0, "nobody knows of them"),
        Point::Recorded => assert!(left.confirmed < left.recorded, "the server was not told"),
        Point::Confirmed => assert_eq!(left.confirmed, left.recorded),
    }
}

fn kill_at(point: Point) {
    for kind in SINKS {
        let reached = (0..TIMES).filter(|nth| {
            let result = std::panic::catch_unwind(|| kill(kind, point, *nth));
            result.unwrap_or_else(|_| panic!("{kind:?}, killed {point:?} the {nth}th time"))
        });
        // The confirmed position moves in steps.
        assert!(reached.count() >= 2, "{point:?} is hardly ever reached by {kind:?}");
    }
}

#[test]
fn b182_b183_a_kill_after_changes_were_decoded() {
    kill_at(Point::Decoded);
}

#[test]
fn b114_b182_b183_a_kill_after_delivery_before_it_is_settled() {
    kill_at(Point::Delivered);
}

#[test]
fn b182_b183_a_kill_after_settling_before_it_is_recorded() {
    kill_at(Point::Settled);
}

#[test]
fn b182_b183_a_kill_after_recording_before_it_is_confirmed() {
    kill_at(Point::Recorded);
}

#[test]
fn b182_b183_a_kill_after_confirming() {
    kill_at(Point::Confirmed);
}

/// All was delivered, judged and on record, and the server did not hear of it: nothing is repeated.
#[test]
fn b182_what_is_on_record_is_never_sent_again() {
    for point in [Point::Recorded, Point::Confirmed] {
        let (log, sink) = (Log::new(), Recording::willing());
        for key in 0..7 {
            log.commit(vec![Row::update(key, key)]);
        }
        let world = World { log, store: Arc::default(), sink, changes: 7 };
        let mut life = 0;
        // The last position is confirmed by one of them.
        while !world.log.settled() {
            world.live(&Life::new(Some(point), 0));
            life += 1;
            assert!(life < 20, "{point:?}: it comes no further");
            if world.store.recorded(ORIGIN) == Some(world.log.end()) {
                world.live(&Life::new(None, 0));
            }
        }
        assert_eq!(world.sink.len(), world.changes, "{point:?}");
    }
}
