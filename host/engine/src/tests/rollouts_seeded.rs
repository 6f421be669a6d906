//! Seeded runs in which a version is shadowed, gets a share, another one, all, and is taken back, among
//! faults, edits, kills and restarts. Each message is judged when it arrives: the version that made it
//! is the one that is on record for its place and key.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::batch::Grouping;
use model::plugin::Plugin;
use model::rollout::{Rollout, RolloutState, Rules};
use model::sink::SinkKind;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::rollouts::{begin, made_by};
use super::simulation::{budget, check_confirmed, check_received};
use crate::fake::log::{Log, Row};
use crate::fake::plugin::version;
use crate::fake::sink::{Answer, Recording, refusal};
use crate::fake::store::Store;
use crate::fake::{engine, sink_spec, slot_spec};
use crate::rollout::{Rollouts, Turn};
use crate::spec::SinkSpec;

const SEEDS: u64 = 200;

/// Kills per run; the last life is left to finish.
const LIVES: usize = 5;

const ORIGIN: &str = "fake/0/slot";

/// What was seen in all runs.
#[derive(Default)]
struct Seen {
    states: Mutex<Vec<RolloutState>>,
    made_by: [std::sync::atomic::AtomicUsize; 2],
}

#[test]
fn b270_b183_kills_in_the_middle_of_rollouts_lose_nothing_and_keep_order_and_version() {
    let seen = Seen::default();
    for seed in 0..SEEDS {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed, &seen)));
        assert!(result.is_ok(), "seed {seed}");
    }
    // Each way was gone.
    let states = seen.states.into_inner().unwrap();
    for state in [
        RolloutState::Shadow,
        RolloutState::Canary,
        RolloutState::Promoted,
        RolloutState::RolledBack,
        RolloutState::Aborted,
    ] {
        let killed = states.iter().filter(|it| **it == state).count();
        assert!(killed > 10, "{state:?}: only {killed} kills");
    }
    let made = seen.made_by.map(|count| count.into_inner());
    assert!(made.iter().all(|count| *count > 1_000), "{made:?}");
}

/// A sink whose requests fail now and then, and which looks at the version of what arrives.
fn judging(
    store: &Arc<Store>,
    dice: fastrand::Rng,
    wrong: &Arc<Mutex<Vec<String>>>,
    grouping: Grouping,
) -> Arc<Recording> {
    let (store, wrong) = (Arc::clone(store), Arc::clone(wrong));
    let dice = Mutex::new(dice);
    Recording::of_kind(SinkKind::Log, grouping, 5, move |batch| {
        for message in batch.messages() {
            let (_, position, version) = made_by(message);
            let key = message.rows.keys().last().unwrap().0;
            let takes = |record: &Rollout| record.takes(ORIGIN, position, key);
            let takes = store.rollouts().iter().filter(|it| takes(it)).count();
            if version != takes as u64 + 1 {
                wrong.lock().unwrap().push(format!("{position:?} is of version {version}"));
            }
        }
        let mut dice = dice.lock().unwrap();
        let after = Duration::from_millis(dice.u64(0..200));
        let (error, lost) = match dice.u8(0..10) {
            0 => (refusal(), false),
            1 => (refusal(), true),
            _ => (None, false),
        };
        Answer { after, error, lost, ..Answer::default() }
    })
}

async fn turn(rollouts: &Rollouts, new: &Arc<dyn Plugin>, dice: &mut fastrand::Rng) {
    let current = rollouts.list().into_iter().find(|report| report.record.is_attached());
    let Some(report) = current else {
        let percent = dice.bool().then(|| dice.u8(0..=100));
        // One at a time: messages know of two versions.
        if rollouts.list().is_empty() {
            rollouts.start(begin(new, percent, Rules::default())).await.unwrap();
        }
        return;
    };
    if !report.record.state.is_open() {
        return;
    }
    let plugin = Some(Arc::clone(new));
    let turned = match dice.u8(0..10) {
        0..=5 => Turn::Share(dice.u8(0..=100), plugin),
        6 | 7 => Turn::Promote(plugin),
        _ => Turn::Abort("the dice".to_owned()),
    };
    rollouts.turn(&report.record.id, turned).await.unwrap();
}

fn run(seed: u64, seen: &Seen) {
    let mut dice = fastrand::Rng::with_seed(seed);
    let log = Log::new();
    let store: Arc<Store> = Arc::default();
    let mut changes = 0;
    for n in 0..dice.usize(20..120) {
        let rows = 1 + usize::from(dice.bool()) * dice.usize(0..4);
        changes += rows;
        log.commit((0..rows).map(|_| Row::update(dice.u64(0..8), n)).collect());
    }
    let wrong = Arc::default();
    let grouping = if dice.bool() { Grouping::Together } else { Grouping::Apart };
    let sink = judging(&store, dice.fork(), &wrong, grouping);
    let (old, new) = (version(1), version(2));
    let mut revision = 0;
    let specs = |revision| {
        let transforms = vec![Arc::clone(&old)];
        vec![SinkSpec { transforms, revision, ..sink_spec("a", &sink) }]
    };
    for life in 1..=LIVES {
        if dice.u8(0..3) == 0 {
            log.break_after(dice.usize(0..30));
        }
        let killed_after = Duration::from_millis(dice.u64(1..3_000));
        let last = life == LIVES;
        let (engine, _, supervisor) = engine(&log, specs(revision), &store, budget(&mut dice));
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let stop = CancellationToken::new();
            let deadline =
                Instant::now() + if last { Duration::from_secs(86_400) } else { killed_after };
            let handle = engine.handle();
            let rollouts = handle.rollouts();
            for record in rollouts.restore(&[slot_spec(&log, specs(revision))]).await.unwrap() {
                rollouts.attach(&record.id, Arc::clone(&new));
            }
            let run = engine.run(stop.clone());
            let watch = async {
                let mut confirmed = log.confirmed();
                let mut turns = dice.usize(0..8);
                while Instant::now() < deadline && !log.settled() {
                    tokio::time::sleep_until(Instant::now() + Duration::from_millis(17)).await;
                    assert!(!supervisor.fatal().is_cancelled());
                    if std::mem::replace(&mut confirmed, log.confirmed()) != confirmed {
                        check_confirmed(&log, &store, std::slice::from_ref(&sink));
                    }
                    if turns > 0 && dice.u8(0..6) == 0 {
                        turns -= 1;
                        if dice.u8(0..5) == 0 {
                            revision += 1;
                            let slot = slot_spec(&log, specs(revision));
                            handle.apply(vec![slot]).await.unwrap();
                        } else {
                            turn(rollouts, &new, &mut dice).await;
                        }
                    }
                }
            };
            tokio::select! {
                () = run => {}
                () = watch => {}
            }
        });
        seen.states.lock().unwrap().extend(store.rollouts().iter().map(|record| record.state));
    }
    assert!(log.settled(), "everything is settled in the end");
    assert_eq!(*wrong.lock().unwrap(), [""; 0]);
    let received = sink.received();
    check_received(&received, changes);
    for message in &received {
        let (_, _, version) = made_by(message);
        let count = &seen.made_by[usize::try_from(version).unwrap() - 1];
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}
