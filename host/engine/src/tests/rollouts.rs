//! Shadows, canaries, promotion and taking back, with what operators and rules say.

use std::sync::Arc;
use std::time::Duration;

use model::BoxFuture;
use model::message::Message;
use model::plugin::{Fault, Outcome, Plugin, PluginError, Rows};
use model::position::Position;
use model::rollout::{AutoPromote, RolloutState, Rules};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fake::log::{Log, Row};
use crate::fake::plugin::{set, shown, text, version, version_of};
use crate::fake::sink::Recording;
use crate::fake::store::Store;
use crate::fake::{engine, sink_spec, slot_spec};
use crate::rollout::{Class, RolloutError, Rollouts, Start, Turn};
use crate::run::Handle;
use crate::spec::SlotSpec;

const MIB: usize = 1 << 20;

/// A sink with one transform, and what it runs in.
pub(super) struct World {
    pub(super) log: Log,
    pub(super) store: Arc<Store>,
    pub(super) sink: Arc<Recording>,
    used: Arc<dyn Plugin>,
}

impl World {
    fn new() -> Self {
        let (log, store) = (Log::new(), Arc::default());
        Self { log, store, sink: Recording::willing(), used: version(1) }
    }

    fn slot(&self, used: &Arc<dyn Plugin>) -> SlotSpec {
        let mut spec = sink_spec("a", &self.sink);
        spec.transforms = vec![Arc::clone(used)];
        // Another number for another version, as a reload gives it.
        spec.revision = used.digest().bytes().map(u64::from).sum();
        slot_spec(&self.log, vec![spec])
    }

    fn commit(&self, rows: u64) {
        (0..rows).for_each(|key| self.log.commit(vec![Row::update(key, key)]));
    }

    /// A process, as long as `work` takes. The rollouts of earlier ones are of `versions`.
    async fn live<T>(
        &self,
        versions: &[&Arc<dyn Plugin>],
        work: impl AsyncFnOnce(&Handle) -> T,
    ) -> T {
        let slot = self.slot(&self.used);
        let (engine, _, _) = engine(&self.log, slot.sinks.clone(), &self.store, MIB);
        let handle = engine.handle();
        for record in handle.rollouts().restore(&[slot]).await.unwrap() {
            let found = versions.iter().find(|plugin| *plugin.digest() == *record.digest);
            handle.rollouts().attach(&record.id, Arc::clone(found.unwrap()));
        }
        let stop = CancellationToken::new();
        let worked = async {
            let done = work(&handle).await;
            stop.cancel();
            done
        };
        let (_, done) = tokio::join!(engine.run(stop.clone()), worked);
        done
    }

    async fn settled(&self) {
        until(|| self.log.settled()).await;
    }

    /// What arrived: key of the row, its place, and which version made it.
    fn arrived(&self) -> Vec<(u64, Position, u64)> {
        self.sink.received().iter().map(|message| made_by(message)).collect()
    }

    fn letters(&self, digest: &str) -> usize {
        let of = |letter: &model::store::Letter| letter.plugin.as_deref() == Some(digest);
        self.store.letters().iter().filter(|letter| of(letter)).count()
    }
}

/// Key, place and version.
pub(super) fn made_by(message: &Message) -> (u64, Position, u64) {
    let value: serde_json::Value = serde_json::from_str(&message.payload).unwrap();
    let number = |name: &str| match &value["record"][name] {
        serde_json::Value::String(text) => text.parse().unwrap(),
        other => other.as_u64().unwrap_or_else(|| panic!("{name} of {value}")),
    };
    (number("id"), message.position, number("v"))
}

pub(super) async fn until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(3_600);
    while !done() {
        assert!(Instant::now() < deadline, "it did not happen within an hour of the engine's time");
        tokio::time::sleep_until(Instant::now() + Duration::from_millis(5)).await;
    }
}

pub(super) fn begin(plugin: &Arc<dyn Plugin>, percent: Option<u8>, rules: Rules) -> Start {
    Start {
        sink: "a".to_owned(),
        function: "f".to_owned(),
        component: "f@2".to_owned(),
        plugin: Arc::clone(plugin),
        percent,
        rules,
    }
}

fn state(rollouts: &Rollouts) -> RolloutState {
    rollouts.list().last().unwrap().record.state
}

#[tokio::test(start_paused = true)]
async fn b270_messages_switch_at_one_position_and_back_at_another() {
    let world = World::new();
    let new = version(2);
    world
        .live(&[], async |handle| {
            world.commit(50);
            world.settled().await;
            let id = handle.rollouts().start(begin(&new, Some(100), Rules::default())).await;
            let id = id.unwrap().record.id.to_string();
            world.commit(50);
            world.settled().await;
            handle.rollouts().turn(&id, Turn::Promote(None)).await.unwrap();
            world.commit(10);
            world.settled().await;
            handle.rollouts().turn(&id, Turn::Abort("by hand".to_owned())).await.unwrap();
            world.commit(50);
            world.settled().await;
            let again = handle.rollouts().turn(&id, Turn::Promote(None)).await;
            assert!(matches!(again, Err(RolloutError::Conflict(_))), "it is over");
        })
        .await;
    let versions: Vec<u64> = world.arrived().into_iter().map(|(_, _, version)| version).collect();
    assert_eq!(versions, [vec![1; 50], vec![2; 60], vec![1; 50]].concat());
    let record = world.store.rollouts().remove(0);
    assert_eq!(record.why.as_deref(), Some("by hand"));
    let steps: Vec<_> = record.steps.iter().map(|step| (step.from(), step.percent)).collect();
    let first = |index| Position::new(Log::commit_lsn(index), 0);
    assert_eq!(steps, [(first(50), 100), (first(110), 0)]);
}

#[tokio::test(start_paused = true)]
async fn b270_a_share_is_of_keys_and_a_key_moves_once() {
    let world = World::new();
    let new = version(2);
    world
        .live(&[], async |handle| {
            let rollouts = handle.rollouts();
            let id = rollouts.start(begin(&new, Some(20), Rules::default())).await.unwrap();
            let id = id.record.id.to_string();
            for percent in [20, 60, 10] {
                rollouts.turn(&id, Turn::Share(percent, None)).await.unwrap();
                world.commit(200);
                world.commit(200);
                world.settled().await;
            }
        })
        .await;
    let arrived = world.arrived();
    assert_eq!(arrived.len(), 1_200);
    let record = world.store.rollouts().remove(0);
    for (key, position, version) in &arrived {
        let before = arrived.iter().filter(|(other, at, _)| other == key && at < position);
        let moves: Vec<u64> = before.map(|(_, _, version)| *version).chain([*version]).collect();
        assert!(moves.windows(2).filter(|pair| pair[0] != pair[1]).count() <= 2, "{moves:?}");
    }
    // Of 200 keys twice.
    for (chunk, percent) in arrived.chunks(400).zip([20, 60, 10]) {
        let taken = chunk.iter().filter(|(_, _, version)| *version == 2).count();
        assert!(taken.abs_diff(percent * 4) < 80, "{taken} of 400 at {percent}%");
        let half = |rows: &[(u64, Position, u64)]| {
            rows.iter().map(|(key, _, version)| (*key, *version)).collect::<Vec<_>>()
        };
        assert_eq!(half(&chunk[..200]), half(&chunk[200..]), "a key stays with its version");
    }
    assert_eq!(record.steps.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn b270_a_failing_canary_is_taken_back_and_keeps_the_old_version() {
    let world = World::new();
    let trap = |_: &_| Err(PluginError { fault: Fault::Trap, message: "unreachable".to_owned() });
    let new = version_of(2, trap);
    let rules = Rules { min_rows: 10, ..Rules::default() };
    world
        .live(&[], async |handle| {
            handle.rollouts().start(begin(&new, Some(30), rules)).await.unwrap();
            world.commit(400);
            world.settled().await;
            assert_eq!(state(handle.rollouts()), RolloutState::RolledBack);
            assert_eq!(handle.rollouts().rolled_back(), 1);
        })
        .await;
    let record = world.store.rollouts().remove(0);
    assert!(record.why.as_ref().unwrap().contains("max_trap_percent"), "{record:?}");
    let letters = world.letters("sha256:2");
    assert!((10..100).contains(&letters), "the rows that the new version had: {letters}");
    assert_eq!(world.letters("sha256:1"), 0);
    let arrived = world.arrived();
    assert_eq!(arrived.len() + letters, 400, "nothing is lost");
    assert!(arrived.iter().all(|(_, _, version)| *version == 1));
    let back = record.steps.last().unwrap().from();
    let behind = world.store.letters().iter().filter(|letter| letter.position >= back).count();
    assert_eq!(behind, 0, "from there on no row takes it");
}

#[tokio::test(start_paused = true)]
async fn b270_a_canary_that_stands_its_time_is_promoted_if_asked() {
    let world = World::new();
    let new = version(2);
    let auto_promote = Some(AutoPromote { rows: 50, seconds: 60 });
    let rules = Rules { min_rows: 10, auto_promote, ..Rules::default() };
    world
        .live(&[], async |handle| {
            handle.rollouts().start(begin(&new, Some(50), rules)).await.unwrap();
            world.commit(300);
            world.settled().await;
            assert_eq!(state(handle.rollouts()), RolloutState::Canary, "not long enough");
            tokio::time::advance(Duration::from_secs(61)).await;
            world.commit(1);
            world.settled().await;
            assert_eq!(state(handle.rollouts()), RolloutState::Promoted);
            world.commit(100);
            world.settled().await;
        })
        .await;
    let arrived = world.arrived();
    assert!(arrived[301..].iter().all(|(_, _, version)| *version == 2));
}

#[tokio::test(start_paused = true)]
async fn b270_the_configuration_takes_over_what_was_promoted() {
    let world = World::new();
    let new = version(2);
    world
        .live(&[], async |handle| {
            world.commit(20);
            let rollouts = handle.rollouts();
            let id = rollouts.start(begin(&new, Some(100), Rules::default())).await.unwrap();
            world.commit(20);
            world.settled().await;
            rollouts.turn(&id.record.id, Turn::Promote(None)).await.unwrap();
            // Rows come all the while: none goes by the old version again.
            let edit = async { handle.apply(vec![world.slot(&new)]).await.unwrap() };
            let rows = async {
                for _ in 0..20 {
                    world.commit(5);
                    tokio::task::yield_now().await;
                }
            };
            tokio::join!(edit, rows);
            world.settled().await;
            assert_eq!(state(rollouts), RolloutState::Completed);
            // And back to the old one by the configuration: that counts.
            handle.apply(vec![world.slot(&world.used)]).await.unwrap();
            world.commit(7);
            world.settled().await;
        })
        .await;
    let mut arrived = world.arrived();
    arrived.sort_by_key(|(_, position, _)| *position);
    let versions: Vec<u64> = arrived.into_iter().map(|(_, _, version)| version).collect();
    let twos = versions.iter().filter(|version| **version == 2).count();
    let first = versions.iter().position(|version| *version == 2).unwrap();
    assert_eq!(versions.len(), 147);
    assert!(first <= 20, "{versions:?}");
    assert!(versions[first..first + twos].iter().all(|it| *it == 2), "{versions:?}");
    assert_eq!(versions[147 - 7..], [1; 7]);
}

#[tokio::test(start_paused = true)]
async fn a_share_that_cannot_be_recorded_is_not_in_force() {
    let world = World::new();
    let new = version(2);
    world
        .live(&[], async |handle| {
            world.commit(1);
            world.settled().await;
            let id = handle.rollouts().start(begin(&new, Some(100), Rules::default())).await;
            let id = id.unwrap().record.id.to_string();
            world.store.set_away(true);
            world.commit(20);
            until(|| world.sink.len() == 21).await;
            let turned = handle.rollouts().turn(&id, Turn::Promote(None)).await;
            assert!(matches!(turned, Err(RolloutError::Store(_))));
            world.store.set_away(false);
            world.commit(20);
            world.settled().await;
        })
        .await;
    let versions: Vec<u64> = world.arrived().into_iter().map(|(_, _, version)| version).collect();
    assert_eq!(versions, [vec![1; 21], vec![2; 20]].concat());
}

#[tokio::test(start_paused = true)]
async fn a_shadow_is_compared_and_delivers_nothing() {
    let world = World::new();
    let new = version_of(2, |change| {
        let key: u64 = shown(change, "id").unwrap().parse().unwrap();
        match key % 5 {
            0 => Ok(Outcome::Drop),
            1 => Err(PluginError { fault: Fault::Guest, message: "no".to_owned() }),
            2 => Ok(set([("v", text("2"))])),
            _ => Ok(set([("v", text("1"))])),
        }
    });
    let rules = Rules { max_error_percent: 100.0, ..Rules::default() };
    let report = world
        .live(&[], async |handle| {
            let begun = handle.rollouts().start(begin(&new, None, rules)).await.unwrap();
            let id = &begun.record.id;
            for _ in 0..20 {
                world.commit(5);
                world.settled().await;
            }
            let seen = || handle.rollouts().get(id).unwrap();
            until(|| seen().arms.new.rows == 100).await;
            seen()
        })
        .await;
    let counts = Class::ALL.map(|class| report.comparison.count(class));
    assert_eq!(counts, [40, 20, 20, 0, 20, 0, 0]);
    assert_eq!((report.skipped, report.arms.old.rows), (0, 100));
    let changed = report.comparison.samples().find(|it| it.class == Class::Changed).unwrap();
    assert_eq!(changed.differences[0].pointer, "/columns/v");
    assert_eq!(world.arrived().len(), 100);
    assert!(world.arrived().iter().all(|(_, _, version)| *version == 1));
    assert_eq!(world.store.letters().len(), 0);
    // The next process goes on with it, and counts from nothing.
    world
        .live(&[&new], async |handle| {
            let report = handle.rollouts().list().remove(0);
            assert_eq!((report.record.resumed, report.arms.new.rows), (1, 0));
            world.commit(5);
            until(|| handle.rollouts().list()[0].arms.new.rows == 5).await;
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_shadow_that_breaks_its_rules_is_not_shown_any_more() {
    let world = World::new();
    let new = version_of(2, |_| Err(PluginError { fault: Fault::Trap, message: String::new() }));
    let rules = Rules { min_rows: 10, ..Rules::default() };
    world
        .live(&[], async |handle| {
            handle.rollouts().start(begin(&new, None, rules)).await.unwrap();
            world.commit(100);
            until(|| state(handle.rollouts()) == RolloutState::Aborted).await;
            world.settled().await;
        })
        .await;
    assert_eq!(world.arrived().len(), 100);
}

/// Never answers.
struct Stuck;

impl Plugin for Stuck {
    fn name(&self) -> &str {
        "f"
    }

    fn digest(&self) -> &str {
        "sha256:stuck"
    }

    fn run(&self, _rows: Rows) -> BoxFuture<'_, Vec<Result<Outcome, PluginError>>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn a_shadow_that_is_stuck_slows_nothing_and_what_it_misses_is_counted() {
    let world = World::new();
    let stuck: Arc<dyn Plugin> = Arc::new(Stuck);
    world
        .live(&[], async |handle| {
            handle.rollouts().start(begin(&stuck, None, Rules::default())).await.unwrap();
            let begun = Instant::now();
            for _ in 0..20 {
                world.commit(10);
                until(|| world.log.settled()).await;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
            let report = handle.rollouts().list().remove(0);
            assert!(report.skipped > 0 && report.skipped < 200, "{}", report.skipped);
        })
        .await;
    assert_eq!(world.arrived().len(), 200);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_rolled_out_is_refused_with_a_reason() {
    let world = World::new();
    world
        .live(&[], async |handle| {
            let start = |plugin: &Arc<dyn Plugin>| begin(plugin, Some(1), Rules::default());
            until(|| world.log.settled()).await;
            let refused =
                async |start: Start| handle.rollouts().start(start).await.unwrap_err().to_string();
            let new = version(2);
            let told = refused(Start { sink: "b".to_owned(), ..start(&new) }).await;
            assert_eq!(told, "no sink `b` runs");
            let told = refused(Start { function: "g".to_owned(), ..start(&new) }).await;
            assert_eq!(told, "sink `a` uses no plugin `g`; it uses: f");
            let told = refused(start(&version(1))).await;
            assert_eq!(told, "f@2 is the version that function `f` has");
            let told = refused(Start { percent: Some(101), ..start(&new) }).await;
            assert_eq!(told, "`percent` must be from 0 to 100");
            handle.rollouts().start(start(&new)).await.unwrap();
            assert!(refused(start(&version(3))).await.contains("abort it"));
        })
        .await;
    assert_eq!(world.store.rollouts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn b270_what_was_taken_back_is_let_go_once_nothing_can_come_again() {
    let world = World::new();
    let new = version(2);
    world
        .live(&[], async |handle| {
            let id = handle.rollouts().start(begin(&new, Some(100), Rules::default())).await;
            let id = id.unwrap().record.id.to_string();
            world.commit(5);
            world.settled().await;
            handle.rollouts().turn(&id, Turn::Abort("no".to_owned())).await.unwrap();
            world.commit(5);
            world.settled().await;
            let drained = || handle.rollouts().list()[0].record.drained;
            assert!(!drained(), "rows with it may not be on record yet");
            until(|| {
                world.commit(1);
                drained()
            })
            .await;
            world.settled().await;
        })
        .await;
    let slot = world.slot(&world.used);
    let (engine, _, _) = engine(&world.log, Vec::new(), &world.store, MIB);
    let needed = engine.handle().rollouts().restore(&[slot]).await.unwrap();
    assert_eq!(needed.len(), 0, "the version is not needed");
}

/// What each version cost the sink.
#[tokio::test(start_paused = true)]
async fn what_functions_cost_is_counted_by_version() {
    let world = World::new();
    let new = version_of(2, |_| Ok(Outcome::Drop));
    let slot = world.slot(&world.used);
    let (engine, status, _) = engine(&world.log, slot.sinks, &world.store, MIB);
    let (handle, stop) = (engine.handle(), CancellationToken::new());
    let work = async {
        world.commit(30);
        world.settled().await;
        handle.rollouts().start(begin(&new, Some(100), Rules::default())).await.unwrap();
        world.commit(20);
        world.settled().await;
        stop.cancel();
    };
    tokio::join!(engine.run(stop.clone()), work);
    let sink = status.slots.list()[0].sinks.list().remove(0);
    let costs: Vec<_> = sink
        .costs
        .list()
        .into_iter()
        .map(|(function, digest, calls)| {
            let counts = (calls.rows.get(), calls.dropped.get(), calls.bytes_out.get());
            (function.to_string(), digest.to_string(), counts)
        })
        .collect();
    let of = |digest: &str, counts| ("f".to_owned(), digest.to_owned(), counts);
    assert_eq!(costs, [of("sha256:1", (30, 0, 30)), of("sha256:2", (20, 20, 0))]);
}
