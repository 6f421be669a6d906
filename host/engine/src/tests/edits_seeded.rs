//! Seeded runs in which sinks come, change, pause and go, among faults, kills and restarts.

use std::sync::Arc;
use std::time::Duration;

use model::batch::Grouping;
use model::sink::SinkKind;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::simulation::{budget, check_confirmed, check_received, flaky};
use crate::fake::log::{Log, Row};
use crate::fake::sink::Recording;
use crate::fake::store::Store;
use crate::fake::{engine, sink_spec, slot_spec};
use crate::spec::SinkSpec;

const SEEDS: u64 = 150;

/// Kills per run; the last life is left to finish.
const LIVES: usize = 4;

/// What is to run: `a` and `b` always, `guest` now and then.
struct Plan {
    sinks: [Arc<Recording>; 2],
    guest: Arc<Recording>,
    revisions: [u64; 3],
    paused: [bool; 2],
    has_guest: bool,
}

impl Plan {
    fn specs(&self) -> Vec<SinkSpec> {
        let mut specs = vec![sink_spec("a", &self.sinks[0]), sink_spec("b", &self.sinks[1])];
        for (spec, paused) in specs.iter_mut().zip(self.paused) {
            spec.paused = paused;
        }
        if self.has_guest {
            specs.push(sink_spec("guest", &self.guest));
        }
        for (spec, revision) in specs.iter_mut().zip(self.revisions) {
            spec.revision = revision;
        }
        specs
    }

    fn edit(&mut self, dice: &mut fastrand::Rng) {
        match dice.u8(0..6) {
            0 | 1 => self.revisions[dice.usize(0..3)] += 1,
            2 => self.has_guest = !self.has_guest,
            3 => self.paused[dice.usize(0..2)] = true,
            4 => self.paused = [false; 2],
            _ => {
                self.revisions[0] += 1;
                self.revisions[1] += 1;
                self.has_guest = !self.has_guest;
            }
        }
    }
}

#[test]
fn b183_b208_b209_random_edits_among_kills_lose_nothing_and_keep_order() {
    let mut spilled = 0;
    for seed in 0..SEEDS {
        let result = std::panic::catch_unwind(|| run(seed));
        spilled += result.unwrap_or_else(|_| panic!("seed {seed}"));
    }
    assert!(spilled > 300, "what waits behind a failed message went to the disk: {spilled}");
}

/// How often something came back that waited on the disk behind a failed message.
fn run(seed: u64) -> u64 {
    let mut dice = fastrand::Rng::with_seed(seed);
    let log = Log::new();
    let store: Arc<Store> = Arc::default();
    let mut changes = 0;
    for n in 0..dice.usize(20..120) {
        let rows = 1 + usize::from(dice.bool()) * dice.usize(0..4);
        changes += rows;
        log.commit((0..rows).map(|_| Row::update(dice.u64(0..8), n)).collect());
    }
    let grouping = if dice.bool() { Grouping::Together } else { Grouping::Apart };
    let sinks = [
        flaky(SinkKind::Log, grouping, dice.fork()),
        flaky(SinkKind::Log, Grouping::Apart, dice.fork()),
    ];
    let guest = flaky(SinkKind::Log, Grouping::Apart, dice.fork());
    let mut plan =
        Plan { sinks, guest, revisions: [0; 3], paused: [false; 2], has_guest: dice.bool() };
    for life in 1..=LIVES {
        if dice.u8(0..3) == 0 {
            log.break_after(dice.usize(0..30));
        }
        let killed_after = Duration::from_millis(dice.u64(1..4_000));
        let last = life == LIVES;
        let (engine, _, supervisor) = engine(&log, plan.specs(), &store, budget(&mut dice));
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let stop = CancellationToken::new();
            let deadline =
                Instant::now() + if last { Duration::from_secs(86_400) } else { killed_after };
            let handle = engine.handle();
            let run = engine.run(stop.clone());
            let watch = async {
                let mut edits = dice.usize(0..12);
                let mut seen = log.confirmed();
                while Instant::now() < deadline && !log.settled() {
                    tokio::time::sleep_until(Instant::now() + Duration::from_millis(17)).await;
                    assert!(!supervisor.fatal().is_cancelled());
                    if std::mem::replace(&mut seen, log.confirmed()) != seen {
                        check_confirmed(&log, &store, &plan.sinks);
                        assert!(store.recorded("fake/0/slot") >= Some(seen));
                    }
                    if dice.u8(0..8) == 0 && edits > 0 {
                        edits -= 1;
                        plan.edit(&mut dice);
                        if edits == 0 {
                            plan.paused = [false; 2];
                        }
                        handle.apply(vec![slot_spec(&log, plan.specs())]).await.unwrap();
                    }
                    if last && edits == 0 && plan.paused != [false; 2] {
                        plan.paused = [false; 2];
                        handle.apply(vec![slot_spec(&log, plan.specs())]).await.unwrap();
                    }
                }
            };
            tokio::select! {
                () = run => {}
                () = watch => {}
            }
        });
    }
    assert_eq!(log.confirmed(), log.end(), "everything is settled in the end");
    for sink in &plan.sinks {
        check_received(&sink.received(), changes);
    }
    store.paper.gets()
}
