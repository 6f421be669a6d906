//! Attempts: how many there are, when the next one is, and what counts as one.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::batch::Grouping;
use model::sink::Retry;
use tokio::time::Instant;

use crate::fake::log::{Log, Row};
use crate::fake::lookup::Table;
use crate::fake::sink::{Answer, Recording, refusal};
use crate::fake::store::Store;
use crate::fake::{engine, run_until, sink_spec};
use crate::spec::SinkSpec;

const MIB: usize = 1 << 20;

/// The first row's message fails always.
fn failing_at_one() -> Arc<Recording> {
    Recording::new(Grouping::Apart, 1, |batch| {
        let poison = batch.messages()[0].payload.contains("\"value\":\"poison\"");
        let rejected = if poison { vec![(0, Retry::Later { after: None })] } else { Vec::new() };
        Answer { rejected, ..Answer::default() }
    })
}

#[tokio::test(start_paused = true)]
async fn b122_after_its_last_attempt_a_message_is_put_aside_with_the_last_error() {
    let log = Log::new();
    log.commit(vec![Row::update(1, "poison"), Row::update(1, "next")]);
    let sink = failing_at_one();
    let spec = SinkSpec { attempts_max: Some(3), ..sink_spec("a", &sink) };
    let store = Arc::<Store>::default();
    let (engine, status, _) = engine(&log, vec![spec], &store, MIB);
    run_until(engine, || log.settled()).await;
    let letters = store.letters();
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((letter.attempts, &*letter.reason), (3, "delivery"));
    assert_eq!(letter.error, "out of attempts: no");
    assert!(letter.input.contains("poison"), "{}", letter.input);
    let sink_status = &status.slots.list()[0].sinks.list()[0];
    assert_eq!((sink_status.attempts.get(), sink_status.failed.get()), (4, 3));
    assert_eq!(sink.len(), 1, "its group goes on");
    assert_eq!(sink_status.next_retry.remaining(), None, "nothing waits");
}

/// For a day: the delays reach their cap, and when the next attempt is can always be seen.
#[tokio::test(start_paused = true)]
async fn b123_without_a_limit_attempts_never_stop_and_the_next_is_visible() {
    let log = Log::new();
    log.commit(vec![Row::update(1, "poison")]);
    let sink = failing_at_one();
    let (engine, status, _) = engine(&log, vec![sink_spec("a", &sink)], &Arc::default(), MIB);
    let sink_status = &status.slots.list()[0].sinks.list()[0];
    let start = Instant::now();
    let (mut seen, mut longest) = (0, Duration::ZERO);
    run_until(engine, || {
        let failed = sink_status.failed.get();
        if failed > seen {
            seen = failed;
            let remaining = sink_status.next_retry.remaining();
            longest = longest.max(remaining.expect("it is tried again"));
        }
        start.elapsed() > Duration::from_secs(3_500)
    })
    .await;
    assert!((8..60).contains(&seen), "{seen} attempts in an hour, up to ten minutes apart");
    assert!(
        longest > Duration::from_secs(60) && longest <= Duration::from_secs(600),
        "{longest:?}"
    );
}

/// The store is away when letters and progress are to be kept, the source when values are to be
/// fetched: the message waits, and none of that is an attempt.
#[tokio::test(start_paused = true)]
async fn b124_where_nothing_was_tried_nothing_is_counted() {
    let log = Log::new();
    log.commit(vec![Row::unsent(1), Row::update(2, "sent")]);
    let table = Table::new([(1, Some("found"))]);
    table.fail(20);
    let store = Arc::<Store>::default();
    let sink = Recording::willing();
    let spec = SinkSpec {
        attempts_max: Some(1),
        lookup: Some(Arc::<Table>::clone(&table)),
        ..sink_spec("a", &sink)
    };
    let (engine, status, _) = engine(&log, vec![spec], &store, MIB);
    let sink_status = &status.slots.list()[0].sinks.list()[0];
    let (mut waited, start) = (false, Instant::now());
    run_until(engine, || {
        let waits = sink_status.waiting.get().is_some();
        if waits {
            assert_eq!((sink_status.attempts.get(), sink_status.failed.get()), (0, 0));
        }
        waited |= waits;
        store.set_away(waits && start.elapsed() > Duration::from_secs(1));
        log.settled()
    })
    .await;
    assert!(waited, "it had to");
    assert_eq!((sink.len(), store.letters().len()), (2, 0));
    assert_eq!((sink_status.attempts.get(), sink_status.failed.get()), (2, 0));
}

/// A message that got through only behind one that failed is sent again, which is no failure of its
/// own: when it then fails for the first time, it has another attempt.
#[tokio::test(start_paused = true)]
async fn b124_a_message_that_rode_behind_a_failed_one_has_not_failed() {
    let log = Log::new();
    log.commit((0..3).map(|n| Row::update(1, n)).collect());
    let mut requests = 0;
    let sink = Recording::new(Grouping::Together, 10, move |_| {
        requests += 1;
        // The first message fails in the first request, and the second in the second.
        let later = Retry::Later { after: None };
        let rejected = if requests <= 2 { vec![(requests - 1, later)] } else { vec![] };
        Answer { rejected, ..Answer::default() }
    });
    let spec = SinkSpec { attempts_max: Some(2), ..sink_spec("a", &sink) };
    let store = Arc::<Store>::default();
    let (engine, status, _) = engine(&log, vec![spec], &store, MIB);
    run_until(engine, || log.settled()).await;
    assert_eq!(
        (store.letters().len(), status.slots.list()[0].sinks.list()[0].failed.get()),
        (0, 2)
    );
}

/// It becomes the first of its group in the moment in which it fails: it waits all the same.
#[tokio::test(start_paused = true)]
async fn b119_a_message_that_failed_behind_a_delivered_one_waits_as_long_as_it_was_told() {
    let log = Log::new();
    log.commit((0..3).map(|n| Row::update(1, n)).collect());
    let requests = Arc::<Mutex<Vec<Instant>>>::default();
    let times = Arc::clone(&requests);
    let sink = Recording::new(Grouping::Together, 10, move |_| {
        let mut times = times.lock().unwrap();
        times.push(Instant::now());
        let later = Retry::Later { after: Some(Duration::from_secs(60)) };
        let rejected = if times.len() == 1 { vec![(1, later)] } else { vec![] };
        Answer { rejected, ..Answer::default() }
    });
    let (engine, _, _) = engine(&log, vec![sink_spec("a", &sink)], &Arc::default(), MIB);
    run_until(engine, || log.settled()).await;
    let requests = requests.lock().unwrap();
    assert_eq!(requests.len(), 2);
    assert!(requests[1] - requests[0] >= Duration::from_secs(60), "{requests:?}");
}

/// A sink that is down altogether: each of its messages fails by itself, at the same time.
#[tokio::test(start_paused = true)]
async fn b123_the_next_attempt_of_a_sink_that_is_down_is_visible() {
    let log = Log::new();
    log.commit((0..5).map(|n| Row::update(n, n)).collect());
    let sink =
        Recording::new(Grouping::Apart, 10, |_| Answer { error: refusal(), ..Answer::default() });
    let (engine, status, _) = engine(&log, vec![sink_spec("a", &sink)], &Arc::default(), MIB);
    let next = &status.slots.list()[0].sinks.list()[0].next_retry;
    run_until(engine, || next.remaining().is_some_and(|left| left > Duration::from_secs(30))).await;
    assert_eq!(sink.len(), 0);
}
