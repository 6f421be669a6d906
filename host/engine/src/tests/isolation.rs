//! What one sink, or one group of it, has to do with the others: nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::batch::Grouping;
use model::message::Message;
use model::sink::{Retry, SinkError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::deliver::RateLimit;
use crate::fake::change_log::Disk;
use crate::fake::log::{Log, Row};
use crate::fake::sink::{Answer, Recording};
use crate::fake::store::Store;
use crate::fake::{engine, run_until, settings, sink_spec, slot_spec};
use crate::run::{Engine, Settings, Stores};
use crate::spec::SinkSpec;
use crate::supervise::Supervisor;

const MIB: usize = 1 << 20;

fn of(message: &Message) -> (u64, u64) {
    let payload: serde_json::Value = serde_json::from_str(&message.payload).unwrap();
    let id = payload["record"]["id"].as_u64().unwrap();
    (id, payload["record"]["value"].as_str().unwrap().parse().unwrap())
}

/// The first message of a row is refused for an hour. Meanwhile the process is killed, again and
/// again, and changes of all rows come.
#[test]
fn b089_b090_b092_a_blocked_group_keeps_its_order_through_restarts_and_holds_back_nothing() {
    for grouping in [Grouping::Together, Grouping::Apart] {
        let (log, store) = (Log::new(), Arc::<Store>::default());
        log.commit(vec![Row::update(1, 0)]);
        let refused = Arc::new(Mutex::new(0));
        let (count, away) = (Arc::clone(&refused), Arc::new(Mutex::new(true)));
        let is_away = Arc::clone(&away);
        let sink = Recording::new(grouping, 5, move |batch| {
            let is_away = *is_away.lock().unwrap();
            let head = batch.messages().iter().position(|message| of(message) == (1, 0));
            *count.lock().unwrap() += u32::from(head.is_some());
            let later = Retry::Later { after: None };
            let rejected = head.filter(|_| is_away).map(|at| (at, later));
            Answer { rejected: rejected.into_iter().collect(), ..Answer::default() }
        });
        for life in 0..6_u64 {
            let (engine, _, _) = engine(&log, vec![sink_spec("a", &sink)], &store, MIB);
            if life == 5 {
                *away.lock().unwrap() = false;
            }
            // A runtime of its own: dropping it ends every task where it waits, as a kill would.
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let start = Instant::now();
                for n in 1..=20 {
                    log.commit(vec![
                        Row::update(1, life * 20 + n),
                        Row::update(n + 1, life * 20 + n),
                    ]);
                }
                let watch = async {
                    let others = |message: &Arc<Message>| of(message).0 != 1;
                    while sink.received().iter().filter(|m| others(m)).count()
                        < (life as usize + 1) * 20
                    {
                        tokio::time::sleep_until(Instant::now() + Duration::from_millis(5)).await;
                        assert!(start.elapsed() < Duration::from_secs(2), "the others flow");
                    }
                    while start.elapsed() < Duration::from_secs(720) && !log.settled() {
                        tokio::time::sleep_until(Instant::now() + Duration::from_millis(50)).await;
                    }
                };
                tokio::select! {
                    () = engine.run(CancellationToken::new()) => {}
                    () = watch => {}
                }
            });
            if life < 5 {
                let received = sink.received();
                assert!(received.iter().all(|message| of(message) != (1, 0)));
            }
        }
        assert_eq!(log.confirmed(), log.end());
        assert!(*refused.lock().unwrap() > 20, "it was tried in each life");
        let mut last: HashMap<u64, u64> = HashMap::new();
        let received = sink.received();
        // With `Together` what is behind it may have arrived before, and comes again behind it.
        let first = received.iter().rposition(|message| of(message) == (1, 0)).unwrap();
        for message in &received[first..] {
            let (key, value) = of(message);
            let before = last.insert(key, value);
            assert!(before.is_none_or(|before| before < value), "{key}: {before:?} {value}");
        }
        assert_eq!(last[&1], 120);
    }
}

/// Five sinks beside a sixth that is dead for a quarter of an hour, and beside a sixth that is well: each message
/// of theirs takes as long.
#[tokio::test(start_paused = true)]
async fn b200_a_dead_sink_costs_its_neighbours_nothing() {
    let mut times = Vec::new();
    for is_dead in [false, true] {
        let log = Log::new();
        let committed: Arc<Mutex<HashMap<u64, Instant>>> = Arc::default();
        let late: Arc<Mutex<Vec<Duration>>> = Arc::default();
        let well = || {
            let (committed, late) = (Arc::clone(&committed), Arc::clone(&late));
            Recording::new(Grouping::Together, 10, move |batch| {
                let (committed, mut late) = (committed.lock().unwrap(), late.lock().unwrap());
                for message in batch.messages() {
                    late.push(committed[&of(message).1].elapsed());
                }
                Answer { after: Duration::from_millis(10), ..Answer::default() }
            })
        };
        let sinks: Vec<_> = (0..5).map(|_| well()).collect();
        let sixth = Recording::new(Grouping::Together, 10, move |_| Answer {
            after: Duration::from_millis(10),
            error: is_dead.then(|| SinkError::unreachable("connection refused")),
            ..Answer::default()
        });
        let all = sinks.iter().chain([&sixth]).enumerate();
        let specs = all.map(|(n, sink)| sink_spec(&n.to_string(), sink)).collect();
        let (engine, status, _) = engine(&log, specs, &Arc::default(), 16 * MIB);
        let start = Instant::now();
        let mut next = 0;
        run_until(engine, || {
            if start.elapsed() < Duration::from_secs(900) && start.elapsed().as_secs() >= next {
                committed.lock().unwrap().insert(next, Instant::now());
                log.commit(vec![Row::update(next % 7, next)]);
                next += 1;
            }
            next >= 900 && sinks.iter().all(|sink| sink.len() == 900)
        })
        .await;
        let sixth = &status.slots.list()[0].sinks.list()[5];
        assert_eq!(sixth.breaker.get().is_some(), is_dead);
        let mut late = std::mem::take(&mut *late.lock().unwrap());
        late.sort_unstable();
        times.push(late[late.len() * 99 / 100]);
    }
    assert!(
        times[1] <= times[0] + times[0] / 10,
        "p99 beside a well one and a dead one: {times:?}"
    );
}

/// Thirty messages a second and no more, whatever waits; its neighbour sends them all at once.
#[tokio::test(start_paused = true)]
async fn a_rate_limit_holds_for_one_sink_and_the_next_send_is_visible() {
    let log = Log::new();
    log.commit((0..300).map(|n| Row::update(n, n)).collect());
    let start = Instant::now();
    let times: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let seen = Arc::clone(&times);
    let slow = Recording::new(Grouping::Together, 20, move |batch| {
        seen.lock().unwrap().extend(batch.messages().iter().map(|_| start.elapsed()));
        Answer::default()
    });
    let fast = Recording::willing();
    let per = Duration::from_secs(1);
    let spec =
        SinkSpec { rate_limit: Some(RateLimit { messages: 30, per }), ..sink_spec("slow", &slow) };
    let specs = vec![spec, sink_spec("fast", &fast)];
    let (engine, status, _) = engine(&log, specs, &Arc::default(), MIB);
    let shown = Arc::clone(&status.slots.list()[0].sinks.list()[0]);
    let (mut longest, mut fast_end) = (Duration::ZERO, None);
    run_until(engine, || {
        longest = longest.max(shown.rate_limited.remaining().unwrap_or_default());
        if fast.len() == 300 {
            fast_end.get_or_insert(start.elapsed());
        }
        log.settled()
    })
    .await;
    let times = times.lock().unwrap();
    for (index, at) in times.iter().enumerate() {
        let window = times[index..].iter().take_while(|other| **other < *at + per);
        assert!(window.count() <= 30, "more than thirty within a second");
    }
    let end = *times.last().unwrap();
    assert!(end < Duration::from_secs(16), "{end:?}: a batch waits until it may go as a whole");
    assert!(longest > Duration::from_millis(500) && longest <= per, "{longest:?}");
    assert_eq!(shown.rate_limited.remaining(), None);
    assert!(fast_end.unwrap() < per, "{fast_end:?}");
}

static CLOCK_US: AtomicI64 = AtomicI64::new(0);

/// The wall clock jumps an hour ahead and back while messages wait for their attempts: they are made
/// when they would have been, and ages are never negative.
#[test]
fn b198_jumps_of_the_wall_clock_change_nothing_but_what_is_shown() {
    const HOUR_US: i64 = 3_600_000_000;
    let run = |jumps: &[i64]| {
        let (log, store) = (Log::new(), Arc::<Store>::default());
        let times: Arc<Mutex<Vec<Duration>>> = Arc::default();
        let seen = Arc::clone(&times);
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            fastrand::seed(7);
            let start = Instant::now();
            let sink = Recording::new(Grouping::Apart, 3, move |_| {
                let mut seen = seen.lock().unwrap();
                seen.push(start.elapsed());
                let fails = !seen.len().is_multiple_of(3);
                let error = fails.then(|| SinkError::later("503"));
                Answer { after: Duration::from_millis(10), error, ..Answer::default() }
            });
            let stores = Stores {
                progress: Arc::<Store>::clone(&store),
                letters: Arc::<Store>::clone(&store),
                logs: Arc::<Disk>::clone(&store.disk),
                owners: Arc::<Store>::clone(&store),
                backfills: Arc::<Store>::clone(&store),
                rollouts: Arc::<Store>::clone(&store),
                scratch: store.scratch(),
                epoch: store.next_epoch(),
            };
            let clock_us = || CLOCK_US.load(Ordering::Relaxed);
            let settings = Settings { clock_us, ..settings() };
            let slot = slot_spec(&log, vec![sink_spec("a", &sink)]);
            let budget = Budget::new(MIB);
            let engine = Engine::new(vec![slot], budget, stores, settings, Supervisor::default());
            let status = engine.status();
            log.is_read_by(&status);
            let mut steps = 0_usize;
            run_until(engine, || {
                let slot = &status.slots.list()[0];
                // Of the time of the log's commits, which is 0: an age cannot be more than the jump.
                assert!(slot.ingestion_us.get() <= HOUR_US as u64);
                if start.elapsed() >= Duration::from_secs(steps as u64) && steps < 30 {
                    CLOCK_US.store(jumps[steps % jumps.len()], Ordering::Relaxed);
                    log.commit(vec![Row::update(steps as u64 % 4, steps)]);
                    steps += 1;
                }
                steps == 30 && log.settled()
            })
            .await;
        });
        Arc::try_unwrap(times).map(|times| times.into_inner().unwrap()).unwrap()
    };
    let still = run(&[0]);
    let jumping = run(&[HOUR_US, 0, -HOUR_US]);
    assert!(still.len() > 40, "{} attempts", still.len());
    assert_eq!(still, jumping);
}
