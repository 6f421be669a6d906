//! Requests that are refused as a whole, and messages that no request can hold.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::batch::Grouping;
use model::sink::{Failure, Retry, SinkError};

use crate::fake::log::{Log, Row};
use crate::fake::sink::{Answer, Recording};
use crate::fake::store::Store;
use crate::fake::{engine, run_until, sink_spec};
use crate::spec::SinkSpec;

const MIB: usize = 1 << 20;

fn never(text: &str) -> SinkError {
    SinkError { message: text.to_owned(), retry: Retry::Never, failure: Failure::Refused }
}

/// Two poisons among a hundred, of one row or of many: each is found within a few requests.
#[tokio::test(start_paused = true)]
async fn b122_b131_a_refused_batch_is_halved_until_the_poison_is_alone() {
    for (rows, grouping) in
        [(1, Grouping::Together), (100, Grouping::Together), (100, Grouping::Apart)]
    {
        for error in [never("400"), SinkError::too_large("413"), SinkError::later("409")] {
            let log = Log::new();
            log.commit((0..100).map(|n| Row::update(n % rows, n)).collect());
            let given = error.clone();
            let times = Arc::new(Mutex::new(0));
            let count = Arc::clone(&times);
            let sink = Recording::new(grouping, 100, move |batch| {
                let is_poison = |payload: &str| {
                    payload.contains("\"value\":\"41\"") || payload.contains("\"value\":\"97\"")
                };
                let refused = batch.messages().iter().any(|message| is_poison(&message.payload));
                *count.lock().unwrap() += u64::from(refused);
                let error = refused.then(|| given.clone());
                Answer { error, ..Answer::default() }
            });
            let store = Arc::<Store>::default();
            let spec = SinkSpec { attempts_max: Some(2), ..sink_spec("a", &sink) };
            let (engine, status, _) = engine(&log, vec![spec], &store, MIB);
            run_until(engine, || log.settled()).await;
            let mut letters = store.letters();
            letters.sort_by_key(|letter| letter.position);
            let [first, second] = &letters[..] else { panic!("{rows} {error}: {letters:?}") };
            assert!(first.input.contains("\"41\"") && second.input.contains("\"97\""));
            let retried = matches!(error.retry, Retry::Later { .. });
            for letter in [first, second] {
                assert_eq!(letter.attempts, if retried { 2 } else { 1 }, "{error}");
                let reason =
                    if error.failure == Failure::TooLarge { "too_large" } else { "delivery" };
                assert_eq!(letter.reason, reason);
                assert!(letter.error.contains(&error.message), "{}", letter.error);
            }
            assert_eq!(sink.len(), 98, "each of the others once");
            if rows == 1 {
                let positions: Vec<_> =
                    sink.received().iter().map(|message| message.position).collect();
                assert!(positions.is_sorted(), "in order");
            }
            // Seven halvings for each, and the second attempts of those that are alone.
            let times = *times.lock().unwrap();
            assert!((9..=18).contains(&times), "{times} refusals");
            assert_eq!(status.slots.list()[0].sinks.list()[0].breaker.get(), None);
        }
    }
}

/// One of a row that has more to say: only it is put aside, and no request ever held it.
#[tokio::test(start_paused = true)]
async fn b104_b105_what_is_larger_than_the_sink_takes_is_put_aside_and_never_sent() {
    let log = Log::new();
    for n in 0..20 {
        log.commit(vec![Row::update(1, if n == 7 { "9".repeat(5_000) } else { n.to_string() })]);
    }
    let sink = Recording::new(Grouping::Together, 10, |batch| {
        assert!(batch.messages().iter().all(|message| message.payload.len() <= 4_000));
        Answer { after: Duration::from_millis(3), ..Answer::default() }
    });
    let sink = sink.bounded(4_000);
    let store = Arc::<Store>::default();
    let (engine, status, _) = engine(&log, vec![sink_spec("a", &sink)], &store, MIB);
    run_until(engine, || log.settled()).await;
    let letters = store.letters();
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((&*letter.reason, letter.attempts), ("too_large", 0));
    assert!(letter.error.contains("takes 4000 at the most"), "{}", letter.error);
    assert!(letter.input.len() > 5_000, "the whole message");
    assert_eq!(sink.len(), 19);
    assert_eq!(status.slots.list()[0].sinks.list()[0].failed.get(), 0);
}
